"""What a finished bundle needs to run, and which of its graphs a device has room for.

The planner asks onnxruntime to optimise each graph, so the bundle has to be there first; then it is written once more,
with the figures, and without the graphs that do not fit.
"""

from pathlib import Path

from ecotta_rt.bundle import Manifest, read_bundle
from ecotta_rt.machine.device import DeviceProfile
from ecotta_rt.plan.budget import Plan, Wish, alternatives, fastest
from ecotta_rt.plan.figures import with_figures

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
    learning = _ways(manifest, device, "step", adapt=True)
    if any(graph.kind == "accumulate" for graph in manifest.graphs):
        learning += alternatives(manifest, device, Wish(frame_by_frame=True))  # the number of frames hardly matters
    if not any(way.fits for way in learning):
        fastest(learning or alternatives(manifest, device))  # says what is missing
    kind = "observe" if manifest.ports.observes else "predict"
    answering = _ways(manifest, device, kind, adapt=False)
    names = {name for way in (*learning, *answering) if way.fits for name in way.graphs}
    sizes = {graph.batch for graph in manifest.graphs if graph.kind == kind and graph.name in names}
    # What answers alone needs less than what observes, too.
    return frozenset(names | {g.name for g in manifest.graphs if g.kind == "predict" and g.batch in sizes})


def _ways(manifest: Manifest, device: DeviceProfile, kind: str, *, adapt: bool) -> list[Plan]:
    sizes = {graph.batch for graph in manifest.graphs if graph.kind == kind}
    return [way for size in sizes for way in alternatives(manifest, device, Wish(batch=size, adapt=adapt))]
