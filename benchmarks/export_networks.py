"""Make bundles of the embedded networks: what a device or `ecotta-bench --engine onnx` runs.

    python benchmarks/export_networks.py        all networks and modes, into benchmarks/bundles
    python benchmarks/export_networks.py wrn-40-2-cifar-10 --normalisation running --parts 4

`running` and `source` get steps of 1 and 64 frames, frame-by-frame graphs and the fast step; `batch` gets 64 frames,
exact, with a fast step, and with constant statistics. About 20 seconds and 20 MB each. What this code made already is
left alone; a bundle of other code is made anew.
"""

import argparse
import sys
from pathlib import Path

from ecotta_rt.bench.adaptation import step_options
from ecotta_rt.bundle import FrameSpec, read_bundle
from ecotta_rt.data.cifar import CIFAR_10
from ecotta_rt.data.fashion_mnist import CLASSES
from ecotta_rt.errors import InputFileError
from ecotta_rt.exporter.code_digest import code_digest
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.prepare.checkpoint import load_network, read_network_file
from ecotta_rt.prepare.pipeline import export_bundle, model_name, warmed_path

HERE = Path(__file__).parent
NETWORKS = ("wrn-40-2-cifar-10", "wrn-40-2-fashion-mnist")
MODES = ("running", "source", "batch", "batch-constant")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="names in benchmarks/networks")
    parser.add_argument("--normalisation", nargs="*", choices=MODES, default=list(MODES))
    parser.add_argument("--parts", type=int, nargs="*", default=[4])
    parser.add_argument("--out", type=Path, default=HERE / "bundles")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.networks:
        network = HERE / "networks" / f"{name}.safetensors"
        classes = CLASSES if "fashion" in str(read_network_file(network).recipe.get("data_set")) else CIFAR_10
        for parts in args.parts:
            for mode in args.normalisation:
                target = args.out / f"{name}.ecotta-k{parts}.{mode}.ecotta"
                if not made_already(target):
                    make(network, parts, mode, target, classes)
                print(target)
    return 0


def made_already(target: Path) -> bool:
    try:
        manifest = read_bundle(target, verify=False).manifest
    except InputFileError:
        return False
    return manifest.metadata.get("exporter") == code_digest()


def make(network: Path, parts: int, mode: str, target: Path, classes: tuple[str, ...]) -> None:
    normalisation, _, gradient = mode.partition("-")
    coupled = normalisation == "batch"
    options = step_options(normalisation, gradient or "exact", frame_by_frame=not coupled)
    wanted = ExportOptions(
        model_name(str(network)),
        classes=classes,
        frame=FrameSpec(3, 32, 32),
        batches=(64,) if coupled else (1, 64),
        step=options,
        fast=gradient != "constant",
    )
    export_bundle(
        load_network(network),
        warmed_path(network.with_suffix(""), parts),
        target,
        wanted,
        report=lambda graph, done, total: print(f"  {graph} ({done + 1} of {total})", file=sys.stderr, flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
