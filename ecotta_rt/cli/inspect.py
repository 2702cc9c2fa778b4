"""Show what is in a bundle or an adapted state, having checked all of it.

examples:
  ecotta inspect net.ecotta
  ecotta inspect net.ecotta --graph step-1      its inputs, outputs, operators and weights
  ecotta inspect net.ecotta --json              JSON to stdout; --json FILE writes it beside the text
  ecotta inspect adapted.safetensors            a state: which network it belongs to, and what it holds
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.messages import in_columns, printable, show

if TYPE_CHECKING:  # they need numpy, which --help does not
    from ecotta_rt.bundle import ArrayShape, Bundle, FrameSpec, GraphEntry, Manifest
    from ecotta_rt.bundle.figures import SessionFigures
    from ecotta_rt.files.onnx_graph import Model
    from ecotta_rt.state import AdaptState

__all__ = ["NAME", "SCHEMA", "add_arguments", "run"]

NAME = "inspect"

SCHEMA = 1
"""Version of the JSON object."""

_ZIP_MARK = b"PK"
_MIB = 2**20
_SHOWN_CLASSES = 10
_GRAPH_COLUMNS = ("graph", "kind", "batch", "nodes", "MiB", "activations MiB", "step peak MiB", "variant")
_SESSION_COLUMNS = ("session", "nodes", "live MiB", "arena MiB", "copied MiB", "mapped MiB", "largest tensor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a bundle (.ecotta) or an adapted state (.safetensors)")
    parser.add_argument("--graph", metavar="NAME", help="show one graph of a bundle in detail")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check the file, and print what is in it."""
    check_json(args.json, args.file)
    text, facts = _bundle(args.file, args.graph) if _is_bundle(args.file) else _state(args.file, args.graph)
    write_json(args.json, facts)
    if args.json != STDOUT:
        show(text)
    return 0


def _is_bundle(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(2) == _ZIP_MARK or path.suffix == ".ecotta"
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error


def _bundle(path: Path, graph: str | None) -> tuple[str, dict[str, object]]:
    from ecotta_rt.bundle import read_bundle

    bundle = read_bundle(path)
    state = bundle.initial_state()
    for entry in bundle.manifest.graphs:
        bundle.graph(entry.name)
    facts: dict[str, object] = {"schema": SCHEMA, "kind": "bundle", "path": str(path), "bytes": bundle.bytes}
    if graph is None:
        return _bundle_text(bundle, state), {**facts, "manifest": json.loads(bundle.manifest.to_json())}
    return _graph(bundle, graph, facts)


def _graph(bundle: "Bundle", name: str, facts: dict[str, object]) -> tuple[str, dict[str, object]]:
    from ecotta_rt.files.onnx_reader import read_model

    model = read_model(bundle.graph(name), f"{bundle.path}, graph {name}")
    entries = json.loads(bundle.manifest.to_json())["graphs"]
    entry = next(entry for entry in entries if entry["name"] == name)
    details = {
        "opset": model.opsets[0][1],
        "operators": _operators(model),
        "weights": _weights(model),
        "inline_bytes": model.inline_bytes,
    }
    return _graph_text(bundle.manifest, name, model), {**facts, "graph": {**entry, **details}}


def _state(path: Path, graph: str | None) -> tuple[str, dict[str, object]]:
    from ecotta_rt.state import AdaptState

    if graph is not None:
        raise UsageError(f"--graph {graph}: {path} is no bundle, and an adapted state has no graphs")
    state = AdaptState.load(path)
    return _state_text(path, state), {
        "schema": SCHEMA,
        "kind": "state",
        "path": str(path),
        "bytes": path.stat().st_size,
        "network_digest": state.network_digest,
        "arrays": _shapes(state),
        "metadata": dict(state.metadata),
    }


def _shapes(state: "AdaptState") -> dict[str, dict[str, list[int]]]:
    sections = {"parameters": state.parameters, "momentum": state.momentum, "statistics": state.statistics}
    if state.adaptation:
        sections["adaptation"] = state.adaptation
    return {name: {key: list(array.shape) for key, array in arrays.items()} for name, arrays in sections.items()}


def _bundle_text(bundle: "Bundle", state: "AdaptState") -> str:
    """What is in a bundle. Sizes in MiB (2^20 bytes)."""
    from ecotta_rt.runtime.recipe import described_bundle

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
        ("stream", described_bundle(bundle)),
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


def _graph_text(manifest: "Manifest", name: str, model: "Model") -> str:
    """One graph of a bundle: sizes, ports, operators, weights."""
    entry = next(graph for graph in manifest.graphs if graph.name == name)
    shapes = {weight.name: weight.shape for weight in manifest.weights}
    operators = [(f"  {operator}", str(count)) for operator, count in _operators(model).items()]
    blocks = [
        in_columns([_GRAPH_COLUMNS, _graph_row(entry)], right={2, 3, 4, 5, 6}),
        *_sessions(entry.sessions),
        in_columns([("inputs", "", ""), *_ports(entry.inputs), ("outputs", "", ""), *_ports(entry.outputs)]),
        in_columns([("operators", ""), *operators], right={1}),
        in_columns([("weights", ""), *((f"  {weight}", _shape(shapes[weight])) for weight in _weights(model))]),
        f"operator set {model.opsets[0][1]}; {model.inline_bytes:,} bytes of constants lie in the graph itself",
    ]
    return "\n\n".join(blocks)


def _state_text(path: Path, state: "AdaptState") -> str:
    """What is in an adapted state."""
    heading = f"{path}: an adapted state of {path.stat().st_size:,} bytes, all of it checked"
    facts = [
        ("network", printable(state.network_digest)),
        ("holds", _state_sizes(state)),
        ("momentum", "all zero" if not any(array.any() for array in state.momentum.values()) else "not zero"),
    ]
    return "\n\n".join([heading, in_columns(facts), *_metadata(state.metadata)])


def _operators(model: "Model") -> dict[str, int]:
    """Counts by operator, the commonest first."""
    return dict(Counter(node.op for node in model.graph.all_nodes()).most_common())


def _weights(model: "Model") -> list[str]:
    return sorted({reference.value.name for reference in model.external})


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
    sections = [("parameters", state.parameters), ("statistics", state.statistics)]
    if state.adaptation:
        sections.append(("adaptation", state.adaptation))
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
