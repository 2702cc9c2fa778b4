"""Run a bundle over a stream: every frame is answered, and the network adapts to the stream as it goes.

SOURCE is one of
  FOLDER                                a folder of pictures, in natural order (also a single picture)
  FILM                                  a video file; every frame, or at its own rate with --realtime
  /dev/video0                           a camera of this machine
  rtsp://HOST/PATH                      a camera on the network
  http://HOST/PATH                      one that sends JPEG pictures (MJPEG), or one picture, asked for each second
  replay:FOLDER[:CORRUPTION[:SEVERITY]] CIFAR-10-C or CIFAR-10 files, whose classes are known
  picamera:                             the ribbon camera of a Raspberry Pi, through picamera2
  watch:FOLDER                          new pictures in a folder, as they arrive
  -                                     standard input: what `ffmpeg ... -f image2pipe -vcodec ppm -` writes
  synthetic:NAME                        a camera that is none, to try things: coloured shapes in changing weather

The statistics of its norms follow the stream, and answers are filtered by the frames around them; where the bundle or
--learning says so, it learns by gradients, too. A line has both answers, filtered and unfiltered.

Each frame gives one JSON line: its answer, or why it was refused. Cameras drop the frames that the network has no time
for; files wait. What was learned is kept in a file beside the bundle and taken up by the next run; one run at a time
has that file. Ctrl-C, SIGTERM and SIGHUP end the run after the batch in progress, with the state saved; a batch that
takes longer than 2 seconds more is answered and not learned from. A second Ctrl-C or SIGTERM ends
the run at once.

A guard watches memory (this process's, its control group's, the machine's), temperature and throttling, and does with
less before the kernel kills: full -> sparse (learns less often) -> statistics (learns no more) -> inference (the state
is held) -> drop (new frames are dropped, and counted). It goes up again when there is room. Each step is a JSON line of
its own, with "event": "guard", and a line on stderr.

examples:
  ecotta run net.ecotta pictures/
  ecotta run net.ecotta /dev/video0 --adapt-every 4 --out answers.jsonl
  ecotta run net.ecotta rtsp://user:secret@192.168.1.20/stream1 --state front-door.safetensors
  ecotta run net.ecotta replay:CIFAR-10-C:fog:5 --fresh --limit 1000
  ecotta run net.ecotta film.mp4 --realtime --no-adapt
  ecotta run net.ecotta pictures/ --answer unfiltered                 pictures that have nothing to do with each other
  ecotta run net.ecotta /dev/video0 --learning on --adapt-every 4
  ecotta run net.ecotta pictures/ --batch 16 --frame-by-frame
  ecotta run net.ecotta /dev/video0 --device raspberry-pi-zero-2w     its default limit
  ecotta run net.ecotta /dev/video0 --memory-limit 150MiB --max-temperature 70

exit codes: as `ecotta --help`; 4 also where all frames were refused; a run ended by SIGTERM or SIGHUP exits with 0, by
Ctrl-C with 130, by a reader of standard output that has gone with 74 and no message. In each case the state is saved.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.parser import MOST_FRAMES, batch_size, integer, integer_up_to, thread_count
from ecotta_rt.cli.signals import ENDING, ended_by_signals, stopped_by_signals
from ecotta_rt.errors import EXIT_INTERRUPTED
from ecotta_rt.files.sizes import byte_size
from ecotta_rt.fleet.folder import STATE_SUFFIX
from ecotta_rt.messages import tell
from ecotta_rt.options import ANSWERS
from ecotta_rt.run.options import RunOptions

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime
    from ecotta_rt.sinks.tally import Tally

__all__ = ["NAME", "add_arguments", "run"]

NAME = "run"

_ANSWERS_GRACE_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path, help="an exported network (.ecotta)")
    add("source", metavar="SOURCE", help="where frames come from, see above")
    add("--out", metavar="FILE", help="write the JSON lines to FILE, replacing it, or to a pipe (stdout)")
    add("--limit", metavar="N", type=integer_up_to(MOST_FRAMES), help="end after N frames")
    add("--realtime", action="store_true", help="play a film at its own rate, dropping what comes too fast")
    add("--stretch", action="store_true", help="squeeze frames into shape (default: as the bundle says)")
    add(
        "--answer",
        choices=ANSWERS,
        help="what `label` and `correct` say: the network's own answer to a frame, or the one that is filtered by the "
        "frames around it, for streams that stay with a class for a while (default: as the bundle says); each line has "
        "both",
    )
    add(
        "--views",
        metavar="N",
        type=int,
        choices=(1, 2),
        help="2: average the answers to each frame and its mirror image, where mirroring keeps the class; one more "
        "forward pass (default: as the bundle says)",
    )
    group = parser.add_argument_group("learning")
    learning = group.add_mutually_exclusive_group()
    learning.add_argument("--adapt-every", metavar="N", type=integer, default=1, help="learn from every N-th batch (1)")
    learning.add_argument(
        "--no-adapt",
        action="store_true",
        help="learn nothing and save nothing; in running normalisation the statistics still follow the stream",
    )
    add = group.add_argument
    add(
        "--learning",
        choices=("off", "on"),
        help="learn by gradients from each batch that is due, or never (default: as the bundle says); statistics "
        "follow the stream and answers are filtered in any case",
    )
    add("--batch", metavar="N", type=batch_size, help="frames a step (default: the fewest the bundle has a graph for)")
    add(
        "--frame-by-frame",
        action="store_true",
        help="run the N frames of a step one after the other: any N, in the memory of one frame (default N: 1)",
    )
    add("--fast", action="store_true", help="less time for more memory a step, where the bundle has a graph for it")
    state = parser.add_argument_group("state")
    add = state.add_mutually_exclusive_group().add_argument
    add("--state", metavar="FILE", type=Path, help=f"what was learned (default: BUNDLE with suffix {STATE_SUFFIX})")
    add("--no-state", action="store_true", help="do not read or save a state")
    add = state.add_argument
    add("--fresh", action="store_true", help="start from the bundle's own state; the saved one is replaced")
    add("--save-every", metavar="SECONDS", type=float, default=60.0, help="save while it learns (default 60)")
    add = parser.add_argument_group("machine").add_argument
    add("--device", metavar="ID", help="keep to this device's limits: see ecotta devices")
    add("--threads", metavar="N", type=thread_count, help="threads of the network")
    add("--memory-limit", metavar="SIZE", help="what this process may have, as 200MiB (default: the device's limit)")
    add("--max-temperature", metavar="C", type=float, help="do less above this, in degrees Celsius (default 80)")
    add(
        "--trial",
        choices=("first", "always", "off"),
        default=os.environ.get("ECOTTA_TRIAL", "first"),
        help="make one step in a process of its own before the run, so that a bundle that would end it or hang is "
        "found out: when it is new on this machine (first), at each start, or never; ECOTTA_TRIAL sets the default",
    )
    add("--guard", choices=("on", "off"), default="on", help="off: neither memory nor temperature is watched")


def run(args: argparse.Namespace) -> int:
    """Answer the stream."""
    from ecotta_rt.cli.progress import StreamProgress
    from ecotta_rt.machine.clock import SystemClock
    from ecotta_rt.run.assembly import opened
    from ecotta_rt.run.outcome import require_answers

    values = {field.name: getattr(args, field.name) for field in fields(RunOptions) if hasattr(args, field.name)}
    options = RunOptions(**values, memory_limit_bytes=byte_size(args.memory_limit))

    def progress(tally: "Tally") -> StreamProgress:
        return StreamProgress(tally, SystemClock(), answers_on_screen=args.out is None and sys.stdout.isatty())

    received: list[int] = []
    say = lambda text: tell("ecotta run", text)  # noqa: E731
    with (
        opened(options, say, lambda: bool(received), progress) as ready,
        stopped_by_signals(ready.loop.stop, received),
        ended_by_signals(ENDING, _giving_up(ready.engine)),
    ):
        ready.play()
    require_answers(ready.tally, stopped=bool(received))
    return EXIT_INTERRUPTED if signal.SIGINT in received else 0


def _giving_up(runtime: "Runtime") -> "Callable[[float], None]":
    """Learning is given up first: its frames are answered all the same, in a third of the time."""
    return lambda waited_s: runtime.interrupt(answers=waited_s > _ANSWERS_GRACE_S)
