"""Run methods under hard limits, where the kernel kills what exceeds them: who lives, who is killed.

    python benchmarks/measure_limits.py                    about 2 minutes of processor time
    python benchmarks/render_results.py

Writes benchmarks/results/limits.json: what `ecotta-bench --memory --enforce LIMIT` reports for each of `RUNS`. It takes
root, or a systemd session that lets users make control groups. One thread; torch as the bench runs it by default.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ecotta_rt.files.atomic import write_atomic

RESULTS = Path(__file__).parent / "results" / "limits.json"

RUNS: tuple[dict[str, str], ...] = (
    {
        "enforce": "512MB",
        "engine": "torch",
        "batch": "64",
        "normalisation": "batch",
        "methods": "source,bn,tent,cotta,ecotta-k4,ecotta-k4-constant",
    },
    {"enforce": "512MB", "engine": "onnx", "batch": "64", "normalisation": "batch", "methods": "source,ecotta-k4"},
    {
        "enforce": "raspberry-pi-zero-2w",
        "engine": "torch",
        "batch": "1",
        "normalisation": "running",
        "methods": "source,ecotta-k4",
    },
    {
        "enforce": "raspberry-pi-zero-2w",
        "engine": "onnx",
        "batch": "1",
        "normalisation": "running",
        "methods": "source,ecotta-k4",
    },
)
KILLED = 3  # the exit code where the first method without a result was killed at the limit


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=128, help="frames a corruption (128)")
    parser.add_argument("--corruptions", default="fog,contrast", help="which (fog,contrast)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    runs = []
    for run in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "report.json"
            command = ["ecotta-bench", "--memory", "--threads", "1", "--frames", str(args.frames)]
            command += ["--corruptions", args.corruptions, "--json", str(written)]
            command += [word for name, value in run.items() for word in (f"--{name}", value)]
            print(" ".join(command), flush=True)
            code = subprocess.run([Path(sys.executable).parent / command[0], *command[1:]]).returncode
            if code not in (0, KILLED):
                return code
            runs.append({"options": run, "report": json.loads(written.read_text(encoding="utf-8"))})
    write_atomic(args.out, (json.dumps({"measured": "limits", "runs": runs}, indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
