"""From the start of a process to its first adapted frame: what a device needs until it works after a restart.

    python benchmarks/export_networks.py wrn-40-2-fashion-mnist
    python benchmarks/measure_start.py             one minute; writes benchmarks/results/start.json

Each start is a fresh process without torch that imports `ecotta_rt`, loads a bundle, and answers and learns from one
batch, which passes the gate. The clock runs outside: from before the process is made until its line has come. Files are
in the page cache, as after a restart of the daemon; after one of the machine, reading them comes on top. The ways take
turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from confident_frames import confident_batch
from ecotta_rt.bench.child import child_environment
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.files.atomic import write_atomic

HERE = Path(__file__).parent
BUNDLES = HERE / "bundles"

PROCESS = """
import sys, time
started_s = time.perf_counter()
import numpy as np
from ecotta_rt import Runtime
imported_s = time.perf_counter()
runtime = Runtime.load(sys.argv[1], fast=sys.argv[2] == "fast")
loaded_s = time.perf_counter()
prediction = runtime(np.load(sys.argv[3]))
stepped_s = time.perf_counter()
assert prediction.adapted, prediction.why
print(imported_s - started_s, loaded_s - imported_s, stepped_s - loaded_s, flush=True)
"""

WAYS = {
    "running, 1 frame": ("running", "plain", 1),
    "running, 1 frame, fast": ("running", "fast", 1),
    "source, 1 frame": ("source", "plain", 1),
    "batch, 64 frames": ("batch", "plain", 64),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="wrn-40-2-fashion-mnist.ecotta-k4", help="name in benchmarks/bundles")
    parser.add_argument("--turns", type=int, default=10, help="starts of each way (10)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "start.json")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        commands = {way: command(args.network, *WAYS[way], Path(folder) / f"{i}.npy") for i, way in enumerate(WAYS)}
        turns = [{way: started(commands[way]) for way in WAYS} for _ in range(args.turns)]
    rows = [summary(way, [turn[way] for turn in turns]) for way in WAYS]
    for row in rows:
        print(f"{row['way']}: median {row['median_s']} s, slowest {row['slowest_s']} s, of {row['starts']}")
    report = {"measured": "start", "environment": asdict(read_environment(1)), "network": args.network, "rows": rows}
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def command(network: str, normalisation: str, kind: str, batch: int, frames: Path) -> list[str]:
    path = BUNDLES / f"{network}.{normalisation}.ecotta"
    np.save(frames, confident_batch(path, batch))
    return [sys.executable, "-c", PROCESS, str(path), kind, str(frames)]


def started(command: list[str]) -> dict[str, float]:
    environment = child_environment(1, "libc")
    begin_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        whole_s = time.perf_counter() - begin_s
    if process.returncode or not line:
        raise SystemExit(f"{command[3]}: the process ended with {process.returncode}")
    imports_s, load_s, step_s = map(float, line.split())
    return {"whole_s": whole_s, "imports_s": imports_s, "load_s": load_s, "step_s": step_s}


def summary(way: str, found: list[dict[str, float]]) -> dict[str, Any]:
    """`interpreter_s` is what the process took before our first line."""
    middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
    interpreter_s = statistics.median(
        one["whole_s"] - one["imports_s"] - one["load_s"] - one["step_s"] for one in found
    )
    return {
        "way": way,
        "starts": len(found),
        "median_s": round(middle["whole_s"], 3),
        "slowest_s": round(max(one["whole_s"] for one in found), 3),
        "interpreter_s": round(interpreter_s, 3),
        **{key: round(middle[key], 3) for key in ("imports_s", "load_s", "step_s")},
    }


if __name__ == "__main__":
    sys.exit(main())
