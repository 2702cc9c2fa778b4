"""Measure what the steps of the budget cases take: the peaks that plans are compared with.

    python benchmarks/export_cases.py
    python benchmarks/measure_budgets.py                      everything that is not in the file yet
    python benchmarks/measure_budgets.py wrn-40-2 --again

Each row is a fresh process without torch, see `budget_process.py`: what it has after its imports, the most it had while
loading, the most it had while it ran some steps on random frames. Written to benchmarks/results/budgets/measured.json
after every row, so it can be interrupted; a row is measured again when its graph, onnxruntime or the processor is
another one. ResNet-50 with 64 frames comes last; it takes gigabytes, and is left out where they are not free.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecotta_rt.bench.child import child_environment
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bundle import GraphEntry, Manifest, read_bundle
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.machine.this_machine import available_memory_bytes
from ecotta_rt.options import MEMORY_KINDS, OPTIMISATIONS, TRACKED, SessionOptions

HERE = Path(__file__).parent
CASES = HERE / "bundles" / "cases"
RESULTS = HERE / "results" / "budgets" / "measured.json"
PROCESS = HERE / "budget_process.py"
NETWORKS = ("wrn-40-2", "efficientnet-lite0", "wrn-28-10", "resnet-50")
MODES = ("running", "batch")
MORE_THREADS = {("wrn-40-2", "step-1"): (2, 4)}
SPARE_BYTES = 2 << 30
"""Left to the rest of the machine."""


@dataclass(frozen=True)
class Use:
    """One way to run a bundle.

    Attributes:
        graph: The graph that does the work.
        batch: Frames a step.
        frame_by_frame, fast, adapt: As for `Runtime`.
    """

    graph: str
    batch: int
    frame_by_frame: bool = False
    fast: bool = False
    adapt: bool = True


USES = (
    Use("predict-1", 1, adapt=False),  # where statistics do not follow the frames
    Use("observe-1", 1, adapt=False),  # where they do
    Use("step-1", 1),
    Use("step-1-fast", 1, fast=True),
    Use("accumulate", 64, frame_by_frame=True),
    Use("step-64", 64),
    Use("step-64-fast", 64, fast=True),
)


@dataclass(frozen=True)
class Run:
    """One row to measure."""

    network: str
    normalisation: str
    use: Use
    options: SessionOptions

    @property
    def path(self) -> Path:
        return CASES / f"{self.network}.{self.normalisation}.ecotta"

    @property
    def name(self) -> str:
        options = self.options
        words = (options.optimisation, options.memory, f"{options.threads} threads")
        return f"{self.network}, {self.normalisation}, {self.use.graph}, {', '.join(words)}"

    @property
    def steps(self) -> int:
        if self.use.batch == 1:
            return 6
        if self.network == "wrn-40-2":
            return 3
        return 1 if self.use.frame_by_frame else 2  # 64 runs of two graphs already


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], help="which (default: all)")
    parser.add_argument("--normalisation", nargs="*", choices=MODES, default=list(MODES))
    parser.add_argument("--graphs", nargs="*", choices=[use.graph for use in USES], help="which (default: all)")
    parser.add_argument("--again", action="store_true", help="measure what is in the file already, too")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    environment = json.loads(json.dumps(asdict(read_environment(1))))
    rows = read_rows(args.out, environment)
    for run in sorted(wanted_runs(args), key=cost):
        entry = entry_of(run)
        if entry is None:
            continue
        if not args.again and rows.get(run.name, {}).get("graph_sha256") == entry.sha256:
            continue
        row = measure(run, entry)
        if row is not None:
            rows[run.name] = row
            write_rows(args.out, environment, rows)
    return 0


def wanted_runs(args: argparse.Namespace) -> Iterator[Run]:
    for network in args.networks or NETWORKS:
        for mode in args.normalisation:
            for use in USES:
                follows = mode in TRACKED
                if use.graph == ("predict-1" if follows else "observe-1"):
                    continue
                if args.graphs and use.graph not in args.graphs:
                    continue
                for options in options_of(network, use):
                    yield Run(network, mode, use, options)


def options_of(network: str, use: Use) -> Iterator[SessionOptions]:
    for threads in (1, *MORE_THREADS.get((network, use.graph), ())):
        for optimisation in OPTIMISATIONS:
            for memory in MEMORY_KINDS:
                yield SessionOptions(threads, optimisation, memory)


def cost(run: Run) -> tuple[int, ...]:
    """What is measured first: quick runs, then the default session options, then the smaller networks."""
    quick = run.network == "wrn-40-2" or run.use.batch == 1
    usual = run.options == SessionOptions(run.options.threads)
    return (0,) if quick else (1, not usual, run.use.batch * (1 + run.use.frame_by_frame), NETWORKS.index(run.network))


def manifest_of(run: Run) -> Manifest | None:
    try:
        return read_bundle(run.path, verify=False).manifest
    except InputFileError as error:
        print(f"{run.name}: left out: {error}", file=sys.stderr, flush=True)
        return None


def entry_of(run: Run) -> GraphEntry | None:
    """The graph in the bundle; None where there is none."""
    manifest = manifest_of(run)
    return None if manifest is None else manifest.graph(run.use.graph)


def measure(run: Run, entry: GraphEntry) -> dict[str, Any] | None:
    need_bytes = 2 * entry.step_peak_bytes + 4 * run.path.stat().st_size + SPARE_BYTES
    available_bytes = available_memory_bytes()
    if available_bytes < need_bytes:
        print(f"{run.name}: left out: {available_bytes >> 20} MiB free, and it may take {need_bytes >> 20}", flush=True)
        return None
    wanted = {key: value for key, value in asdict(run.use).items() if key != "graph"}
    order = {"path": str(run.path), "steps": run.steps, "wanted": wanted, "options": asdict(run.options)}
    command = [sys.executable, str(PROCESS), json.dumps(order)]
    environment = child_environment(run.options.threads, "libc")
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{run.name}: failed with {done.returncode}: {done.stderr.strip()[-500:]}", file=sys.stderr, flush=True)
        return None
    found = json.loads(done.stdout)
    parts = " ".join(f"{key} {found[f'{key}_bytes'] / 2**20:.1f}" for key in ("baseline", "load_peak", "run_peak"))
    print(f"{run.name}: {parts} MiB, {found['slowest_step_s']} s", flush=True)
    return {
        "network": run.network,
        "normalisation": run.normalisation,
        **asdict(run.use),
        "session_options": run.options.as_json(),
        "graph_sha256": entry.sha256,
        "step_peak_bytes": entry.step_peak_bytes,
        **found,
    }


def read_rows(path: Path, environment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What an earlier call measured, where it was on this processor with these versions."""
    if not path.exists():
        return {}
    report = json.loads(path.read_text(encoding="utf-8"))
    same = all(report["environment"][key] == environment[key] for key in ("cpu", "versions"))
    return {row["name"]: row for row in report["rows"]} if same else {}


def write_rows(path: Path, environment: dict[str, Any], rows: dict[str, dict[str, Any]]) -> None:
    named = [{"name": name, **row} for name, row in rows.items()]
    report = {"measured": "budgets", "environment": environment, "rows": named}
    write_atomic(path, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
