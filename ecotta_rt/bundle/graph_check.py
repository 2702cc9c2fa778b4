"""What a graph in a bundle may ask for: the standard operators, and numbers from `weights.bin`."""

import math
from collections.abc import Iterable, Iterator, Mapping

from ecotta_rt.bundle.layout import ArrayShape
from ecotta_rt.bundle.manifest import GraphEntry, WeightEntry
from ecotta_rt.bundle.operators import check_nodes
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.onnx_graph import ExternalReference, Model, Value
from ecotta_rt.files.onnx_reader import read_model

__all__ = ["WEIGHTS", "check_entry", "check_graph", "graph_ports"]

WEIGHTS = "weights.bin"
"""The member that holds the weights, and the only location that a graph may name."""

_STANDARD = ("", "ai.onnx")
_VIEWS = ("Identity", "Reshape", "Unsqueeze")  # give back what they are given, in other words
_FREE_BYTES = 64 << 10
_FACTOR = 2  # onnxruntime may do without a tensor or a weight by fusing operators; not without most of them


def check_graph(content: bytes, weights: Mapping[str, WeightEntry], origin: str) -> Model:
    """Refuse a graph that asks for more than a bundle gives.

    Args:
        content: The ONNX file.
        weights: The arrays of `weights.bin` by name.
        origin: The graph's name, for messages.

    Returns:
        What it asks for.

    Raises:
        InputFileError: Not ONNX, what `check_nodes` refuses, a file other than `weights.bin`, or a place in it
            that is not the array of that name.
    """
    model = read_model(content, origin)
    if len(model.opsets) != 1 or model.opsets[0][0] not in _STANDARD:
        found = ", ".join(f"{domain[:80]!r} {version}" for domain, version in model.opsets[:5]) or "none"
        raise InputFileError(f"{origin}: imports the operator sets {found}; expected the standard one alone")
    for reference in model.external:
        _check_reference(reference, weights, origin)
    check_nodes(model, len(content), origin)
    return model


def graph_ports(values: Iterable[Value], origin: str) -> tuple[ArrayShape, ...]:
    """Inputs or outputs as the manifest has them.

    Raises:
        InputFileError: One of them has no fixed shape or type, so that nobody could plan its memory.
    """
    ports = []
    for value in values:
        sizes = value.sizes
        if sizes is None or min(sizes, default=0) < 0 or not value.dtype:
            found = "no shape" if value.shape is None else list(value.shape)
            raise InputFileError(
                f"{origin}: {value.name[:80]!r} is {value.dtype or 'of no known type'}, {found}; expected fixed sizes"
            )
        ports.append(ArrayShape(value.name, sizes, value.dtype))
    return tuple(ports)


def check_entry(model: Model, entry: GraphEntry, origin: str) -> None:
    """Refuse a graph of which the manifest says something else.

    Raises:
        InputFileError: Other inputs or outputs, another number of nodes, or figures that the graph contradicts.
    """
    if any(node.graphs for node in model.graph.nodes) and (entry.kind, entry.batch) != ("step", 1):
        raise InputFileError(
            f"{origin}: an If in the {entry.kind} graph of {entry.batch} frames; a step of 1 may have one"
        )
    nodes = sum(1 for _ in model.graph.all_nodes())
    if nodes != entry.nodes:
        raise InputFileError(f"{origin}: {nodes} nodes, and the manifest says {entry.nodes}")
    for what, values, said in (("inputs", model.inputs, entry.inputs), ("outputs", model.outputs, entry.outputs)):
        found = graph_ports(values, origin)
        if found != said:
            raise InputFileError(f"{origin}: its {what} are {_shown(found)}, and the manifest says {_shown(said)}")
    _check_figures(model, entry, origin)


def _check_reference(reference: ExternalReference, weights: Mapping[str, WeightEntry], origin: str) -> None:
    value = reference.value
    name = f"{origin}: tensor {value.name[:80]!r}"
    if reference.location != WEIGHTS:
        raise InputFileError(
            f"{name} lies in {reference.location[:80]!r}; a graph may read {WEIGHTS} and no other file"
        )
    entry = weights.get(value.name)
    if entry is None:
        raise InputFileError(f"{name} lies in {WEIGHTS}, and the manifest lists no weight of that name")
    found = (value.dtype, value.sizes or (), reference.offset_bytes, reference.length_bytes)
    listed = ("float32", entry.shape, entry.offset, entry.bytes)
    if found != listed:
        raise InputFileError(f"{name} is {_place(*found)} of {WEIGHTS}; the manifest has {_place(*listed)}")


def _place(dtype: str, shape: tuple[int, ...], offset_bytes: int, length_bytes: int | None) -> str:
    size = "an unknown number of" if length_bytes is None else length_bytes
    return f"{dtype or 'of no known type'} {list(shape)}, {size} bytes at {offset_bytes}"


def _shown(ports: tuple[ArrayShape, ...]) -> str:
    text = ", ".join(f"{port.name} {port.dtype} {list(port.shape)}" for port in ports)
    return text if len(text) <= 200 else text[:197] + "..."


def _check_figures(model: Model, entry: GraphEntry, origin: str) -> None:
    """Refuse figures that are less than half of what the graph needs at the very least.

    A plan is made from the manifest's figures alone, and a device that believes figures far too small is killed in the
    middle of a stream. The shapes that a graph declares give a lower bound. They can lie too: what a run takes is held
    down by the ceiling of `ecotta_rt.session.opening`.
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
