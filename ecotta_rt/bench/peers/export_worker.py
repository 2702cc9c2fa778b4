"""The process that makes bundles: reads one order from stdin, tells each graph that it begins.

    {"graph": name, "done": i, "total": n}

See `ecotta_rt.bench.parent` for how the two talk.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ecotta_rt.bench.adaptation import TENT_ADAPTATION, step_options
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bench.parent import Tell, answer_parent
from ecotta_rt.bench.peers.forward_graph import export_forward
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.method.tent import Tent
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.prepare.pipeline import export_bundle, model_name

__all__ = ["main", "make"]


def main() -> int:
    """Fulfil the order on stdin; returns the exit code."""
    return answer_parent(lambda tell: make(json.loads(sys.stdin.readline()), tell))


def make(task: dict[str, Any], tell: Tell) -> None:
    """Make one file.

    Args:
        task: `kind` (the class of the order), `order` (its fields), and `path`.
        tell: Hears of each graph.
    """
    maker = _make_bundle if task["kind"] == "BundleOrder" else _make_forward
    maker(task["order"], Path(task["path"]), tell)


def _make_bundle(order: dict[str, Any], path: Path, tell: Tell) -> None:
    tent = order["warmed"] is None
    options = step_options(order["normalisation"], order["gradient"], frame_by_frame=order["frame_by_frame"])
    wanted = ExportOptions(
        model_name(order["network"]),
        classes=order["classes"],
        frame=FrameSpec(3, *order["frame_size"]),
        batches=order["batches"],
        step=replace(options, **TENT_ADAPTATION) if tent else options,
        fast=order["fast"],
    )

    def report(graph: str, done: int, total: int) -> None:
        tell({"graph": graph, "done": done, "total": total})

    network = load_network(order["network"])
    if not tent:
        export_bundle(network, Path(order["warmed"]), path, wanted, report=report)
        return
    method = Tent(partition(network.eval(), torch.zeros(1, 3, *order["frame_size"]), 1))
    note = {"network_sha256": sha256_of(Path(order["network"]))}
    state = replace(to_adapt_state(initial_state(method), method.digest()), metadata=note)
    export(method, state, path, wanted, report)


def _make_forward(order: dict[str, Any], path: Path, tell: Tell) -> None:
    tell({"graph": f"forward-{order['batch']}", "done": 0, "total": 1})
    frames = torch.zeros(order["batch"], 3, *order["frame_size"])
    export_forward(load_network(order["network"]), frames, path)


if __name__ == "__main__":
    sys.exit(main())
