"""Two sets of runs of `ecotta-bench --memory`: each way to run the step on a device, and methods under hard limits.

    python benchmarks/export_networks.py wrn-40-2-fashion-mnist
    python benchmarks/measure_runs.py device               about 8 minutes on a quiet machine
    python benchmarks/measure_runs.py limits               about 2 minutes of processor time
    python benchmarks/render_results.py

`device` writes benchmarks/results/device-engine/NAME.json for each run: every row is a process of its own that never
imports torch; its time, peaks and error come from one run with one set of session options. `limits` writes
benchmarks/results/limits.json: where the kernel kills what exceeds a limit, who lives and who is killed. That takes
root, or a systemd session that lets users make control groups. One thread; torch as the bench runs it by default.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ecotta_rt.files.atomic import write_atomic

RESULTS = Path(__file__).parent / "results"

DEVICE = {
    "1-running": "--batch 1 --normalisation running --methods source,ecotta-k4-warmed,ecotta-k4",
    "2-running-fast": "--batch 1 --normalisation running --methods ecotta-k4 --fast",
    "3-source": "--batch 1 --normalisation source --methods ecotta-k4",
    "4-source-fast": "--batch 1 --normalisation source --methods ecotta-k4 --fast",
    "5-running-frame-by-frame": "--batch 64 --normalisation running --methods ecotta-k4 --frame-by-frame",
    "6-batch": "--batch 64 --normalisation batch --methods ecotta-k4",
    "6b-batch-fast": "--batch 64 --normalisation batch --methods ecotta-k4 --fast",
    "7-batch-returning": "--batch 64 --normalisation batch --methods ecotta-k4 --memory-kind returning",
    "8-constant": "--batch 64 --normalisation batch --gradient constant --methods ecotta-k4",
    "9-constant-returning": "--batch 64 --normalisation batch --gradient constant --methods ecotta-k4"
    " --memory-kind returning",
}

LIMITS = (
    "--enforce 512MB --engine torch --batch 64 --normalisation batch"
    " --methods source,bn,tent,cotta,ecotta-k4,ecotta-k4-constant",
    "--enforce 512MB --engine onnx --batch 64 --normalisation batch --methods source,ecotta-k4",
    "--enforce raspberry-pi-zero-2w --engine torch --batch 1 --normalisation running --methods source,ecotta-k4",
    "--enforce raspberry-pi-zero-2w --engine onnx --batch 1 --normalisation running --methods source,ecotta-k4",
)
KILLED = 3  # the exit code where the first method without a result was killed at the limit


def bench(frames: int, options: str, written: Path) -> int:
    words = f"--memory --threads 1 --frames {frames} {options} --json {written}".split()
    print("ecotta-bench", *words, flush=True)
    return subprocess.run([Path(sys.executable).parent / "ecotta-bench", *words]).returncode


def measure_device(frames: int, out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    codes = (bench(frames, f"--engine onnx {options}", out / f"{name}.json") for name, options in DEVICE.items())
    return next(filter(None, codes), 0)


def measure_limits(frames: int, out: Path) -> int:
    runs = []
    for options in LIMITS:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "report.json"
            code = bench(frames, f"--corruptions fog,contrast {options}", written)
            if code not in (0, KILLED):
                return code
            report = json.loads(written.read_text(encoding="utf-8"))
        words = options.split()
        named = {option.removeprefix("--"): value for option, value in zip(words[::2], words[1::2], strict=True)}
        runs.append({"options": named, "report": report})
    write_atomic(out, (json.dumps({"measured": "limits", "runs": runs}, indent=2) + "\n").encode())
    return 0


SETS = {"device": (measure_device, "device-engine"), "limits": (measure_limits, "limits.json")}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--frames", type=int, default=128, help="frames a corruption (128)")
    parser.add_argument("--out", type=Path, help="folder or file to write (in benchmarks/results)")
    args = parser.parse_args(argv)
    measure, place = SETS[args.set]
    return measure(args.frames, args.out or RESULTS / place)


if __name__ == "__main__":
    sys.exit(main())
