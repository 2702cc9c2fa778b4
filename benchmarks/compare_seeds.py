"""Compare methods over several seeds of one stream, seed by seed.

    for seed in 0 1 2; do
        ecotta-bench --memory --data $ECOTTA_DATA/cifar-10-batches-bin --frames 1000 --seed $seed --json seed-$seed.json
    done
    python benchmarks/compare_seeds.py seed-*.json

Each file is one run of `ecotta-bench --memory --json FILE`. All runs must be of the same stream, model, batch and
options; only the seed may differ. EcoTTA with another step size or lambda counts as another method. The methods of one
seed may come from several runs; times are then not compared: a machine is not always as fast. A method that one of them
lacks is left out, and named. The difference to the reference is taken within each seed and then averaged: what a seed
makes easy or hard for everybody cancels out. The corruption that comes last tells who has drifted by then.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from ecotta_rt.bench.adaptation import ADAPTATION

WORDS = {"lr": "step size", "l1_weight": "lambda"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--reference", default="ecotta-k4", help="that the others are compared with, as in the table")
    args = parser.parse_args(argv)
    try:
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in args.runs]
        complaint = unlike(args.runs, runs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        complaint = f"not all of these are written by ecotta-bench --memory --json: {error!r}"
    if complaint:
        print(f"compare_seeds: error: {complaint}", file=sys.stderr)
        return 2
    print("\n".join(table(runs, args.reference)))
    return 0


def unlike(paths: list[Path], runs: list[dict[str, Any]]) -> str | None:
    """Why these runs cannot be compared; None where they can."""

    def identity(run: dict[str, Any]) -> Any:
        stream = {key: value for key, value in run["stream"].items() if key != "seed"}
        # A drawn order is another one for each seed, and the same corruptions all the same.
        return {**stream, "corruptions": sorted(stream["corruptions"])}, run["model"]["digest"]

    settings: dict[str, Any] = {}
    beside: dict[str, str] = {}
    for path, run in zip(paths, runs, strict=True):
        if identity(run) != identity(runs[0]):
            return f"{path} is of another stream or model than {paths[0]}"
        for row in run["rows"]:
            setting = row["engine"], row["batch"], row["normalisation"], row["session_options"]
            if setting != settings.setdefault(variant(row), setting):
                return f"{path} ran {variant(row)} with another batch or other options than the runs before it"
        # Runs of before the digests were recorded have none.
        for kind, digest in run.get("beside", {}).items():
            if digest != beside.setdefault(kind, digest):
                return f"{path} started from another file of {kind} than the runs before it"
    rows = [(run["stream"]["seed"], variant(row)) for run in runs for row in run["rows"]]
    twice = next((row for row in rows if rows.count(row) > 1), None)
    return f"{twice[1]} with seed {twice[0]} is there twice" if twice else None


def variant(row: dict[str, Any]) -> str:
    """The method, and what its step had otherwise than it usually has."""
    chosen = {name: row["session_options"].get(name, ADAPTATION[name]) for name in WORDS}
    unusual = [f"{WORDS[name]} {value:g}" for name, value in chosen.items() if value != ADAPTATION[name]]
    return ", ".join([row["method"], *unusual])


def table(runs: list[dict[str, Any]], reference: str) -> list[str]:
    """What was run, and a line for each method; in Markdown."""
    by_seed: dict[int, dict[str, Any]] = {}
    for run in runs:
        times = {variant(row): row["ms_per_frame"] for row in run["rows"]}
        rows = {variant(row): {**row, "tent_ms": times.get("tent")} for row in run["rows"]}
        by_seed.setdefault(run["stream"]["seed"], {}).update(rows)
    methods = [m for m in next(iter(by_seed.values())) if all(m in rows for rows in by_seed.values())]
    partly = sorted({m for rows in by_seed.values() for m in rows} - set(methods))
    seeds = ", ".join(str(seed) for seed in sorted(by_seed))
    stream = runs[0]["stream"]
    size = f"{len(stream['corruptions'])} corruptions x {stream['frames']} frames a run"
    in_order = all(run["stream"]["corruptions"] == stream["corruptions"] for run in runs)
    last = stream["corruptions"][-1] if in_order else None
    counted = f"seed{'s' * (len(by_seed) > 1)} {seeds}"
    lines = [f"{counted}; {stream['name']}, {size}; {runs[0]['model']['name']}", ""]
    lines += [f"left out, not in every run: {', '.join(partly)}", ""] if partly else []
    columns = ["method", "error %, mean", "by seed"]
    columns += [f"minus {reference}'s, mean", "by seed"] if reference in methods else []
    columns += [f"{last} %"] if last else []
    columns += ["activations MiB"]
    timed = any(row["tent_ms"] for rows in by_seed.values() for name, row in rows.items() if name != "tent")
    columns += ["x TENT's time"] if timed else []
    lines += [f"| {' | '.join(columns)} |", "| --- " + "| ---: " * (len(columns) - 1) + "|"]
    for method in methods:
        rows = [by_seed[seed][method] for seed in sorted(by_seed)]
        errors = [row["error_percent"] for row in rows]
        cells = [method, f"{statistics.mean(errors):.2f}", _listed(errors)]
        if reference in methods:
            gaps = [
                row["error_percent"] - by_seed[s][reference]["error_percent"]
                for s, row in zip(sorted(by_seed), rows, strict=True)
            ]
            cells += [f"{statistics.mean(gaps):+.2f}", _listed(gaps, "+")]
        if last:
            cells.append(f"{statistics.mean(row['errors'][last] for row in rows):.1f}")
        cells.append(f"{max(row['activation_bytes'] for row in rows) / 2**20:.1f}")
        if timed:
            ratios = [row["ms_per_frame"] / row["tent_ms"] for row in rows if row["tent_ms"]]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _listed(values: list[float], sign: str = "") -> str:
    return " ".join(f"{value:{sign}.2f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
