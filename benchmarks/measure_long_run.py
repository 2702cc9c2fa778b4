r"""A million frames through one runtime: does the error drift, does memory grow, does anything lock in?

    ecotta prepare resnet-20 --checkpoint resnet20.th --data $ECOTTA_DATA/cifar-10-batches-bin --frames 20000 \
        --epochs 2 --out small
    python benchmarks/measure_long_run.py small.ecotta --data $ECOTTA_DATA/cifar-10-batches-bin

One runtime answers frame by frame, as `ecotta run` does by default, and is never begun anew. The stream goes round the
15 corruptions at severity 5; each round is of one protocol (classes at random, Dirichlet(0.1), sorted, one class for
long, garbage), 200 frames a corruption, with an order of its own. Each corruption shows 2,000 test images again and
again. Written to benchmarks/results/long-run.json after every round; a run that was interrupted goes on from the
state beside it, PATH.state.safetensors, as a daemon does after a restart.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ecotta_rt import Runtime
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bench.streams.frame_plan import FramePlan, Kind
from ecotta_rt.bench.streams.pixels import add_garbage
from ecotta_rt.bench.streams.protocols import plan_stream
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.image_sets import ImageSet, find_image_set
from ecotta_rt.files.atomic import write_atomic

PROTOCOLS = ("continual", "practical", "sorted", "one-class", "garbage")
POOL, A_VISIT, SEVERITY = 2000, 200, 5
POOL_SEED = 1

Frames, Labels = NDArray[np.uint8], NDArray[np.int64]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the binary version of CIFAR-10")
    parser.add_argument("--frames", type=int, default=1_000_000, help="to play in all (1000000)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "long-run.json")
    args = parser.parse_args(argv)
    images, state = find_image_set(str(args.data)), args.out.with_suffix(".state.safetensors")
    shown = np.random.default_rng(POOL_SEED).permutation(len(images.labels))[:POOL]
    pool = {name: images.read(name, SEVERITY, shown, 0)[0] for name in CORRUPTIONS}
    rounds = earlier(args)
    runtime = Runtime.load(args.bundle, threads=1)
    if rounds:
        runtime.load_state(state)
    while sum(each["frames"] for each in rounds) < args.frames:
        protocol = PROTOCOLS[len(rounds) % len(PROTOCOLS)]
        plan = plan_stream(protocol, images.labels[shown], CORRUPTIONS, A_VISIT, seed=len(rounds))
        rounds.append({"protocol": protocol, **played(runtime, plan, pool, images)})
        runtime.save_state(state)
        report = {"measured": "long run", "about": about(args), "rounds": rounds}
        write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
        print(json.dumps(rounds[-1]), flush=True)
    return 0


def about(args: argparse.Namespace) -> dict[str, Any]:
    """What all rounds have in common."""
    origin = {"bundle": args.bundle.name, "sha256": sha256_of(args.bundle), "pool": POOL, "a_visit": A_VISIT}
    return {**origin, "severity": SEVERITY, "environment": asdict(read_environment(1))}


def earlier(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rounds of a run that was interrupted; none where there was none with this bundle."""
    if not args.out.exists():
        return []
    report = json.loads(args.out.read_text(encoding="utf-8"))
    rounds: list[dict[str, Any]] = report["rounds"] if report["about"]["sha256"] == sha256_of(args.bundle) else []
    return rounds


def played(runtime: Runtime, plan: FramePlan, pool: dict[str, Frames], images: ImageSet) -> dict[str, Any]:
    """Errors of both answers in percent, how far the statistics have gone, and the process's memory."""
    frames = np.stack([pool[plan.names[c]][i % POOL] for c, i in zip(plan.corruptions, plan.images, strict=True)])
    add_garbage(plan, images, frames)
    wrong = np.zeros((len(plan), 2), bool)
    for place, (frame, label) in enumerate(zip(frames, plan.labels, strict=True)):
        answer = runtime(frame[None])
        wrong[place] = [p.argmax() != label for p in (answer.unfiltered[0], answer.filtered[0])]
    unfiltered, filtered = 100 * wrong[plan.kinds == Kind.VALID].mean(axis=0)
    return {
        "frames": len(plan),
        "unfiltered_error_percent": round(float(unfiltered), 3),
        "filtered_error_percent": round(float(filtered), 3),
        "rss_mib": round(psutil.Process().memory_info().rss / 2**20, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
