"""From the module somebody has to the network in it, with plain float32 weights on the CPU.

    unwrapped    out of DataParallel and torch.compile, before its weights are loaded
    in_float32   half and double networks converted, brought from other devices
    settled      weights that are computed at each call (weight norm, spectral norm, pruning) become plain ones

The first two come before a checkpoint is loaded, whose keys are the inner network's; the last one after it.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.modes import kept_modes

__all__ = ["in_float32", "settled", "unwrapped"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(network: nn.Module) -> nn.Module:
    """The module inside DataParallel, DistributedDataParallel and torch.compile.

    Raises:
        NetworkError: A TorchScript module, or lazy modules without shapes.
    """
    while True:
        inner = getattr(network, "_orig_mod", None) if not isinstance(network, _WRAPPERS) else network.module
        if not isinstance(inner, nn.Module):
            break
        network = inner
    scripted = [name for name, module in network.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        raise NetworkError(
            f"{scripted[0] or 'the network'} is a TorchScript module, whose code cannot be taken apart: give the "
            "module it was scripted or traced from (its weights: scripted.state_dict())"
        )
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    lazy = [name for name, value in tensors.items() if is_lazy(value)]
    if lazy:
        raise NetworkError(
            f"{lazy[0].rpartition('.')[0] or lazy[0]} is lazy and has no shape yet: call the network once on frames in "
            "its factory, network(torch.zeros(2, 3, H, W)), before it is returned"
        )
    return network


def in_float32(network: nn.Module, tell: Callable[[str], None] | None = None) -> nn.Module:
    """Bring it to the CPU and into float32, in place.

    Args:
        network: From `unwrapped`.
        tell: Hears of weights of another type.

    Raises:
        NetworkError: Tensors without values, complex or quantised.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    empty = [name for name, value in tensors.items() if value.is_meta]
    if empty:
        raise NetworkError(f"{empty[0]} has no values (device 'meta'): build the network on the CPU")
    odd = [name for name, value in tensors.items() if value.is_complex() or value.is_quantized]
    if odd:
        raise NetworkError(f"{odd[0]} is {tensors[odd[0]].dtype}: adaptation wants float32 weights")
    other = sorted({str(v.dtype) for v in tensors.values() if v.is_floating_point() and v.dtype != torch.float32})
    if other:
        (tell or _nobody)(f"weights of {', '.join(other)} were converted to torch.float32")
    return network.to("cpu", torch.float32)


def settled(network: nn.Module, tell: Callable[[str], None] | None = None) -> nn.Module:
    """Make every weight a plain parameter, in place.

    Args:
        network: From `unwrapped`, with its final weights.
        tell: Hears what was done.
    """
    with kept_modes(network):
        network.eval()  # in training mode a look at a spectral norm moves it
        computed = [name for name, module in list(network.named_modules()) if _settle(module)]
    if computed:
        more = f" and {len(computed) - 1} more" if len(computed) > 1 else ""
        (tell or _nobody)(
            f"the weight of {computed[0]}{more} was computed at each call; as it is frozen it is now computed once"
        )
    return network


def _nobody(line: str) -> None:
    """Hears nothing."""


def _settle(module: nn.Module) -> bool:
    """Whether there was anything to do."""
    names: list[str] = []
    if parametrize.is_parametrized(module):
        names += list(module.parametrizations)  # type: ignore[arg-type]
        for name in list(names):
            parametrize.remove_parametrizations(module, name)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
            names.append(hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
            names.append(hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
            names.append(hook._tensor_name)
    return bool(names)
