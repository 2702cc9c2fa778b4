"""Run a bundle over a stream: every frame is answered, and the network learns from the stream as it goes.

SOURCE is one of
  FOLDER                                a folder of pictures, in natural order (also a single picture)
  FILM                                  a video file; every frame, or at its own rate with --realtime
  /dev/video0                           a camera of this machine
  rtsp://HOST/PATH                      a camera on the network
  replay:FOLDER[:CORRUPTION[:SEVERITY]] CIFAR-10-C or CIFAR-10 files, whose classes are known

Each frame gives one JSON line: its answer, or why it was refused. Cameras drop the frames that the network has no time
for; files wait. What was learned is kept in a file beside the bundle and taken up by the next run; one run at a time
has that file. Ctrl-C, SIGTERM and SIGHUP end the run after the batch in progress, with the state saved; a batch that
takes longer than 2 seconds more is answered and not learned from. A second one ends the run at once, but for SIGHUP.

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
  ecotta run net.ecotta pictures/ --batch 16 --frame-by-frame
  ecotta run net.ecotta /dev/video0 --device raspberry-pi-zero-2w     its default limit
  ecotta run net.ecotta /dev/video0 --memory-limit 150MiB --max-temperature 70

exit codes: as `ecotta --help`; a run ended by SIGTERM or SIGHUP exits with 0, by Ctrl-C with 130, by a reader of its
answers that has gone with 74 and no message. In each case the state is saved.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from os.path import realpath  # Path.resolve calls a circle of links a RuntimeError
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.numbers import MOST_FRAMES, batch_size, integer, integer_up_to, thread_count
from ecotta_rt.cli.signal_watch import SignalWatch
from ecotta_rt.errors import EXIT_INTERRUPTED, BudgetExceeded, InputFileError, UsageError
from ecotta_rt.files.atomic import check_target
from ecotta_rt.files.lock import locked
from ecotta_rt.files.output import check_output
from ecotta_rt.messages import own_output, tell

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime
    from ecotta_rt.runtime.guard import Guard
    from ecotta_rt.runtime.loop import Loop
    from ecotta_rt.sinks.json_lines import JsonLines
    from ecotta_rt.sinks.state_keeper import StateKeeper

__all__ = ["NAME", "add_arguments", "run"]

NAME = "run"

_ANSWERS_GRACE_S = 10.0
_STATE_SUFFIX = ".state.safetensors"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path, help="an exported network (.ecotta)")
    add("source", metavar="SOURCE", help="where frames come from, see above")
    add("--out", metavar="FILE", type=Path, help="write the JSON lines to FILE, replacing it, or to a pipe (stdout)")
    add("--limit", metavar="N", type=integer_up_to(MOST_FRAMES), help="end after N frames")
    add("--realtime", action="store_true", help="play a film at its own rate, dropping what comes too fast")
    add("--stretch", action="store_true", help="squeeze frames into shape (default: as the bundle says)")
    group = parser.add_argument_group("learning")
    learning = group.add_mutually_exclusive_group()
    learning.add_argument("--adapt-every", metavar="N", type=integer, default=1, help="learn from each N-th batch (1)")
    learning.add_argument(
        "--no-adapt",
        action="store_true",
        help="answer only; in running normalisation the statistics still follow the stream",
    )
    group.add_argument(
        "--batch",
        metavar="N",
        type=batch_size,
        help="frames a step (default: the fewest that the bundle has a graph for)",
    )
    group.add_argument(
        "--frame-by-frame",
        action="store_true",
        help="run the N frames of a step one after the other: any N, in the memory of one frame (default N: 1)",
    )
    group.add_argument(
        "--fast", action="store_true", help="less time for more memory a step, where the bundle has a graph for it"
    )
    state = parser.add_argument_group("state")
    add = state.add_mutually_exclusive_group().add_argument
    add("--state", metavar="FILE", type=Path, help=f"what was learned (default: BUNDLE with suffix {_STATE_SUFFIX})")
    add("--no-state", action="store_true", help="neither read nor save one")
    add = state.add_argument
    add("--fresh", action="store_true", help="start from the bundle's own state; the saved one is replaced")
    add("--save-every", metavar="SECONDS", type=float, default=60.0, help="save while it learns (default 60)")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", metavar="ID", help="keep to this device's limits: see ecotta devices")
    machine.add_argument("--threads", metavar="N", type=thread_count, help="threads of the network")
    machine.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="what this process may have, such as 200MiB (default: the device's limit)",
    )
    machine.add_argument(
        "--max-temperature", metavar="C", type=float, help="do less above so many degrees Celsius (default 80)"
    )
    machine.add_argument(
        "--trial",
        choices=("first", "always", "off"),
        default=os.environ.get("ECOTTA_TRIAL", "first"),
        help="make one step in a process of its own before the run, so that a bundle that would end it or hang is "
        "found out: when it is new on this machine (first), at each start, or never; ECOTTA_TRIAL sets the default",
    )
    machine.add_argument(
        "--guard", choices=("on", "off"), default="on", help="off: neither memory nor temperature is watched"
    )


def run(args: argparse.Namespace) -> int:
    """Answer the stream."""
    from ecotta_rt.cli.least_memory import require_answers
    from ecotta_rt.cli.stream_progress import StreamProgress
    from ecotta_rt.machine.clock import SystemClock
    from ecotta_rt.runtime.loop import Loop, LoopOptions
    from ecotta_rt.sources.opening import open_source

    options = LoopOptions(_adapt_every(args), args.limit, "stretch" if args.stretch else None)
    _check_numbers(args)
    _check_paths(args)
    guard = _guard(args)
    with _state_locked(args):
        runtime = _load(args)
        keeper = _keeper(args, runtime)
        source = open_source(args.source, classes=len(runtime.class_names) or None, realtime=args.realtime)
        if left_out := getattr(source, "left_out", None):
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
            tell("ecotta run", f"{args.source}: not read, since they are no pictures: {kinds}")
        progress = StreamProgress(SystemClock(), answers_on_screen=args.out is None and sys.stdout.isatty())
        listeners = [progress.after_batch, *([keeper.after_batch] if keeper else [])]
        received: list[int] = []
        with _sink(args.out, lambda: bool(received)) as sink:
            loop = Loop(source, runtime, sink, options, after_batch=listeners, guard=guard, on_step=progress.show_step)
            with _stopped_by_signals(loop, received), SignalWatch(_ENDING, _giving_up(runtime)):
                try:
                    with progress, _watched(loop, guard):
                        loop.run()
                finally:
                    _end(loop, keeper)
    require_answers(loop.tally, progress.last_step)
    return EXIT_INTERRUPTED if signal.SIGINT in received else 0


def _end(loop: "Loop", keeper: "StateKeeper | None") -> None:
    """Save first, tell after: whoever listens may be gone, and what was learned must not go with him."""
    try:
        if keeper:
            keeper.save(loop.tally)
    finally:
        tell("ecotta run", str(loop.tally))


def _adapt_every(args: argparse.Namespace) -> int:
    if args.no_adapt:
        return 0
    if args.adapt_every < 1:
        raise UsageError(f"--adapt-every {args.adapt_every}: give 1 or more; --no-adapt never learns")
    return int(args.adapt_every)


def _check_numbers(args: argparse.Namespace) -> None:
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads {args.threads}: give 1 or more")
    if args.batch is not None and args.batch < 1:
        raise UsageError(f"--batch {args.batch}: give 1 or more")
    if not args.save_every > 0:
        raise UsageError(f"--save-every {args.save_every:g}: give seconds above 0; --no-state never saves")


def _check_paths(args: argparse.Namespace) -> None:
    """Find out before the first frame what could not be written after the last."""
    if not args.bundle.exists():
        raise InputFileError(f"{args.bundle}: no such file; expected a bundle (.ecotta)")
    if args.bundle.is_dir():
        raise InputFileError(f"{args.bundle}: this is a folder; expected a bundle (.ecotta)")
    state = None if args.no_state else _state_path(args)
    for option, path in {"--out": args.out, "--state": state}.items():
        if path is not None and realpath(path) == realpath(args.bundle):
            raise UsageError(f"{option} {path} would replace the bundle; name another file")
    if args.out is not None and state is not None and realpath(args.out) == realpath(state):
        raise UsageError(f"--out {args.out} is the file of the state; name another")
    if args.out is not None:
        check_output("--out", args.out, args.source)
    if state is not None and _learns(args):
        check_target(state)


def _learns(args: argparse.Namespace) -> bool:
    """Whether a state will be written; one that is only read may lie where nobody can write."""
    return not (args.no_state or args.no_adapt)


def _state_locked(args: argparse.Namespace) -> AbstractContextManager[None]:
    return locked(_state_path(args)) if _learns(args) else nullcontext()


def _load(args: argparse.Namespace) -> "Runtime":
    ways = {
        "batch": args.batch,
        "frame_by_frame": args.frame_by_frame,
        "fast": args.fast,
        "adapt": not args.no_adapt,
        "device": args.device,
        "threads": args.threads,
        "memory_limit_bytes": _memory_limit_bytes(args),
    }
    if args.trial != "off":
        _try(args, ways)  # before this process has loaded anything itself
    from ecotta_rt.runtime.engine import Runtime

    return Runtime.load(args.bundle, **ways)


def _try(args: argparse.Namespace, ways: dict[str, Any]) -> None:
    """See that a bundle which is new here can be run; that it lacks memory is for the guard."""
    from ecotta_rt.runtime.trial import try_bundle
    from ecotta_rt.runtime.tried import try_once

    try:
        (try_bundle if args.trial == "always" else try_once)(args.bundle, ways)
    except BudgetExceeded as error:
        if args.guard == "off":
            raise
        _warn(str(error))


def _memory_limit_bytes(args: argparse.Namespace) -> int | None:
    from ecotta_rt.cli.byte_size import parse_byte_size
    from ecotta_rt.machine.device import load_device

    if args.memory_limit is not None:
        return parse_byte_size(args.memory_limit)
    return load_device(args.device).default_limit_bytes if args.device else None


def _guard(args: argparse.Namespace) -> "Guard | None":
    from ecotta_rt.cli.least_memory import require_room
    from ecotta_rt.machine.vitals import VitalsReader
    from ecotta_rt.runtime.guard import Guard, GuardPolicy

    if args.guard == "off":
        if args.memory_limit is not None or args.max_temperature is not None:
            raise UsageError(
                "--memory-limit and --max-temperature are for the guard; leave out either them or --guard off"
            )
        return None
    limit_bytes = _memory_limit_bytes(args)
    require_room(limit_bytes)
    policy = GuardPolicy(limit_bytes=lambda: limit_bytes)
    if args.max_temperature is not None:
        policy = replace(policy, most_temperature_c=args.max_temperature)
    return Guard(policy, VitalsReader())


def _watched(loop: "Loop", guard: "Guard | None") -> AbstractContextManager[object]:
    from ecotta_rt.runtime.watch import Watch

    return nullcontext() if guard is None else Watch(loop.consult, guard.policy.check_every_s)


def _keeper(args: argparse.Namespace, runtime: "Runtime") -> "StateKeeper | None":
    from ecotta_rt.sinks.state_keeper import StateKeeper

    if args.no_state:
        return None
    path = _state_path(args)
    keeper = StateKeeper(path, runtime, args.save_every, _warn)
    if not args.fresh and keeper.take_up():
        tell("ecotta run", f"going on from {path}")
    return keeper


def _state_path(args: argparse.Namespace) -> Path:
    path: Path = args.state or args.bundle.with_suffix(_STATE_SUFFIX)
    return path


def _warn(message: str) -> None:
    tell("ecotta run", f"warning: {message}")


def _sink(out: Path | None, stopping: Callable[[], bool]) -> AbstractContextManager["JsonLines"]:
    from ecotta_rt.sinks.json_lines import json_lines_file

    return _standard_output(stopping) if out is None else json_lines_file(out, stopping)


@contextmanager
def _standard_output(stopping: Callable[[], bool]) -> Iterator["JsonLines"]:
    from ecotta_rt.sinks.json_lines import JsonLines

    with own_output() as file:
        yield JsonLines(file, stopping=stopping)


def _giving_up(runtime: "Runtime") -> "Callable[[float], None]":
    """Learning is given up first: its frames are answered all the same, in a third of the time."""
    return lambda waited_s: runtime.interrupt(answers=waited_s > _ANSWERS_GRACE_S)


@contextmanager
def _stopped_by_signals(loop: "Loop", received: list[int]) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP stop `loop` and stand in `received`. A second one does what it always did.

    Not SIGHUP: of a terminal that goes both the shell and the kernel tell, and what was learned is still to be saved.
    One that the run was started to ignore is ignored: SIGHUP below nohup, SIGINT in the background of a script.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()
        if signal.SIGHUP in before:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        loop.stop()

    def restore() -> None:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)

    heard = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        restore()
