"""Gather what scripts/arm64-smoke found into one result file; the script calls this."""

import argparse
import json
from pathlib import Path
from typing import Any

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.digest import sha256

SCHEMA = 1


def main() -> None:
    """Read the arguments, gather, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="with differences.json and a folder for each of arm64 and native")
    parser.add_argument("result", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--fact", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    args = parser.parse_args()
    content = {
        "schema": SCHEMA,
        "environment": environment(),
        "bundle": {"name": args.bundle.name, "sha256": sha256(args.bundle.read_bytes()).hexdigest()},
        "facts": {name: int(value) if value.isdecimal() else value for name, value in args.fact},
        **read(args.work / "differences.json"),
        "arm64": side(args.work / "arm64"),
        "native": side(args.work / "native"),
    }
    write_atomic(args.result, (json.dumps(content, indent=2) + "\n").encode())


def environment() -> dict[str, object]:
    """The machine that emulated."""
    found = read_environment(threads=1)
    return {"cpu": found.cpu, "cores": found.cores, "versions": dict(found.versions), "commit": found.commit}


def side(folder: Path) -> dict[str, Any]:
    """What one of the two machines said; the emulated one has been to the doctor too."""
    doctor = folder / "doctor.json"
    machine = read(folder / "machine.json")
    if doctor.is_file():
        # With the emulator and the code it translated: no figure of a board.
        machine["emulated_process_peak_bytes"] = machine.pop("process_peak_bytes")
        machine["emulated_load_s"], machine["emulated_run_s"] = machine.pop("load_s"), machine.pop("run_s")
    return {
        **machine,
        **({"doctor": read(doctor)} if doctor.is_file() else {}),
        "graphs": read(folder / "graphs" / "operators.json"),
    }


def read(path: Path) -> dict[str, Any]:
    """A JSON file of ours."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    main()
