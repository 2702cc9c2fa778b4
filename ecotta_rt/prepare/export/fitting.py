"""What a finished bundle needs to run, and which of its graphs a device has room for.

The planner asks onnxruntime to optimise each graph, so the bundle has to be there first; then it is written once more,
with the figures, and without the graphs that do not fit.
"""

from pathlib import Path

from ecotta_rt.budget import alternatives, plan
from ecotta_rt.bundle import Manifest, read_bundle
from ecotta_rt.device import DeviceProfile
from ecotta_rt.planner.figures import with_figures

__all__ = ["fitting_graphs", "planned"]


def planned(path: Path) -> Manifest:
    """The manifest of a bundle, with what each graph needs.

    Raises:
        InputFileError: onnxruntime refuses a graph.
    """
    return with_figures(read_bundle(path, verify=False))


def fitting_graphs(manifest: Manifest, device: DeviceProfile) -> frozenset[str]:
    """Names of the graphs that some way to run them fits on the device.

    Raises:
        BudgetExceeded: None that learns does.
    """
    sizes = sorted({graph.batch for graph in manifest.graphs if graph.kind == "step"})
    if any(graph.kind == "accumulate" for graph in manifest.graphs):
        sizes.append(max([*sizes, 2]))  # learning frame by frame: the number of frames hardly matters
    learning = [way for size in sizes for way in alternatives(manifest, device, batch=size) if way.fits]
    if not learning:
        plan(manifest, device, batch=min(sizes))  # says what is missing
    answers = {graph.batch for graph in manifest.graphs if graph.kind == "predict"}
    answering = [way for size in answers for way in alternatives(manifest, device, batch=size, adapt=False) if way.fits]
    return frozenset(name for way in (*learning, *answering) for name in way.graphs)
