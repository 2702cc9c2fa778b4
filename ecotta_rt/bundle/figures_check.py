"""Compare what a bundle says a graph needs with what the graph says itself.

A plan is made from the manifest's figures alone, and a device that believes figures that are far too small is killed in
the middle of a stream. The shapes that a graph declares, which have been read anyway, give a lower bound. They can lie
too: what a run takes is held down by the ceiling of `ecotta_rt.session.opening`.
"""

import math
from collections.abc import Iterator

from ecotta_rt.bundle.manifest import GraphEntry
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.onnx_graph import Model

__all__ = ["check_figures"]

_VIEWS = ("Identity", "Reshape", "Unsqueeze")  # give back what they are given, in other words
_FREE_BYTES = 64 << 10
_FACTOR = 2  # onnxruntime may do without a tensor or a weight by fusing operators; not without most of them


def check_figures(model: Model, entry: GraphEntry, origin: str) -> None:
    """Refuse figures that are less than half of what the graph needs at the very least.

    Args:
        model: The graph.
        entry: What the manifest says of it.
        origin: Its name, for messages.

    Raises:
        InputFileError: A tensor, or all weights together, are more than twice what the manifest says.
    """
    name, tensor_bytes = max(_tensors(model), key=lambda tensor: tensor[1], default=("", 0))
    weights_bytes = sum(reference.length_bytes or 0 for reference in model.external)
    said = [("step_peak_bytes", tensor_bytes, entry.step_peak_bytes, f"the tensor {name[:80]!r}")]
    for session in entry.sessions:
        tensors = max(session.live_bytes, session.arena_bytes)
        kept = session.copied_bytes + session.mapped_bytes
        said.append((f"{session.optimisation}: live_bytes", tensor_bytes, tensors, f"the tensor {name[:80]!r}"))
        said.append((f"{session.optimisation}: copied_bytes + mapped_bytes", weights_bytes, kept, "its weights"))
    for field, found, figure, what in said:
        if found > _FACTOR * figure + _FREE_BYTES:
            raise InputFileError(
                f"{origin}: the manifest says {field} = {figure}, and {what} alone take {found} bytes; its figures are "
                "false, and a plan made from them would be too"
            )


def _tensors(model: Model) -> Iterator[tuple[str, int]]:
    """Name and bytes of what the nodes make anew, as far as the graph says it."""
    for graph in model.graph.all_graphs():
        for node in graph.nodes:
            if node.op in _VIEWS:
                continue
            for name in node.outputs:
                value = graph.values.get(name)
                if value is not None and value.shape is not None:
                    sizes = [size for size in value.shape if isinstance(size, int)]
                    yield name, (value.item_bytes or 1) * math.prod(sizes)
