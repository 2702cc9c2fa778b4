"""Make the bundles on which plans are checked: four networks, from one small enough for any board to ResNet-50.

    python benchmarks/export_cases.py                     all cases, into benchmarks/bundles/cases
    python benchmarks/export_cases.py wrn-40-2 --normalisation running

WRN-40-2 is the embedded network with its warmed-up groups. The others have random weights and groups that learned
nothing: how much memory a step takes does not depend on the values in it. For the same reason no frame is held back by
the entropy gate here (`entropy_margin` 1): a graph that leaves its backward out is measured at its largest.

`running` gets steps of 1 and 64 frames and the frame-by-frame graphs; `batch` gets 64 frames; WRN-40-2 the fast steps
too. What this code made already is left alone; `--keep` leaves alone what any code made. One case takes from half a
minute to several, and ResNet-50 some 10 GB of memory.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from ecotta_rt.bench.adaptation import ADAPTATION
from ecotta_rt.bundle import read_bundle
from ecotta_rt.data.fashion_mnist import CLASSES
from ecotta_rt.errors import InputFileError
from ecotta_rt.exporter.code_digest import code_digest
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.prepare.networks import MODELS, build_network
from ecotta_rt.prepare.pipeline import default_kernel
from ecotta_rt.state import AdaptState

HERE = Path(__file__).parent
CASES = HERE / "bundles" / "cases"
TRAINED = HERE / "networks" / "wrn-40-2-fashion-mnist.safetensors"
EMBEDDED = "wrn-40-2"
NETWORKS = (EMBEDDED, "efficientnet-lite0", "wrn-28-10", "resnet-50")
MODES = ("running", "batch")
PARTS, SEED = 4, 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], help="which (default: all)")
    parser.add_argument("--normalisation", nargs="*", choices=MODES, default=list(MODES))
    parser.add_argument("--keep", action="store_true", help="leave every readable bundle alone, whatever code made it")
    parser.add_argument("--out", type=Path, default=CASES)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for model in args.networks or NETWORKS:
        for mode in args.normalisation:
            target = args.out / f"{model}.{mode}.ecotta"
            if not made_already(target, args.keep):
                started_s = time.monotonic()
                make(model, mode, target)
                print(f"  {time.monotonic() - started_s:.0f} s", file=sys.stderr)
            print(f"{target}: {target.stat().st_size >> 20} MiB", flush=True)
    return 0


def made_already(target: Path, by_any_code: bool) -> bool:
    try:
        manifest = read_bundle(target, verify=False).manifest
    except InputFileError:
        return False
    return by_any_code or manifest.metadata.get("exporter") == code_digest()


def make(model: str, mode: str, target: Path) -> None:
    coupled = mode == "batch"
    network, state = embedded() if model == EMBEDDED else untrained(model)
    classes = CLASSES if model == EMBEDDED else [f"class {number}" for number in range(MODELS[model].classes)]
    export(
        network,
        state,
        target,
        ExportOptions(
            model=model,
            classes=classes,
            batches=(64,) if coupled else (1, 64),
            step=StepOptions(**{**ADAPTATION, "entropy_margin": 1.0}, normalisation=mode, frame_by_frame=not coupled),
            fast=model == EMBEDDED,
        ),
        report=lambda graph, done, total: print(
            f"  {target.name}: {graph} ({done + 1} of {total})", file=sys.stderr, flush=True
        ),
    )


def embedded() -> tuple[AdaptableNetwork, AdaptState]:
    network = load_network(TRAINED).eval()
    state = AdaptState.load(TRAINED.with_suffix(f".ecotta-k{PARTS}.safetensors"))
    return attach(partition(network, torch.zeros(1, 3, 32, 32), PARTS), default_kernel(EMBEDDED)), state


def untrained(model: str) -> tuple[AdaptableNetwork, AdaptState]:
    torch.manual_seed(SEED)
    side = MODELS[model].frame_size
    network = attach(
        partition(build_network(model).eval(), torch.zeros(1, 3, side, side), PARTS), default_kernel(model)
    )
    return network, to_adapt_state(initial_state(network), network.digest())


if __name__ == "__main__":
    sys.exit(main())
