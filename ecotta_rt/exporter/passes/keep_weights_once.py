"""Do not hold a large frozen weight twice: once for the forward convolution and once turned round for its gradient.

Requires: the shapes that `lower` notes; a convolution of unknown shape is left alone.
Ensures: where a weight has `HEAVY` times the numbers of the feature map it meets, its gradient is ConvTranspose with
the same weight, and the forward Conv has an explicit empty bias. That means what no bias means, but onnxruntime then
leaves the weight where it is mapped instead of copying it into its blocked layout.

Slower: both run on the plain kernels. WRN-40-2, one frame: its last stage, 6 of 16 MiB of weights.
"""

import math
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from ecotta_rt.exporter.builder import constant_of
from ecotta_rt.exporter.frozen_weights import digest_of
from ecotta_rt.exporter.rewriter import Rewriter

__all__ = ["HEAVY", "keep_weights_once"]

HEAVY = 8
"""Numbers of a weight for each number of the feature map; below it, a copy costs less than the slower kernel."""

_PLACES = ("strides", "pads", "dilations")


def keep_weights_once(model: ir.Model, *, one_in: int = 1) -> None:
    """Rewrite `model` in place.

    Args:
        model: The graph.
        one_in: With 2, only every other such weight, for some memory and some of the time.
    """
    found = 0
    rewriter = Rewriter(model.graph)
    forward: dict[bytes, ir.Node] = {}  # by the digest of its weight turned round
    for node in list(model.graph):
        if node.op_type != "Conv" or constant_of(node.inputs[1]) is None:
            continue
        source = forward.get(digest_of(_weight(node)))
        if source is None:
            # Turned twice it is itself again: only what comes first is the forward convolution.
            forward.setdefault(digest_of(_turned_round(_weight(node), node)), node)
        elif _heavy(node) and _is_gradient_of(source, node):
            found += 1
            if found % one_in == 0:
                _share(rewriter, source, node)
    rewriter.remove_dead_nodes()


def _share(r: Rewriter, forward: ir.Node, gradient: ir.Node) -> None:
    with r.before(gradient):
        given = {name: attribute.value for name, attribute in forward.attributes.items()}
        r.replace(gradient, r.op("ConvTranspose", gradient.inputs[0], forward.inputs[1], **given))
    if len(forward.inputs) == 2:
        forward.resize_inputs(3)


def _weight(node: ir.Node) -> NDArray[Any]:
    array = constant_of(node.inputs[1])
    assert array is not None
    return array


def _turned_round(weight: NDArray[Any], conv: ir.Node) -> NDArray[Any]:
    """As `rules.conv` writes it for the gradient; a strided convolution has none of that form."""
    if weight.ndim != 4 or conv.attributes["group"].as_int() != 1 or max(conv.attributes["strides"].as_ints()) > 1:
        return weight[..., :0]
    return weight.swapaxes(0, 1)[..., ::-1, ::-1]


def _is_gradient_of(forward: ir.Node, conv: ir.Node) -> bool:
    """Whether `conv` goes back over the positions that `forward` came from: a weight may be its own turned round."""
    there, back = ({name: list(node.attributes[name].as_ints()) for name in _PLACES} for node in (forward, conv))
    window = [d * (side - 1) for d, side in zip(there["dilations"], _weight(forward).shape[2:], strict=True)]
    pads = [whole - pad for whole, pad in zip(window * 2, there["pads"], strict=True)]
    plain = set(back["strides"]) == {1} and back["dilations"] == there["dilations"]
    return plain and back["pads"] == pads and all(value is None for value in conv.inputs[2:])


def _heavy(conv: ir.Node) -> bool:
    shape = conv.outputs[0].shape
    return shape is not None and _weight(conv).size >= HEAVY * math.prod(shape.numpy())
