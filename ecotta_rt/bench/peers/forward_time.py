"""How long the fastest plain inference takes: the denominator of "a step costs x forward passes"."""

import copy
import statistics
import time

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ecotta_rt.bench.peers.memory_format import MEMORY_FORMATS, to_memory_format
from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.tracing import trace

__all__ = ["fastest_forward_ms", "fold_norms"]

_REPETITIONS = 3


def fastest_forward_ms(network: nn.Module, frames: Tensor) -> float:
    """Time of inference alone: norms folded into the convolutions before them, the memory layout that suits.

    A slow denominator flatters every method, so both layouts are tried and the faster one counts, whatever the layout
    the methods are measured in.

    Args:
        network: The source network; not changed.
        frames: float32 `[N, C, H, W]` in [0, 1], one batch of the stream.

    Returns:
        Milliseconds a frame, the median of a few passes.
    """
    folded = fold_norms(network, frames)
    medians = (_median_s(folded, frames, memory_format) for memory_format in MEMORY_FORMATS)
    return min(medians) / len(frames) * 1e3


def fold_norms(network: nn.Module, frames: Tensor) -> nn.Module:
    """A copy of the network for inference, each batch norm merged into the convolution that feeds it alone.

    Args:
        network: Any network; one that cannot be traced is copied as it is.
        frames: An example of what it takes.
    """
    network = copy.deepcopy(network).eval()
    try:
        graph = trace(network, frames)
    except NetworkError:
        return network
    folded = fx.GraphModule(network, graph)
    for node in graph.nodes:
        norm, conv = _module(folded, node), _module(folded, node.args[0] if node.args else None)
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d) and len(node.args[0].users) == 1:
            folded.set_submodule(node.args[0].target, fuse_conv_bn_eval(conv, norm))
            folded.set_submodule(node.target, nn.Identity())
    return folded


def _module(network: nn.Module, node: object) -> nn.Module | None:
    """The module that a node calls, None where it does something else."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return network.get_submodule(str(node.target))


def _median_s(network: nn.Module, frames: Tensor, memory_format: str) -> float:
    to_memory_format(network, memory_format)
    batch = frames.contiguous(memory_format=MEMORY_FORMATS[memory_format])
    times = []
    with torch.inference_mode():
        network(batch)  # warms the caches
        for _ in range(_REPETITIONS):
            start = time.perf_counter()
            network(batch)
            times.append(time.perf_counter() - start)
    return statistics.median(times)
