"""What the nodes of a graph may be: the operators that `ecotta_rt.exporter` writes, and no others.

A graph is a program. One that may use every operator can loop for ever, take all memory there is, or end the process
with a division that the processor traps; onnxruntime guards against none of that. The exporter needs a few dozen
operators that take a bounded time for tensors of a bounded size, so no more are let in.
"""

from collections.abc import Mapping, Set

from ecotta_rt.errors import InputFileError
from ecotta_rt.files.onnx_graph import Graph, Model, Node, Value

__all__ = ["BRANCHES", "MAX_NODES", "OPERATORS", "check_nodes"]

OPERATORS = frozenset(
    """
    Abs Add And AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Div Elu Equal Erf Exp Expand Floor
    Gather Gelu Gemm Greater GreaterOrEqual HardSigmoid HardSwish Identity If LeakyRelu Less LessOrEqual Log LogSoftmax
    MatMul Max MaxPool Min Mul Neg Not Or PRelu Pad Pow Reciprocal ReduceL1 ReduceMax ReduceMean ReduceSum Relu Reshape
    ScatterElements Sigmoid Sign Size Slice Softmax Softplus Split Sqrt Sub Tanh Transpose Unsqueeze Where
    """.split()
)
"""All but ReduceL1 and ReduceMax, which only the bundles in tests/hostile have, are written by a rule or a pass."""

MAX_NODES = 16_384
"""The largest graph so far has 1,900. onnxruntime takes a kilobyte and more for each, whatever it does."""

BRANCHES = (("If", "else_branch"), ("If", "then_branch"))
"""The nested graphs that there may be: those of the one If that leaves the backward pass out."""

_STANDARD = ("", "ai.onnx")
_POSITIVE = ("dilations", "group", "kernel_shape", "num_outputs", "strides")
_LARGEST = 1 << 24

# Of a graph without its inline tensors; those of our graphs have 140 bytes, 3 parts and 23 fields a node.
_BYTES_A_NODE, _PARTS_A_NODE, _FIELDS_A_NODE = 1024, 16, 128
_FREE_BYTES, _FREE_PARTS, _FREE_FIELDS = 64 << 10, 1024, 16_384


def check_nodes(model: Model, content_bytes: int, origin: str) -> None:
    """Refuse a graph with other operators, or more of anything, than the exporter writes.

    Args:
        model: The graph.
        content_bytes: Size of its file.
        origin: Its name, for messages.

    Raises:
        InputFileError: Another operator or domain; another nested graph than `BRANCHES`; more than `MAX_NODES` nodes,
            or far more bytes or parts than so many nodes have; a node that depends on nothing but constants, which
            onnxruntime would work out while it loads the graph (but for an Identity, which is no work); a division of
            whole numbers, which the processor traps at -1 and 0; a window, stride or group that is not positive.
    """
    _check_size(model, content_bytes, origin)
    _check_graph(model.graph, frozenset(), origin)
    nested = [(node.op, name) for node in model.graph.nodes for name, _ in node.graphs]
    branching = sum(node.op == "If" for node in model.graph.all_nodes())
    deep = len([*model.graph.all_graphs()]) > 1 + len(nested)
    if (tuple(sorted(nested)), branching) not in (((), 0), (BRANCHES, 1)) or deep:
        found = ", ".join(f"{op[:40]!r} {name[:40]!r}" for op, name in nested[:5]) or "none"
        raise InputFileError(
            f"{origin}: {branching} If and the nested graphs {found}; expected none, or one If with its two branches"
        )


def _check_graph(graph: Graph, outer: Set[str], origin: str) -> None:
    """Each node of a graph and of those nested in it; `outer` are the constants around it."""
    constants = outer | graph.initializers.keys()
    for node in graph.nodes:
        _check_operator(node, origin)
        folded = all(not name or name in constants for name in node.inputs)
        if folded and not (node.op == "Identity" and any(node.inputs)):
            raise InputFileError(f"{origin}: {_shown(node)} depends on constants alone; write its result instead")
        if node.op == "Div":
            _check_division(node, graph.values, origin)
        for _, nested in node.graphs:
            _check_graph(nested, constants, origin)


def _check_size(model: Model, content_bytes: int, origin: str) -> None:
    graphs = [*model.graph.all_graphs()]
    nodes, parts = sum(len(graph.nodes) for graph in graphs), sum(graph.parts for graph in graphs)
    for what, found, most in (
        ("nodes", nodes, MAX_NODES),
        ("bytes beside its constants", content_bytes - model.inline_bytes, _FREE_BYTES + nodes * _BYTES_A_NODE),
        ("nodes, constants and values", parts, _FREE_PARTS + nodes * _PARTS_A_NODE),
        ("fields", model.fields, _FREE_FIELDS + nodes * _FIELDS_A_NODE),
    ):
        if found > most:
            raise InputFileError(f"{origin}: {found} {what}; a graph of {nodes} nodes has at most {most}")


def _check_operator(node: Node, origin: str) -> None:
    if node.domain not in _STANDARD:
        found = f"operator {node.op[:80]!r} of domain {node.domain[:80]!r}"
        raise InputFileError(f"{origin}: {found}; only standard operators run everywhere")
    if node.op not in OPERATORS:
        raise InputFileError(
            f"{origin}: operator {node.op[:80]!r} is none that a bundle's graphs use; export it with this ecotta_rt"
        )
    for name, value in node.attributes.items():
        if isinstance(value, str):
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        least = 1 if name in _POSITIVE else -_LARGEST
        if any(not least <= number <= _LARGEST for number in numbers):
            raise InputFileError(
                f"{origin}: {_shown(node)}: {name[:80]} {str(list(numbers))[:80]}, expected {least} to {_LARGEST}"
            )


def _check_division(node: Node, values: Mapping[str, Value], origin: str) -> None:
    # onnxruntime compares what is said of a value's type with what it works out, and refuses a graph that lies.
    for output in node.outputs:
        value = values.get(output)
        if value is None or value.dtype != "float32":
            found = "of no declared type" if value is None else value.dtype or "of no known type"
            raise InputFileError(f"{origin}: {_shown(node)} is {found}; only float32 may be divided")


def _shown(node: Node) -> str:
    return f"{node.op[:80]} {', '.join(node.outputs)[:80]!r}"
