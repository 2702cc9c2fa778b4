"""What the daemon costs beside the network: time a frame, age under overload, memory, and the time to its first answer.

    python benchmarks/measure_daemon.py NET.ecotta                  some minutes; writes benchmarks/results/daemon.json
    python benchmarks/measure_daemon.py NET.ecotta --parts latency  one part; the others stay as they are

Parts, one thread of the network:

    latency      a frame through the daemon (desk, stream, signs, events, JSON lines into a file) against resizing and
                 the step alone, taking turns: ten frames a second, and frames without a pause
    overload     one camera, then four, of which each sends five times what the network can answer: how old a frame is
                 when its answer is there, in steps
    isolation    two cameras at 5 frames a second, alone and beside one that hangs in a read, one that comes and goes,
                 and one without a pause
    memory       what a process holds with one film, two films, and one with MQTT and metrics, after 15 seconds
    start        from the start of the process to its first line
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.daemon.configuration.config import Config, Output
from ecotta_rt.daemon.configuration.tables import CameraOptions, LogOptions, NetworkOptions, StateOptions
from ecotta_rt.daemon.daemon import Daemon
from ecotta_rt.events import Answer, Stamped
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.machine.proc import PROC, sizes
from ecotta_rt.records import Frame
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.sinks.kinds import sink_kind
from ecotta_rt.sources.opening import Opened

PARTS = ("latency", "overload", "isolation", "memory", "start")
MIB = 2**20
PICTURE = (480, 640, 3)
FILM_S, FILM_FPS = 120, 2


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--turns", type=int, default=5, help="of latency and start (5)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "daemon.json")
    args = parser.parse_args(argv)
    made: dict[str, Callable[[], Any]] = {
        "latency": lambda: latency(args.bundle, args.turns),
        "overload": lambda: [overload(args.bundle, cameras) for cameras in (1, 4)],
        "isolation": lambda: isolation(args.bundle),
        "memory": lambda: memory(args.bundle),
        "start": lambda: start(args.bundle, 2 * args.turns),
    }
    results = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    results = {"measured": "daemon", "environment": asdict(read_environment(1)), "networks": {}} | results
    rows = results["networks"].setdefault(args.bundle.stem, {})
    for part in args.parts:
        rows[part] = {"load": os.getloadavg()[0], "found": made[part]()}
        print(part, json.dumps(rows[part]["found"]))
        write_atomic(args.out, (json.dumps(results, indent=1) + "\n").encode())
    return 0


class Pictures:
    """Frames one after the other, each made before it is asked for."""

    dropped = 0

    def __init__(self, count: int, fps: float = 0.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._shown = [rng.integers(0, 256, PICTURE, np.uint8) for _ in range(8)]
        self._count, self._fps, self._closed = count, fps, threading.Event()

    def __iter__(self) -> Any:
        begun_s = time.monotonic()
        for index in range(self._count):
            if self._fps and self._closed.wait(max(0.0, begun_s + index / self._fps - time.monotonic())):
                return
            if self._closed.is_set():
                return
            yield Frame(self._shown[index % 8], index, time.monotonic(), "picture")

    def close(self) -> None:
        self._closed.set()


class Hanging(Pictures):
    """Gives one frame, and hangs in its second read whatever is asked of it."""

    def __iter__(self) -> Any:
        yield Frame(self._shown[0], 0, time.monotonic(), "picture")
        threading.Event().wait()


class Heard:
    """Keeps when each answer came, by camera, how old its frame was, and how long the thread had worked by then."""

    def __init__(self) -> None:
        self.at_s: dict[str, list[float]] = defaultdict(list)
        self.ages_s: dict[str, list[float]] = defaultdict(list)
        self.worked_s: list[float] = []

    def take(self, stamped: Stamped) -> None:
        if isinstance(stamped.event, Answer):
            self.at_s[stamped.camera or ""].append(time.perf_counter())
            self.ages_s[stamped.camera or ""].append(time.monotonic() - stamped.monotonic_s)
            self.worked_s.append(time.thread_time())


def served(bundle: Path, sources: dict[str, Opened], seconds: float | None = None) -> tuple[Heard, dict[str, Any]]:
    """What came of these cameras; to their end, or for so long."""
    heard = Heard()
    with tempfile.TemporaryDirectory() as folder:
        kind = sink_kind("json-lines")
        sink = Output("json-lines", "lines", kind.options(file=f"{folder}/lines.jsonl"))  # type: ignore[call-arg]
        cameras = tuple(CameraOptions(name, "-") for name in sources)
        config = Config(NetworkOptions(str(bundle)), cameras, StateOptions(folder), (sink,), log=LogOptions("error"))
        daemon = Daemon(config, [heard], sources=sources)
        if seconds is not None:
            threading.Timer(seconds, daemon.stop).start()
        daemon.run()
    counts = {one["name"]: {"dropped": one["dropped"], **one["counts"]} for one in daemon.board.snapshot()["cameras"]}
    return heard, counts


def bare_steps(
    bundle: Path, count: int, fps: float = 0.0, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds that resizing and the step alone take, frame by frame."""
    runtime, found = Runtime.load(bundle), []
    for frame in Pictures(count, fps):
        begun_s = clock()
        runtime(runtime.preprocess(frame.pixels)[None])
        found.append(clock() - begun_s)
    return found[10:]


def latency(bundle: Path, turns: int, count: int = 160, fps: float = 10.0) -> dict[str, Any]:
    """`paced`: from a frame that comes to a waiting daemon to its answer; `without a pause`: from answer to answer.

    `worked`: as the last, in processor time of the thread that answers, which other work on the machine disturbs less.
    """
    bare: dict[str, list[float]] = defaultdict(list)
    daemon: dict[str, list[float]] = defaultdict(list)
    for _ in range(turns):
        bare["paced"] += bare_steps(bundle, count, fps)
        heard, _ = served(bundle, {"door": Opened(Pictures(count, fps), live=True)})
        daemon["paced"] += heard.ages_s["door"][10:]
        bare["without a pause"] += bare_steps(bundle, count)
        bare["worked"] += bare_steps(bundle, count, clock=time.thread_time)
        heard, _ = served(bundle, {"door": Opened(Pictures(2 * count), live=False)})
        daemon["without a pause"] += list(np.diff(heard.at_s["door"][9:]))
        daemon["worked"] += list(np.diff(heard.worked_s[9:]))
    return {
        name: {
            "bare_ms": 1000 * statistics.median(bare[name]),
            "daemon_ms": 1000 * statistics.median(daemon[name]),
            "added_ms": 1000 * (statistics.median(daemon[name]) - statistics.median(bare[name])),
            "added": statistics.median(daemon[name]) / statistics.median(bare[name]) - 1,
            "added_in_the_first_quartile": quartile(daemon[name]) / quartile(bare[name]) - 1,
        }
        for name in bare
    }


def quartile(values: list[float]) -> float:
    """The first: what other work on the machine disturbs least."""
    return statistics.quantiles(values, n=4)[0]


def overload(bundle: Path, cameras: int, seconds: float = 20.0) -> dict[str, float]:
    step_s = statistics.median(bare_steps(bundle, 60))
    sources = {f"camera-{i}": Opened(Pictures(10**9, 5 / step_s, i), live=True) for i in range(cameras)}
    heard, counts = served(bundle, sources, seconds)
    answered = sorted(
        (at_s, age_s) for name in sources for at_s, age_s in zip(heard.at_s[name], heard.ages_s[name], strict=True)
    )[10:]
    turns = np.diff([at_s for at_s, _ in answered])
    ages, turn_s = np.array([age_s for _, age_s in answered[1:]]), float(np.median(turns))
    came = sum(one["frames"] + sum(one["dropped"].values()) for one in counts.values())
    return {
        "cameras": cameras,
        "step_ms": 1000 * step_s,
        "turn_ms": 1000 * turn_s,
        "answered": len(answered),
        "came_for_each_answered": came / len(answered),
        "age_median_turns": float(np.median(ages)) / turn_s,
        "age_99_turns": float(np.quantile(ages, 0.99)) / turn_s,
        "age_most_turns": float(ages.max()) / turn_s,
        "longest_turn_turns": float(turns.max()) / turn_s,
    }


def isolation(bundle: Path, seconds: float = 30.0) -> dict[str, Any]:
    good = lambda: {name: Opened(Pictures(10**9, 5.0), live=True) for name in ("door", "yard")}  # noqa: E731
    others = {
        "hangs": Opened(Hanging(2), live=True),
        "slow": Opened(Pictures(10**9, 0.2), live=True),
        "endless": Opened(Pictures(10**9), live=True),
    }
    found: dict[str, Any] = {}
    for name, more in (
        ("alone", {}),
        ("with a dead and a slow one", {"hangs": others["hangs"], "slow": others["slow"]}),
        ("with one without a pause, too", others),
    ):
        heard, _ = served(bundle, good() | more, seconds)
        found[name] = {
            camera: {"frames": len(heard.at_s[camera]), "age_ms": 1000 * statistics.median(heard.ages_s[camera])}
            for camera in ("door", "yard")
        }
    return found


def film(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FILM_FPS)
        stream.width, stream.height, stream.pix_fmt = PICTURE[1], PICTURE[0], "yuv420p"
        for index in range(FILM_S * FILM_FPS):
            picture = np.full(PICTURE, index % 250, np.uint8)
            picture[100:300, index % 300 : index % 300 + 200] = 250 - index % 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


class Served:
    """`ecotta serve` in a process of its own."""

    def __init__(self, folder: Path, bundle: Path, cameras: int, more: str = "") -> None:
        films = [folder / f"{number}.mkv" for number in range(cameras)]
        for path in films:
            if not path.exists():
                film(path)
        tables = [f'[[camera]]\nname = "camera-{at}"\nsource = "{path}"\n' for at, path in enumerate(films)]
        config = f'config_version = 1\n[network]\nbundle = "{bundle.resolve()}"\n[state]\nfolder = "{folder}/state"\n'
        sink = '[[sink]]\nkind = "json-lines"\n'
        path = folder / "serve.toml"
        path.write_text(config + "".join(tables) + sink + more, encoding="utf-8")
        self.begun_s = time.perf_counter()
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("ecotta"), "serve", path],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "ECOTTA_TRIAL": "off"},
        )

    def first_line_s(self) -> float:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()
        return time.perf_counter() - self.begun_s

    def held(self) -> dict[str, float]:
        rollup = sizes(PROC / str(self.process.pid) / "smaps_rollup")
        return {"pss_mib": rollup["Pss"] / MIB, "rss_mib": rollup["Rss"] / MIB}

    def end(self) -> float:
        begun_s = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate()
        return time.perf_counter() - begun_s


def memory(bundle: Path, after_s: float = 15.0) -> dict[str, Any]:
    """With nobody else on the machine that has the same libraries open, the share (PSS) is all of it (RSS)."""
    doors = '[[sink]]\nkind = "mqtt"\nhost = "127.0.0.1"\n[http]\nenabled = true\nport = 0\n'
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cameras, more in (("one film", 1, ""), ("two films", 2, ""), ("one film, MQTT, metrics", 1, doors)):
            running = Served(Path(folder), bundle, cameras, more)
            running.first_line_s()
            reading = threading.Thread(target=lambda stream=running.process.stdout: list(stream), daemon=True)
            reading.start()
            time.sleep(after_s)
            found[name] = running.held()
            running.process.send_signal(signal.SIGTERM)
            running.process.wait()
            reading.join()
    return found


def start(bundle: Path, turns: int) -> dict[str, float]:
    firsts, ends = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(turns):
            running = Served(Path(folder), bundle, 1)
            firsts.append(running.first_line_s())
            ends.append(running.end())
    return {"first_answer_s": statistics.median(firsts), "longest_s": max(firsts), "end_longest_s": max(ends)}


if __name__ == "__main__":
    sys.exit(main())
