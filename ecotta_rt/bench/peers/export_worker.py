"""The process that makes bundles: reads one order from stdin, tells its progress in JSON lines on stdout.

{"graph": name, "done": i, "total": n}      the next graph is begun
{"error": "...", "exit_code": n}            an error of ours; anything else is a traceback on stderr
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from ecotta_rt.bench.child_lines import Tell, claim_stdout
from ecotta_rt.bench.peers.forward_graph import export_forward
from ecotta_rt.bench.peers.step_options import step_options
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import EXIT_INTERRUPTED, EcottaError
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.prepare.pipeline import export_bundle, model_name

__all__ = ["main"]


def main() -> int:
    """Fulfil the order on stdin; returns the exit code."""
    tell = claim_stdout()
    try:
        task: dict[str, Any] = json.loads(sys.stdin.read())
        make = _make_bundle if task["kind"] == "BundleOrder" else _make_forward
        make(task["order"], Path(task["path"]), tell)
    except EcottaError as error:
        tell({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def _make_bundle(order: dict[str, Any], path: Path, tell: Tell) -> None:
    options = step_options(order["normalisation"], order["gradient"], frame_by_frame=order["frame_by_frame"])
    wanted = ExportOptions(
        model_name(order["network"]),
        classes=order["classes"],
        frame=FrameSpec(3, *order["frame_size"]),
        batches=order["batches"],
        step=options,
        fast=order["fast"],
    )
    export_bundle(
        load_network(order["network"]),
        Path(order["warmed"]),
        path,
        wanted,
        report=lambda graph, done, total: tell({"graph": graph, "done": done, "total": total}),
    )


def _make_forward(order: dict[str, Any], path: Path, tell: Tell) -> None:
    tell({"graph": f"forward-{order['batch']}", "done": 0, "total": 1})
    frames = torch.zeros(order["batch"], 3, *order["frame_size"])
    export_forward(load_network(order["network"]), frames, path)


if __name__ == "__main__":
    sys.exit(main())
