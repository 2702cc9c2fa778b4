"""Which graphs of a bundle a runtime opens, and with what room for its tensors."""

from dataclasses import replace
from typing import Any

from ecotta_rt.bundle import Bundle
from ecotta_rt.errors import UsageError
from ecotta_rt.machine.process_memory import resident_or_none
from ecotta_rt.options import SessionOptions
from ecotta_rt.session.costs import TWO_SESSIONS_BYTES

__all__ = ["choose_batch", "graph_name", "has_graph", "run_options", "with_ceiling"]

_LEAST_CEILING_BYTES = 8 << 20  # below it nothing would run, and the guard could not even tell


def choose_batch(bundle: Bundle, batch: int | None, frame_by_frame: bool, adapt: bool) -> int:
    """Frames a step.

    Args:
        bundle: What there is.
        batch: What was asked for; None: the smallest that there is.
        frame_by_frame: Whether they are learned from one by one, so that any number will do.
        adapt: Whether a graph that learns is needed.

    Raises:
        UsageError: The bundle has no graph for that.
    """
    graphs = bundle.manifest.graphs
    if frame_by_frame:
        if not any(graph.kind == "accumulate" for graph in graphs):
            raise UsageError(f"{bundle.path} has no graph that learns frame by frame; export it with --frame-by-frame")
        if batch is not None and batch < 1:
            raise UsageError(f"batch={batch}: give 1 or more")
        return batch or 1
    kind, what = ("step", "steps") if adapt else ("predict", "answers")
    sizes = sorted({graph.batch for graph in graphs if graph.kind == kind})
    if batch is None and sizes:
        return sizes[0]
    if batch not in sizes:
        raise UsageError(
            f"batch={batch}: {bundle.path} has {what} for {sizes or 'no'} frames; export it again with that batch, or "
            "take it frame by frame"
        )
    return batch


def has_graph(bundle: Bundle, kind: str, batch: int) -> bool:
    """Whether there is a graph of that kind for so many frames."""
    return any((graph.kind, graph.batch) == (kind, batch) for graph in bundle.manifest.graphs)


def graph_name(bundle: Bundle, kind: str, batch: int, fast: bool = False) -> str:
    """The name of a graph; the fast one where that is asked for and there is one.

    Raises:
        UsageError: There is none.
    """
    fitting = [graph for graph in bundle.manifest.graphs if graph.kind == kind and graph.batch == batch]
    if not fitting:
        raise UsageError(f"{bundle.path} has no {kind!r} graph for {batch} frames")
    return next((graph for graph in fitting if graph.fast == fast), fitting[0]).name


def run_options() -> Any:
    """onnxruntime's, by which somebody else may end a run."""
    import onnxruntime as ort

    return ort.RunOptions()


def with_ceiling(options: SessionOptions, limit_bytes: int | None) -> SessionOptions:
    """The options, with what the limit leaves for tensors beside the process as it is and its sessions."""
    if limit_bytes is None or options.ceiling_bytes is not None:
        return options
    run_options()  # loads onnxruntime, which counts too
    left_bytes = limit_bytes - (resident_or_none() or 0) - TWO_SESSIONS_BYTES
    return replace(options, ceiling_bytes=max(left_bytes, _LEAST_CEILING_BYTES))
