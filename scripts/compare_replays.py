"""Compare two results of scripts/replay_frames.py: what was answered, and what was learned.

examples:
  python scripts/compare_replays.py /tmp/arm64 /tmp/x86-64
  python scripts/compare_replays.py /tmp/arm64 /tmp/x86-64 --tolerance 1e-5 --json differences.json

Prints the largest difference of each kind and where it is. Exit codes: 0 the same within the tolerance, 1 not.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt import AdaptState
from ecotta_rt.files.atomic import write_atomic

EXACT = ("labels", "kept", "adapted")  # decisions: nothing to round
CLOSE = ("probabilities", "entropy_nats")
STATE = ("parameters", "momentum", "statistics")


def main() -> int:
    """Read the arguments, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("one", metavar="FOLDER", type=Path)
    parser.add_argument("other", metavar="FOLDER", type=Path)
    parser.add_argument("--tolerance", metavar="D", type=float, default=1e-4, help="largest difference (default 1e-4)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the differences")
    args = parser.parse_args()
    differences = compare(args.one, args.other)
    alike = all(row["largest"] <= (0 if kind in EXACT else args.tolerance) for kind, row in differences.items())
    for kind, row in differences.items():
        print(f"{kind:<14} {row['largest']:.2e}  {row['where']}  (values up to {row['scale']:.3g})")
    print(f"{'alike' if alike else 'NOT ALIKE'}: tolerance {args.tolerance:g}, decisions must be equal")
    if args.json:
        content = {"tolerance": args.tolerance, "alike": alike, "differences": differences}
        write_atomic(args.json, (json.dumps(content, indent=2) + "\n").encode())
    return 0 if alike else 1


def compare(one: Path, other: Path) -> dict[str, dict[str, float | str]]:
    """Kind -> the largest absolute difference, where it is, and the largest value of that kind."""
    ours, theirs = (load(folder) for folder in (one, other))
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{one} and {other} hold different things: {sorted(ours.keys() ^ theirs.keys())}")
    return {kind: largest_difference(kind, ours[kind], theirs[kind]) for kind in ours}


def load(folder: Path) -> dict[str, Mapping[str, NDArray[np.generic]]]:
    """Kind -> name -> array."""
    with np.load(folder / "answers.npz") as file:
        answers = {kind: {kind: file[kind]} for kind in (*EXACT, *CLOSE)}
    state = AdaptState.load(folder / "state.safetensors")
    return {**answers, **{kind: getattr(state, kind) for kind in STATE}}


def largest_difference(
    kind: str, ours: Mapping[str, NDArray[np.generic]], theirs: Mapping[str, NDArray[np.generic]]
) -> dict[str, float | str]:
    """The worst of one kind; NaN counts as infinitely far from anything."""
    if {name: array.shape for name, array in ours.items()} != {name: array.shape for name, array in theirs.items()}:
        raise SystemExit(f"{kind}: the two have arrays of other names or shapes; were both made from one bundle?")
    worst, where, scale = 0.0, "", 0.0
    for name, array in ours.items():
        distance = np.abs(array.astype(np.float64) - theirs[name].astype(np.float64))
        largest = float(np.where(np.isnan(distance), np.inf, distance).max(initial=0.0))
        scale = max(scale, float(np.abs(array.astype(np.float64)).max(initial=0.0)))
        if largest > worst or not where:
            worst, where = largest, name
    return {"largest": worst, "where": where, "scale": scale}


if __name__ == "__main__":
    sys.exit(main())
