"""Draw bundles, graphs and states as plain text."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.messages import in_columns, printable

if TYPE_CHECKING:  # they need numpy, which --help does not
    from ecotta_rt.bundle import ArrayShape, Bundle, FrameSpec, GraphEntry, Manifest
    from ecotta_rt.bundle.figures import SessionFigures
    from ecotta_rt.files.onnx_graph import Model
    from ecotta_rt.state import AdaptState

__all__ = ["bundle_text", "graph_text", "state_text"]

_MIB = 2**20
_SHOWN_CLASSES = 10
_GRAPH_COLUMNS = ("graph", "kind", "batch", "nodes", "MiB", "activations MiB", "step peak MiB", "variant")
_SESSION_COLUMNS = ("session", "nodes", "live MiB", "arena MiB", "copied MiB", "mapped MiB", "largest tensor")


def bundle_text(bundle: "Bundle", state: "AdaptState") -> str:
    """What is in a bundle. Sizes in MiB (2^20 bytes)."""
    manifest = bundle.manifest
    frame = manifest.frame
    numbers = sum(entry.bytes for entry in manifest.weights) // 4
    facts = [
        ("method", manifest.ports.name),
        ("model", f"{manifest.model}, cut into {manifest.parts} part{'s' if manifest.parts > 1 else ''}"),
        ("network", manifest.network_digest),
        ("classes", _classes(manifest.classes)),
        ("frames", f"{frame.channels} x {frame.height} x {frame.width}, {frame.colour}, 8-bit values x {frame.scale}"),
        ("pictures", _preprocessing(frame)),
        ("normalisation", manifest.normalisation),
        ("options", _words(manifest.options)),
        ("weights", f"{_arrays(len(manifest.weights), numbers)}, {_mib(manifest.weights_bytes)} MiB"),
        ("state", _state_sizes(state)),
        ("made with", _words(manifest.made_with)),
        ("", ""),
        ("sha256", ""),
        ("  weights", manifest.weights_sha256),
        ("  state", manifest.state_sha256),
        *((f"  {graph.name}", graph.sha256) for graph in manifest.graphs),
    ]
    heading = f"{bundle.path}: a bundle of {_mib(bundle.bytes)} MiB ({bundle.bytes:,} bytes), all of it checked"
    graphs = in_columns([_GRAPH_COLUMNS, *map(_graph_row, manifest.graphs)], right={2, 3, 4, 5, 6})
    return "\n\n".join([heading, graphs, in_columns(facts), *_metadata(manifest.metadata)])


def graph_text(manifest: "Manifest", name: str, model: "Model") -> str:
    """One graph of a bundle: sizes, ports, operators, weights."""
    entry = next(graph for graph in manifest.graphs if graph.name == name)
    operators = Counter(node.op for node in model.graph.all_nodes()).most_common()
    shapes = {weight.name: weight.shape for weight in manifest.weights}
    weights = sorted({reference.value.name for reference in model.external})
    blocks = [
        in_columns([_GRAPH_COLUMNS, _graph_row(entry)], right={2, 3, 4, 5, 6}),
        *_sessions(entry.sessions),
        in_columns([("inputs", "", ""), *_ports(entry.inputs), ("outputs", "", ""), *_ports(entry.outputs)]),
        in_columns([("operators", ""), *((f"  {op_type}", str(count)) for op_type, count in operators)], right={1}),
        in_columns([("weights", ""), *((f"  {weight}", _shape(shapes[weight])) for weight in weights)]),
        f"operator set {model.opsets[0][1]}; {model.inline_bytes:,} bytes of constants lie in the graph itself",
    ]
    return "\n\n".join(blocks)


def state_text(path: Path, state: "AdaptState") -> str:
    """What is in an adapted state."""
    heading = f"{path}: an adapted state of {path.stat().st_size:,} bytes, all of it checked"
    facts = [
        ("network", printable(state.network_digest)),
        ("holds", _state_sizes(state)),
        ("momentum", "all zero" if not any(array.any() for array in state.momentum.values()) else "not zero"),
    ]
    return "\n\n".join([heading, in_columns(facts), *_metadata(state.metadata)])


def _preprocessing(frame: "FrameSpec") -> str:
    """How a picture becomes a frame, in words."""
    shape = "stretched" if frame.resize == "stretch" else "cut around the centre to the frame's proportions"
    crop = "" if frame.crop == 1 else f", the middle {100 * frame.crop:.4g} % of each side"
    return f"{frame.resize}: {shape}{crop}, resized to {frame.height} x {frame.width}"


def _graph_row(graph: "GraphEntry") -> tuple[str, ...]:
    sizes = (_mib(size) for size in (graph.bytes, graph.activation_bytes, graph.step_peak_bytes))
    return (graph.name, graph.kind, str(graph.batch), f"{graph.nodes:,}", *sizes, _words(graph.variant))


def _sessions(sessions: Sequence["SessionFigures"]) -> list[str]:
    """What the planner found; older bundles have nothing of it."""
    rows = [_session_row(session) for session in sessions]
    return [in_columns([_SESSION_COLUMNS, *rows], right={1, 2, 3, 4, 5})] if rows else []


def _session_row(session: "SessionFigures") -> tuple[str, ...]:
    sizes = (session.live_bytes, session.arena_bytes, session.copied_bytes, session.mapped_bytes)
    largest = session.tenants[0].name if session.tenants else "-"
    return (session.optimisation, f"{session.nodes:,}", *map(_mib, sizes), largest)


def _ports(ports: Iterable["ArrayShape"]) -> list[tuple[str, str, str]]:
    return [(f"  {printable(port.name)}", port.dtype, _shape(port.shape)) for port in ports]


def _state_sizes(state: "AdaptState") -> str:
    sections = (("parameters", state.parameters), ("statistics", state.statistics))
    sizes = ((name, len(arrays), sum(array.size for array in arrays.values())) for name, arrays in sections)
    return ", ".join(f"{name}: {_arrays(count, numbers)}" for name, count, numbers in sizes)


def _arrays(count: int, numbers: int) -> str:
    return f"{numbers:,} numbers in {count} arrays"


def _classes(classes: Sequence[str]) -> str:
    shown = printable(", ".join(classes[:_SHOWN_CLASSES]))
    return f"{len(classes)}: {shown}{', ...' if len(classes) > _SHOWN_CLASSES else ''}"


def _metadata(metadata: Mapping[str, str]) -> list[str]:
    rows = [(f"  {printable(name)}", printable(text)) for name, text in metadata.items()]
    return [in_columns([("metadata", ""), *rows])] if rows else []


def _words(words: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {word}" for name, word in words.items()) or "-"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.2f}"
