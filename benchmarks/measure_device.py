"""Measure the device engine: one `ecotta-bench --memory --engine onnx` for each way to run the step.

    python benchmarks/export_networks.py wrn-40-2-fashion-mnist
    python benchmarks/measure_device.py                    about 8 minutes on a quiet machine
    python benchmarks/render_results.py

Writes benchmarks/results/device-engine/*.json. Every row is a process of its own that never imports torch; its time,
peaks and error come from one run with one set of session options. One thread.
"""

import argparse
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "device-engine"

RUNS = {
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", choices=[*RUNS, []], help="which (default: all)")
    parser.add_argument("--frames", type=int, default=128, help="frames a corruption (128)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.runs or RUNS:
        command = ["ecotta-bench", "--memory", "--engine", "onnx", "--threads", "1", "--frames", str(args.frames)]
        command += [*RUNS[name].split(), "--json", str(args.out / f"{name}.json")]
        print(" ".join(command), flush=True)
        code = subprocess.run([Path(sys.executable).parent / command[0], *command[1:]]).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
