"""Put a meta group beside each part of a frozen network.

partition  ->  attach()  ->  AdaptableNetwork  ->  warm_up()  ->  step()
"""

import json
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn

from ecotta_rt.errors import InputFileError, NetworkError, UsageError
from ecotta_rt.method.cut.partition import Partition
from ecotta_rt.method.ecotta import AdaptableNetwork, MetaGroup
from ecotta_rt.state import AdaptState

__all__ = ["attach", "attach_as", "momenta_note", "norms_learn_in"]

_MOMENTA = "momenta"
"""Name among a state's metadata."""


def attach(
    partition: Partition,
    kernel: int = 3,
    momenta: Mapping[str, float] = MappingProxyType({}),
    *,
    norms_learn: bool = False,
    seed: int | None = None,
) -> AdaptableNetwork:
    """Freeze the network behind `partition` and put a fresh meta group beside each part.

    The network is taken over, not copied: its parameters stop requiring gradients and its norms' momentum becomes 0.

    Args:
        partition: From `partition`.
        kernel: Side of the meta convolutions' window, odd. 3 for 32x32 networks; 1 for ResNet-50, where 3 would add
            24.9 M parameters.
        momenta: By norm name, the momentum of norms that have one of their own: 0 holds a norm's statistics.
        norms_learn: Let scale and shift of the frozen norms behind the stem learn, too.
        seed: Of the groups' first weights; None: torch's own generator, which every process seeds anew.

    Raises:
        UsageError: An even or non-positive kernel, or a momentum of no norm.
        NetworkError: A BatchNorm that is called twice (its statistics would be two things under one name), or one
            without running statistics.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise UsageError(f"kernel={kernel}: a meta convolution needs an odd window, 1 or 3")
    _require_plain_norms(partition)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        groups = [MetaGroup(part.in_channels, part.out_channels, part.stride, kernel) for part in partition.parts]
    return AdaptableNetwork(partition, groups, momenta, norms_learn)


def attach_as(partition: Partition, state: AdaptState) -> AdaptableNetwork:
    """The groups that `state` was made with beside each part: window, momenta and what else learns are read off it.

    Args:
        partition: Into as many parts as the state has groups.
        state: Its parameters are not loaded; see `TorchEngine`.

    Raises:
        InputFileError: The state holds no meta groups, or damaged momenta.
    """
    weight = state.parameters.get("groups.0.conv.weight")
    if weight is None or weight.ndim != 4:
        raise InputFileError("this state has no groups.0.conv.weight [C', C, k, k], so it holds no meta groups")
    try:
        momenta = {str(name): float(u) for name, u in json.loads(state.metadata.get(_MOMENTA, "{}")).items()}
        return attach(partition, int(weight.shape[-1]), momenta, norms_learn=norms_learn_in(state))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputFileError(f"this state's momenta do not fit the network: {error}") from error


def norms_learn_in(state: AdaptState) -> bool:
    """Whether frozen norms learn in a network that `state` was made with."""
    return any(not name.startswith("groups.") for name in state.parameters)


def momenta_note(network: AdaptableNetwork) -> dict[str, str]:
    """What a state's metadata must say so that `attach_as` can make `network` again."""
    return {_MOMENTA: json.dumps(dict(network.momenta))} if network.momenta else {}


def _require_plain_norms(partition: Partition) -> None:
    seen: set[str] = set()
    pieces = [partition.stem, *(part.module for part in partition.parts), partition.head]
    for piece in pieces:
        modules = dict(piece.named_modules())
        for node in piece.graph.nodes:
            norm = modules.get(str(node.target)) if node.op == "call_module" else None
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            if str(node.target) in seen:
                raise NetworkError(f"{node.target}: this BatchNorm is called twice; give each call a module of its own")
            if norm.running_mean is None:
                raise NetworkError(
                    f"{node.target}: this BatchNorm has no running statistics (track_running_stats=False)"
                )
            seen.add(str(node.target))
