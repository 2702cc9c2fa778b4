"""Which methods onnxruntime can run, and what each needs of a bundle.

onnxruntime's inference package has no autodiff: a method runs there when its whole step was compiled into a graph on
the host. That is so for EcoTTA, and for the network as it is.
"""

from dataclasses import dataclass

from ecotta_rt.bench.peers import METHODS

__all__ = ["ONNX_METHODS", "GraphUse", "graph_use"]


@dataclass(frozen=True)
class GraphUse:
    """What a method runs.

    Attributes:
        kind: `forward` (the inference-only graph of the source network), `step` or `predict` (of a bundle).
        parts: K of the bundle; None for `forward`.
        gradient: `constant` where the method says so itself, None where the user's word counts.
    """

    kind: str
    parts: int | None = None
    gradient: str | None = None


def graph_use(method: str) -> GraphUse | None:
    """What `method` (a key of `METHODS`) runs in onnxruntime; None where it cannot.

    >>> graph_use("ecotta-k4-warmed")
    GraphUse(kind='predict', parts=4, gradient=None)
    """
    entry = METHODS[method]
    if method == "source":
        return GraphUse("forward")
    if entry.maker != "ecotta:Ecotta":
        return None
    kind = "step" if entry.fixed.get("adapting", True) else "predict"
    return GraphUse(kind, entry.fixed["parts"], entry.fixed.get("frozen_gradient"))


ONNX_METHODS = tuple(method for method in METHODS if graph_use(method) is not None)
"""Methods that have an onnx engine, in the order in which results are shown."""
