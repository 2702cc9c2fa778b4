"""Make what `ecotta demo` ships: a small bundle of the embedded network, and a small corrupted stream.

    python benchmarks/make_demo.py          into ecotta_rt/demo; about two minutes

The network is the embedded WRN-40-2 of Fashion-MNIST with its warmed-up groups. So that it packs small, each
convolution's and the classifier's weights are rounded to multiples of a power of two, an eighth to a sixteenth of their
root mean square: of 1,000 clean test images one is answered otherwise. The step is the bench's but for its size, the
paper's for each frame instead of each 64, and the weight of its L1 term (`STEP`): chosen on corrupted training images.
The stream is made as the bench's, with fewer frames: the embedded test images under 15 corruptions at severity 5. The
first colour channel is kept: a grey camera's.
"""

import argparse
import lzma
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ecotta_rt.bench.adaptation import step_options
from ecotta_rt.bundle import Bundle, GraphFacts, read_bundle, write_bundle
from ecotta_rt.data.fashion_mnist import CLASSES
from ecotta_rt.data.stream import open_stream
from ecotta_rt.demo import shipped
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.state import AdaptState

HERE = Path(__file__).parent
NETWORK = HERE / "networks" / "wrn-40-2-fashion-mnist.safetensors"
GROUPS = NETWORK.with_suffix(".ecotta-k4.safetensors")
LICENCE = HERE / "data" / "fashion-mnist-sample" / "LICENSE"
FRAMES = 48  # of each corruption
LEVELS = 8  # to the root mean square of a weight tensor, at least
STEP = {"lr": 0.32, "l1_weight": 0.1}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=shipped.HERE)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    network = rounded_network()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "network.ecotta"
        make_bundle(network, bundle)
        packed = lzma.compress(bundle.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
        parameters, _, statistics = read_bundle(bundle).manifest.layout.pack(as_it_came(network))
    (args.out / shipped.BUNDLE.name).write_bytes(packed)
    write_stream(args.out / shipped.STREAM.name, parameters, statistics)
    (args.out / LICENCE.name).write_bytes(LICENCE.read_bytes())
    for name in (shipped.BUNDLE.name, shipped.STREAM.name):
        print(f"{args.out / name}: {(args.out / name).stat().st_size:,} bytes")
    return 0


def rounded_network() -> AdaptableNetwork:
    """The embedded network with weights that pack small, cut in four, with untrained groups."""
    network = load_network(NETWORK).eval()
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.from_numpy(rounded(parameter.detach().numpy()))
    return attach(partition(network, torch.zeros(1, 3, 32, 32), 4))


def rounded(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """To multiples of a power of two."""
    step = 2.0 ** np.floor(np.log2(np.sqrt(np.square(weights).mean()) / LEVELS))
    return np.asarray(np.round(weights / step) * step, np.float32)


def make_bundle(network: AdaptableNetwork, path: Path) -> None:
    """Graphs for single frames: a step, an answer, and an answer by statistics that stay as they are.

    The last is the answer of another bundle, made alike but for that. Both have the same weights.
    """
    warmed = AdaptState.load(GROUPS)
    parameters = {name: rounded(v) if v.ndim > 1 else v for name, v in warmed.parameters.items()}
    state = replace(warmed, parameters=parameters, network_digest=network.digest())
    options = step_options("running", "exact", hyperparameters=STEP)
    export(network, state, path, ExportOptions(model="wrn-40-2", classes=CLASSES, step=options))
    held = path.with_suffix(".held.ecotta")
    options = replace(options, statistics_momentum=0.0)
    export(network, state, held, ExportOptions(model="wrn-40-2", classes=CLASSES, step=options))
    add_graph(read_bundle(path), read_bundle(held), path)


def add_graph(bundle: Bundle, held: Bundle, path: Path) -> None:
    """Write `bundle` anew with the answer of `held` as one more graph."""
    manifest = bundle.manifest
    if held.manifest.weights_sha256 != manifest.weights_sha256:
        raise SystemExit("the two bundles have other weights: their graphs cannot share them")
    found = {entry.name: (entry, bundle.graph(entry.name)) for entry in manifest.graphs}
    found[shipped.HELD] = (next(e for e in held.manifest.graphs if e.kind == "predict"), held.graph("predict-1"))
    graphs = {
        name: (GraphFacts(e.kind, e.batch, e.activation_bytes, e.step_peak_bytes, e.variant, e.sessions), content)
        for name, (e, content) in found.items()
    }
    write_bundle(
        path,
        model=manifest.model,
        network_digest=manifest.network_digest,
        classes=manifest.classes,
        parts=manifest.parts,
        frame=manifest.frame,
        normalisation=manifest.normalisation,
        options=manifest.options,
        layout=manifest.layout,
        graphs=graphs,
        weights=bundle.weights(),
        state=bundle.initial_state(),
        made_with=manifest.made_with,
        metadata=manifest.metadata,
    )


def as_it_came(network: AdaptableNetwork) -> AdaptState:
    """The state in which every group is the identity: BN of (0, 1 - eps) times 1, and a branch times 0."""
    parameters = {
        name: np.full(value.shape, name.endswith(".norm.weight"), np.float32)
        for name, value in network.learned_parameters().items()
    }
    statistics = {}
    for name, (mean, variance) in network.source_statistics().items():
        eps = network.norms()[name].eps
        group = name.startswith("groups.")
        statistics[f"{name}.mean"] = np.zeros_like(mean.numpy()) if group else mean.numpy()
        statistics[f"{name}.variance"] = np.full_like(variance.numpy(), 1 - eps) if group else variance.numpy()
    momentum = {name: np.zeros_like(value) for name, value in parameters.items()}
    return AdaptState(parameters, momentum, statistics, network.digest())


def write_stream(path: Path, parameters: NDArray[np.float32], statistics: NDArray[np.float32]) -> None:
    stream = open_stream(frames=FRAMES, seed=0)
    np.savez_compressed(
        path,
        corruptions=np.array([segment.corruption for segment in stream.segments]),
        grey=np.stack([segment.frames[..., 0] for segment in stream.segments]),
        labels=np.stack([segment.labels for segment in stream.segments]).astype(np.uint8),
        parameters=parameters,
        statistics=statistics,
    )


if __name__ == "__main__":
    sys.exit(main())
