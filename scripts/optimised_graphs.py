"""Let onnxruntime write down what it makes of a bundle's graphs on this machine, and count the operators in it.

Which kernels it picks, and so what it keeps in memory, depends on the processor: on x86-64 convolutions become blocked
ones (`com.microsoft.nchwc`), with a second copy of their weights. Needs what a device has, no more.

example:
  python scripts/optimised_graphs.py net.ecotta /tmp/graphs     writes GRAPH.all.onnx, ..., and operators.json
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from ecotta_rt.bundle import read_bundle
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.onnx_reader import read_model
from ecotta_rt.options import OPTIMISATIONS, SessionOptions
from ecotta_rt.session.opening import open_session

BLOCKED = "com.microsoft.nchwc"


def main() -> None:
    """Every graph of the bundle, with each optimisation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the graphs go")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for entry in read_bundle(args.bundle).manifest.graphs:
        for optimisation in OPTIMISATIONS:
            target = args.folder / f"{entry.name}.{optimisation}.onnx"
            save(args.bundle, entry.name, optimisation, target)
            counts[target.stem] = count(target)
            blocked = counts[target.stem]["blocked_nodes"]
            print(f"{target.stem}: {counts[target.stem]['nodes']} nodes, {blocked} of them blocked", flush=True)
    write_atomic(args.folder / "operators.json", (json.dumps(counts, indent=2) + "\n").encode())


def save(path: Path, graph: str, optimisation: str, target: Path) -> None:
    """Load a graph as the runtime does, and have it written on the way."""
    open_session(read_bundle(path, verify=False), graph, SessionOptions(optimisation=optimisation), target)


def count(path: Path) -> dict[str, object]:
    """Nodes by operator, those of other domains as `domain:operator`; `inline_bytes` are tensors no longer mapped."""
    model = read_model(path.read_bytes(), path.name)
    nodes = [*model.graph.all_nodes()]
    names = Counter(f"{node.domain}:{node.op}" if node.domain else node.op for node in nodes)
    return {
        "nodes": len(nodes),
        "blocked_nodes": sum(node.domain == BLOCKED for node in nodes),
        "inline_bytes": model.inline_bytes,
        "operators": dict(sorted(names.items())),
    }


if __name__ == "__main__":
    main()
