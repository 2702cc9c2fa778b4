"""Undo a Split whose pieces are put together again in the same order.

Requires: the shapes that `lowering.py` notes; a Concat of unknown shape is left alone.
Ensures: no Concat to a vector joins all pieces of one split vector (through Reshapes); it is that vector itself.

The step takes parameters and momentum apart, by name, to use them, and joins them to make one update for all.
"""

import onnx_ir as ir

from ecotta_rt.exporter.rewriter import Rewriter

__all__ = ["join_splits"]


def join_splits(model: ir.Model) -> None:
    """Rewrite `model` in place."""
    rewriter = Rewriter(model.graph)
    for node in list(model.graph):
        if node.op_type == "Concat" and (whole := _split_whole(node)) is not None:
            rewriter.replace(node, whole)
    rewriter.remove_dead_nodes()


def _split_whole(concat: ir.Node) -> ir.Value | None:
    pieces = [_before_reshapes(value) for value in concat.inputs]
    split = None if pieces[0] is None else pieces[0].producer()
    if split is None or split.op_type != "Split" or len(split.outputs) != len(pieces):
        return None
    whole, joined = split.inputs[0], concat.outputs[0]
    # From a vector to a vector: then any shape in between was undone before the Concat.
    if whole is None or any(value.shape is None or len(value.shape) != 1 for value in (whole, joined)):
        return None
    return whole if all(a is b for a, b in zip(pieces, split.outputs, strict=True)) else None


def _before_reshapes(value: ir.Value | None) -> ir.Value | None:
    while value is not None and (node := value.producer()) is not None and node.op_type == "Reshape":
        value = node.inputs[0]
    return value
