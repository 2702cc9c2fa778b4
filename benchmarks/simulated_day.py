r"""A day of a daemon by a clock that nobody waits for: cameras and outputs come and go, and what is left behind?

    ecotta prepare resnet-20 --checkpoint resnet20.th --data $ECOTTA_DATA/cifar-10-batches-bin --frames 20000 \
        --epochs 2 --out small
    python benchmarks/simulated_day.py small.ecotta

24 hours by the clock, 10,000 losses of four made-up cameras, 1,000 failures of two outputs, and 100 times the
configuration is read again, each time with another option, another source and another output, and each tenth time with
a fault. Written to benchmarks/results/soak-day.json. Some minutes. The real time beside it: measure_soak.py.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import psutil

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.daemon.configuration.config import Config, Output
from ecotta_rt.daemon.configuration.tables import CameraOptions, LogOptions, NetworkOptions, StateOptions
from ecotta_rt.daemon.daemon import Daemon
from ecotta_rt.daemon.log import Log
from ecotta_rt.errors import ConfigurationError
from ecotta_rt.events import Answer, Event, Reloaded, SinkFailed, SourceLost, Stamped
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.sinks import kinds
from ecotta_rt.sinks.kinds import SinkKind, SinkOptions

__all__ = ["CAMERAS", "Day", "Goals", "Held", "lived"]

MIB = 2**20
CAMERAS = ("door", "yard", "gate", "hall")
EVENTS_A_SINK = 10  # then it fails
PATIENCE_S = 10
TURN_S = 1e-4


@dataclass(frozen=True)
class Goals:
    """What has to happen before the day is over."""

    seconds: float = 86_400.0
    losses: int = 10_000
    failures: int = 1_000
    reloads: int = 100
    looks: int = 20


@dataclass(frozen=True)
class Held:
    """What the process holds."""

    threads: int
    descriptors: int
    pss_mib: float


def held() -> Held:
    gc.collect()
    pss_mib = round(psutil.Process().memory_full_info().pss / MIB, 2)
    return Held(threading.active_count(), len(os.listdir("/proc/self/fd")), pss_mib)


class Hurried:
    """Time jumps to when somebody wakes who sleeps; others who sleep meanwhile have slept as long."""

    def __init__(self) -> None:
        self._now_s, self._lock = 0.0, Lock()

    def now_s(self) -> float:
        return self._now_s

    def sleep_s(self, seconds: float) -> None:
        until_s = self._now_s + max(0.0, seconds)
        time.sleep(TURN_S)  # the others have theirs
        with self._lock:
            self._now_s = max(self._now_s, until_s)


@dataclass(frozen=True)
class FlakyOptions(SinkOptions):
    turn: int = 0


class Flaky:
    """Takes some events, and then its disk is full."""

    def __init__(self, seen: Counter[str]) -> None:
        self._seen, self._left = seen, EVENTS_A_SINK

    def take(self, event: Event) -> None:
        self._left -= 1
        if self._left < 0:
            self._seen["failures"] += 1
            raise OSError("no space left on device")

    def close(self) -> None:
        pass


class Day:
    """Hears all that happens, has the configuration read again as time goes by, and ends the daemon after it.

    Attributes:
        seen: How often what happened.
        held: What the process held at several times of the day.
    """

    def __init__(self, goals: Goals) -> None:
        self.goals, self.clock = goals, Hurried()
        self.seen: Counter[str] = Counter()
        self.held: list[Held] = []
        self.daemon: Daemon | None = None

    def take(self, stamped: Stamped) -> None:
        kinds = {"losses": SourceLost, "answers": Answer, "failures told": SinkFailed, "reloads": Reloaded}
        for name, kind in kinds.items():
            self.seen[name] += isinstance(stamped.event, kind)
        if threading.current_thread() is not threading.main_thread() or self.daemon is None:
            return  # an output tells something
        share = self.share()
        if share >= (self.seen["asked"] + 1) / (self.goals.reloads + 1):
            self.seen["asked"] += 1
            self.daemon.reload()
        if share >= (len(self.held) + 1) / (self.goals.looks + 1):
            self.held.append(held())
        if share >= 1:
            self.daemon.stop()

    def share(self) -> float:
        """How much of the day is over: the least of what has to happen in it."""
        losses, failures = self.seen["losses"] / self.goals.losses, self.seen["failures"] / self.goals.failures
        return min(self.clock.now_s() / self.goals.seconds, losses, failures)

    def growth_mib(self) -> float:
        """Mean of the later half of the day less that of the earlier one, its first moments left out."""
        sizes = [one.pss_mib for one in self.held[1:]]
        half = len(sizes) // 2
        return round(sum(sizes[half:]) / len(sizes[half:]) - sum(sizes[:half]) / half, 2)


def lived(bundle: Path, state: Path, goals: Goals) -> tuple[Day, Held, Held]:
    """Let a daemon live for a day; also what was held before and after it."""
    day = Day(goals)
    first = Config(
        NetworkOptions(str(bundle), threads=1),
        tuple(CameraOptions(name, source(name, 0), max_age_s=3600) for name in CAMERAS),
        StateOptions(str(state), every_s=3600),
        tuple(Output("flaky", name, FlakyOptions(name)) for name in ("a", "b")),
        log=LogOptions(level="error"),
    )
    before = held()
    with flaky_kind(day.seen):
        read_again = lambda: changed(first, day.seen["asked"])  # noqa: E731
        day.daemon = Daemon(first, [day], log=Log(first.log), clock=day.clock, read_again=read_again)
        day.daemon.run()
    day.daemon = None  # and with it the network
    return day, before, after_the_last_thread(before.threads)


@contextmanager
def flaky_kind(seen: Counter[str]) -> Iterator[None]:
    """In here there is a kind of output that the package has not."""
    module = ModuleType("ecotta_rt.sinks.flaky")
    vars(module)["KIND"] = SinkKind("flaky", FlakyOptions, lambda options, name, context: Flaky(seen))
    sys.modules[module.__name__], kinds._MODULES["flaky"] = module, "flaky"
    try:
        yield
    finally:
        del sys.modules[module.__name__], kinds._MODULES["flaky"]


def source(name: str, seed: int) -> str:
    """A frame in four seconds, and lost after eight of them."""
    return f"synthetic:{name}?fps=0.25&size=8x8&lose=8&seed={seed}"


def changed(config: Config, turn: int) -> Config:
    """Each time a camera has other options, one another source, and an output is new; now and then it is refused."""
    if turn % 10 == 9:
        raise ConfigurationError("ecotta.toml, line 3: nonsense")
    door, yard, *others = config.cameras
    cameras = (replace(door, top=turn % 3), replace(yard, source=source("yard", turn)), *others)
    return replace(config, cameras=cameras, sinks=(config.sinks[0], Output("flaky", "b", FlakyOptions("b", turn=turn))))


def after_the_last_thread(count: int) -> Held:
    """What is held when the threads that were told to end have ended."""
    end_s = time.monotonic() + PATIENCE_S
    while threading.active_count() > count and time.monotonic() < end_s:
        time.sleep(0.01)
    return held()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "soak-day.json")
    args = parser.parse_args(argv)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        day, before, after = lived(args.bundle, Path(folder) / "state", Goals())
    report: dict[str, Any] = {
        "measured": "simulated day",
        "about": {
            "bundle": args.bundle.name,
            "sha256": sha256_of(args.bundle),
            "environment": asdict(read_environment(1)),
        },
        "hours": round(day.clock.now_s() / 3600, 2),
        "real_minutes": round((time.monotonic() - begun_s) / 60, 1),
        "seen": dict(day.seen),
        "pss_mib_growth": day.growth_mib(),
        "before": asdict(before),
        "during": [asdict(one) for one in day.held],
        "after": asdict(after),
    }
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    print(args.out.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
