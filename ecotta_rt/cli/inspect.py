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
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.inspect_text import bundle_text, graph_text, state_text
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.files.output import check_output, write_output
from ecotta_rt.messages import show

if TYPE_CHECKING:  # both need numpy, which --help does not
    from ecotta_rt.bundle import Bundle
    from ecotta_rt.state import AdaptState

__all__ = ["NAME", "SCHEMA", "add_arguments", "run"]

NAME = "inspect"

SCHEMA = 1
"""Version of the JSON object."""

_STDOUT = "-"
_ZIP_MARK = b"PK"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a bundle (.ecotta) or an adapted state (.safetensors)")
    parser.add_argument("--graph", metavar="NAME", help="show one graph of a bundle in detail")
    parser.add_argument("--json", nargs="?", const=_STDOUT, metavar="FILE", help="write JSON to FILE; bare: to stdout")


def run(args: argparse.Namespace) -> int:
    """Check the file, and print what is in it."""
    if args.json not in (None, _STDOUT):
        check_output("--json", args.json, args.file)
    text, facts = _bundle(args.file, args.graph) if _is_bundle(args.file) else _state(args.file, args.graph)
    if args.json == _STDOUT:
        print(json.dumps(facts, indent=2))
        return 0
    if args.json is not None:
        write_output(args.json, f"{json.dumps(facts, indent=2)}\n".encode())
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
        return bundle_text(bundle, state), {**facts, "manifest": json.loads(bundle.manifest.to_json())}
    return _graph(bundle, graph, facts)


def _graph(bundle: "Bundle", name: str, facts: dict[str, object]) -> tuple[str, dict[str, object]]:
    from ecotta_rt.files.onnx_reader import read_model

    model = read_model(bundle.graph(name), f"{bundle.path}, graph {name}")
    operators = dict(Counter(node.op for node in model.graph.all_nodes()).most_common())
    weights = sorted({reference.value.name for reference in model.external})
    entries = json.loads(bundle.manifest.to_json())["graphs"]
    entry = next(entry for entry in entries if entry["name"] == name)
    details = {
        "opset": model.opsets[0][1],
        "operators": operators,
        "weights": weights,
        "inline_bytes": model.inline_bytes,
    }
    return graph_text(bundle.manifest, name, model), {**facts, "graph": {**entry, **details}}


def _state(path: Path, graph: str | None) -> tuple[str, dict[str, object]]:
    from ecotta_rt.state import AdaptState

    if graph is not None:
        raise UsageError(f"--graph {graph}: {path} is no bundle, and an adapted state has no graphs")
    state = AdaptState.load(path)
    return state_text(path, state), {
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
    return {name: {key: list(array.shape) for key, array in arrays.items()} for name, arrays in sections.items()}
