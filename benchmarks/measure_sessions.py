"""What each choice of onnxruntime's session options is worth, and each choice of who holds the weights.

    python benchmarks/export_networks.py wrn-40-2-fashion-mnist
    python benchmarks/measure_sessions.py          about 8 minutes; writes benchmarks/results/sessions.json

Every row changes one option of `ecotta_rt.options.SessionOptions` and is a fresh process without torch, see
`session_process.py`. All rows of a case take turns, in an order that changes with each turn: times are medians over the
turns, and ratios to the row with our options, turn by turn. Peaks are the larger of load and run, medians too. All
frames pass the gate.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from confident_frames import confident_batch
from ecotta_rt.bench.child import child_environment
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.files.atomic import write_atomic

HERE = Path(__file__).parent
BUNDLES = HERE / "bundles"
PROCESS = HERE / "session_process.py"
OURS = "ours"


@dataclass(frozen=True)
class Variant:
    """One way to open sessions.

    Attributes:
        name: In words.
        options: Of `SessionOptions`.
        change: See `session_process.main`.
        copied: Weights as bytes instead of mapped.
        arena_frames: The arena grows as for so many frames, not as for the batch.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    change: dict[str, Any] = field(default_factory=dict)
    copied: bool = False
    arena_frames: int | None = None


@dataclass(frozen=True)
class Case:
    """Graphs that run together.

    Attributes:
        name: In words.
        normalisation: Of the bundle.
        graphs: What is opened; the last is timed.
        batch: Frames a step.
        steps: A process.
        variants: What is compared, ours first.
    """

    name: str
    normalisation: str
    graphs: tuple[str, ...]
    batch: int
    steps: int
    variants: tuple[Variant, ...]


PLAIN = Variant(OURS)
SINGLE = (
    PLAIN,
    Variant("optimisation extended", {"optimisation": "extended"}),
    Variant("memory returning", {"memory": "returning"}),
    Variant("execution order onnxruntime's", change={"execution_order": "DEFAULT"}),
    Variant("memory pattern on", change={"enable_mem_pattern": True}),
    Variant("prepacking on", change={"session.disable_prepacking": "0"}),
    Variant("weights copied, not mapped", copied=True),
    Variant("spinning on", change={"session.intra_op.allow_spinning": "1"}),
)
BY_REQUEST = Variant("arena by request", arena_frames=1)
DOUBLING = Variant("arena doubling", arena_frames=64)
TWO = (
    Variant(OURS, {"threads": 2}),
    Variant("spinning on", {"threads": 2}, {"session.intra_op.allow_spinning": "1"}),
    Variant("1 thread", {"threads": 1}),
)
BOTH = ("observe-1", "step-1")
FUSION = {"optimization.disable_specified_optimizers": ""}
CASES = (
    Case("running, 1 frame", "running", ("step-1",), 1, 40, (*SINGLE, DOUBLING)),
    Case("running, 1 frame, 2 threads", "running", ("step-1",), 1, 40, TWO),
    Case("batch, 64 frames", "batch", ("step-64",), 64, 4, (*SINGLE, BY_REQUEST)),
    Case(
        "batch, 64 frames, extended",
        "batch",
        ("step-64",),
        64,
        4,
        (
            Variant(OURS, {"optimisation": "extended"}),
            Variant("product fusion on", {"optimisation": "extended"}, FUSION),
        ),
    ),
    Case("1 frame, answering alone", "running", ("observe-1",), 1, 40, (PLAIN,)),
    Case("1 frame, answering and learning: two sessions, one weights member", "running", BOTH, 1, 40, (PLAIN,)),
    Case("1 frame, answering and learning: one graph, an If (fast)", "running", ("step-1-fast",), 1, 40, (PLAIN,)),
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="wrn-40-2-fashion-mnist.ecotta-k4", help="name in benchmarks/bundles")
    parser.add_argument("--turns", type=int, default=5, help="processes a row (5)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sessions.json")
    args = parser.parse_args(argv)
    rows = []
    for case in CASES:
        path = BUNDLES / f"{args.network}.{case.normalisation}.ecotta"
        with tempfile.NamedTemporaryFile(suffix=".npy") as frames:
            np.save(frames, confident_batch(path, case.batch))
            frames.flush()
            turns = [a_turn(path, case, Path(frames.name), first) for first in range(args.turns)]
        for variant in case.variants:
            row = summary(case, variant, [turn[variant.name] for turn in turns], [turn[OURS] for turn in turns])
            rows.append(row)
            print(f"{case.name}; {variant.name}: {row['peak_bytes'] / 2**20:.1f} MiB, {row['ms']} ms", flush=True)
    environment = asdict(read_environment(1))
    report = {"measured": "sessions", "environment": environment, "network": args.network, "rows": rows}
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def a_turn(path: Path, case: Case, frames: Path, first: int) -> dict[str, dict[str, Any]]:
    """Every variant once, beginning with another one each time: by variant, what was found."""
    start = first % len(case.variants)
    order = (*case.variants[start:], *case.variants[:start])
    return {variant.name: measured(path, case, variant, frames) for variant in order}


def measured(path: Path, case: Case, variant: Variant, frames: Path) -> dict[str, Any]:
    order = {
        "path": str(path),
        "graphs": case.graphs,
        "frames": str(frames),
        "steps": case.steps,
        "options": variant.options,
        "change": variant.change,
        "copied": variant.copied,
        "arena_frames": variant.arena_frames,
    }
    environment = child_environment(int(variant.options.get("threads", 1)), "libc")
    command = [sys.executable, str(PROCESS), json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{case.name}; {variant.name}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def summary(case: Case, variant: Variant, found: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    peaks = [max(turn["load_peak_bytes"], turn["run_peak_bytes"]) for turn in found]
    ratios = [turn["ms"] / usual["ms"] for turn, usual in zip(found, ours, strict=True)]
    return {
        "case": case.name,
        "graphs": list(case.graphs),
        "variant": variant.name,
        "turns": len(found),
        "peak_bytes": int(statistics.median(peaks)),
        "load_peak_bytes": int(statistics.median(turn["load_peak_bytes"] for turn in found)),
        "run_peak_bytes": int(statistics.median(turn["run_peak_bytes"] for turn in found)),
        "ms": round(statistics.median(turn["ms"] for turn in found), 2),
        "time_over_ours": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
