"""Measure the guard: how soon a limit lowered at run time is met, what that frees, and how long the way back takes.

    python benchmarks/export_networks.py wrn-40-2-fashion-mnist
    python benchmarks/measure_guard.py

Writes benchmarks/results/guard.json. Each row is a process of its own that never imports torch: a stream without a
pause through the loop, the guard and its watch as `ecotta run` has them, one thread. The limit is lowered by another
thread in the middle of a step, so what is left of that step is in the time to the step down. What is told apart is how
far it is lowered: to a size that fits without the graph that learns, or so far that frames are answered one by one.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "guard.json"
BUNDLES = Path(__file__).parent / "bundles"

MIB = 2**20
ROWS = {
    "1-running": {"normalisation": "running", "batch": 1},
    "64-running": {"normalisation": "running", "batch": 64},
    "64-running-far": {"normalisation": "running", "batch": 64, "share": 0.4},
    "64-running-frame-by-frame": {"normalisation": "running", "batch": 64, "frame_by_frame": True},
    "64-batch": {"normalisation": "batch", "batch": 64},
    "64-batch-returning": {"normalisation": "batch", "batch": 64, "memory": "returning"},
}
"""`share`: of the memory held when the limit is lowered, the new limit."""

DEFAULT_SHARE = 0.95
BATCHES_BEFORE, BATCHES_DOWN = 6, 4


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)  # what each child runs
    parser.add_argument("--network", default="wrn-40-2-fashion-mnist.ecotta-k4")
    parser.add_argument("--repeats", type=int, default=3, help="processes a row (3)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if args.row:
        print(json.dumps(measure(args.row, args.network)))
        return 0
    from ecotta_rt.bench.environment import read_environment

    rows = []
    for name in ROWS:
        command = [sys.executable, __file__, "--network", args.network, "--row", name]
        runs = [json.loads(subprocess.check_output(command, text=True)) for _ in range(args.repeats)]
        rows.append({"name": name, **ROWS[name], "runs": runs})
        print(name, json.dumps(runs[0]), flush=True)
    environment = vars(read_environment(threads=1))
    args.out.write_text(
        json.dumps({"environment": environment, "network": args.network, "rows": rows}, indent=2) + "\n"
    )
    return 0


class Stream:
    """Frames without end, as fast as they are taken, until it is closed."""

    dropped = 0

    def __init__(self, size: tuple[int, int]) -> None:
        self._pixels = np.random.default_rng(0).integers(0, 255, (64, *size, 3)).astype(np.uint8)
        self._open = True
        self.given = 0

    def __iter__(self) -> Any:
        from ecotta_rt.records import Frame

        while self._open:
            self.given += 1
            yield Frame(self._pixels[self.given % 64], self.given - 1, time.monotonic())

    def close(self) -> None:
        self._open = False


def measure(name: str, network: str) -> dict[str, Any]:
    from ecotta_rt.events import Answer, BatchAnswered, GuardStep
    from ecotta_rt.machine.process_memory import held_memory
    from ecotta_rt.machine.vitals import VitalsReader
    from ecotta_rt.options import SessionOptions
    from ecotta_rt.records import Level
    from ecotta_rt.runtime.engine import Runtime
    from ecotta_rt.runtime.guard import Guard
    from ecotta_rt.runtime.guard_policy import GuardPolicy
    from ecotta_rt.runtime.loop import Loop
    from ecotta_rt.runtime.repeating import repeating
    from ecotta_rt.sinks.tally import Tally

    row = ROWS[name]
    runtime = Runtime.load(
        BUNDLES / f"{network}.{row['normalisation']}.ecotta",
        batch=row["batch"],
        frame_by_frame=row.get("frame_by_frame", False),
        options=SessionOptions(memory=row.get("memory", "arena")),
    )
    limit: list[int | None] = [None]
    found: dict[str, Any] = {"steps": []}
    batch_s: list[float] = []
    moment = {"lowered": 0.0, "batch": time.monotonic(), "level": 0.0}
    parameters_before: dict[str, Any] = {}
    batches = {"before": 0, "down": 0}

    def lower() -> None:
        held = held_memory().pss_bytes
        found["held_before_mib"] = held / MIB
        limit[0] = int(held * row.get("share", DEFAULT_SHARE))
        found["limit_mib"] = limit[0] / MIB
        moment["lowered"] = time.monotonic()

    set_level = runtime.set_level

    def timed(level: Level) -> None:
        """The engine's own, with the clock beside it and the memory once graphs are closed and opened."""
        parameters_before.setdefault("kept", {name: array.copy() for name, array in runtime.state.parameters.items()})
        start_s = time.monotonic()
        set_level(level)
        now_s = time.monotonic()
        step = {"level": str(level), "took_s": now_s - start_s, "held_mib": held_memory().pss_bytes / MIB}
        if not found["steps"]:
            found["lowered_to_stepped_down_s"] = now_s - moment["lowered"]
            kept = parameters_before["kept"].items()
            found["parameters_kept"] = all((runtime.state.parameters[name] == array).all() for name, array in kept)
        found["steps"].append(step)

    runtime.set_level = timed  # type: ignore[method-assign]

    def after_batch() -> None:
        now_s = time.monotonic()
        batch_s.append(now_s - moment["batch"])
        moment["batch"] = now_s
        if runtime.level == Level.FULL and not found["steps"]:
            batches["before"] += 1
            if batches["before"] == BATCHES_BEFORE:
                found["step_s"] = float(np.median(batch_s[1:]))
                threading.Timer(found["step_s"] / 2, lower).start()
        elif not runtime.level.learns:
            batches["down"] += 1
            if batches["down"] == BATCHES_DOWN:
                found["held_down_mib"] = held_memory().pss_bytes / MIB
                found["level_down"] = str(runtime.level)
                limit[0] = None
        elif runtime.level == Level.FULL:
            found["held_after_mib"] = held_memory().pss_bytes / MIB
            loop.stop()

    policy = GuardPolicy(limit_bytes=lambda: limit[0], most_temperature_c=None, dwell_s=1.0)
    stream, tally = Stream(runtime.frame_size), Tally()
    loop = Loop(stream, runtime, guard=Guard(policy, VitalsReader()))
    left = 0  # answers to come of the batch at hand
    with repeating(loop.check_memory, policy.check_every_s):
        for event in loop:
            tally.take(event)
            if isinstance(event, GuardStep) and event.why not in ("limit", "recovered"):
                raise SystemExit(f"the machine itself is short of something: {event}")
            left = event.frames if isinstance(event, BatchAnswered) else left - isinstance(event, Answer)
            if isinstance(event, Answer) and not left:
                after_batch()
    found["frames_given"], found["frames_answered"] = stream.given, tally.frames
    found["frames_dropped"] = tally.dropped
    return found


if __name__ == "__main__":
    sys.exit(main())
