"""Set planned, verified and measured peaks beside each other, for every way to run the budget cases.

    python benchmarks/export_cases.py
    python benchmarks/measure_budgets.py
    python benchmarks/compare_budgets.py       some minutes, mostly of onnxruntime optimising graphs
    python benchmarks/render_results.py

Reads benchmarks/results/budgets/measured.json and writes benchmarks/results/budgets.json. The plan is
`ecotta_rt.plan.budget`'s, the verification `tests/oracle`'s; they share no code. Exit code 1 when a plan is
below what was measured, or more than 15 % above it.
"""

import argparse
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ecotta_rt.bundle import Bundle, Manifest, read_bundle
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.machine.device import load_device
from ecotta_rt.plan.budget import Plan, Wish, alternatives
from ecotta_rt.plan.figures import with_figures

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from oracle.process import measure_start  # noqa: E402
from oracle.verify import verify  # noqa: E402

CASES = HERE / "bundles" / "cases"
MEASURED = HERE / "results" / "budgets" / "measured.json"
RESULTS = HERE / "results" / "budgets.json"
MOST_ABOVE = 1.15


@cache
def opened(network: str, normalisation: str) -> tuple[Bundle, Manifest]:
    bundle = read_bundle(CASES / f"{network}.{normalisation}.ecotta", verify=False)
    return bundle, with_figures(bundle)


process_start = cache(measure_start)


def planned(row: dict[str, Any], manifest: Manifest) -> Plan:
    """The plan for the very way that was measured."""
    options = row["session_options"]
    board = replace(load_device("this-machine"), cores=options["threads"])  # threads may exceed them, as when measured
    wish = Wish(batch=row["batch"], adapt=row["adapt"], threads=options["threads"])
    return next(
        way
        for way in alternatives(manifest, board, wish)
        if way.graphs[0] == row["graph"]
        and (way.optimisation, way.memory) == (options["optimisation"], options["memory"])
    )


def compared(row: dict[str, Any]) -> dict[str, Any]:
    bundle, manifest = opened(row["network"], row["normalisation"])
    options = row["session_options"]
    way = planned(row, manifest)
    verified = verify(
        bundle,
        row["graph"],
        frames=row["batch"],
        optimisation=options["optimisation"],
        memory=options["memory"],
        start=process_start(),
    )
    keys = ("network", "normalisation", "graph", "batch", "frame_by_frame", "fast", "session_options")
    return {
        **{key: row[key] for key in keys},
        "planned_bytes": way.peak_bytes,
        "planned_parts": {part.name: part.bytes for part in way.parts},
        "verified_bytes": verified.peak_bytes,
        "measured_bytes": row["peak_bytes"],
        "measured_load_bytes": row["load_peak_bytes"],
        "measured_run_bytes": row["run_peak_bytes"],
        "planned_to_measured": way.peak_bytes / row["peak_bytes"],
        "verified_to_measured": verified.peak_bytes / row["peak_bytes"],
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    measured = json.loads(MEASURED.read_text())
    rows = []
    for row in measured["rows"]:
        rows.append(compared(row))
        last = rows[-1]
        sizes = ", ".join(f"{what} {last[f'{what}_bytes'] / 2**20:.0f}" for what in ("planned", "verified", "measured"))
        wrong = "" if 1 <= last["planned_to_measured"] <= MOST_ABOVE else "  <- outside 1.00 to 1.15"
        print(f"{row['name']}: {sizes} MiB, {last['planned_to_measured']:.3f}{wrong}", flush=True)
    content = {"schema": 1, "measured": "budgets", "environment": measured["environment"], "rows": rows}
    write_atomic(RESULTS, (json.dumps(content, indent=2) + "\n").encode())
    return int(any(not 1 <= row["planned_to_measured"] <= MOST_ABOVE for row in rows))


if __name__ == "__main__":
    sys.exit(main())
