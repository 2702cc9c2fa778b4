"""What frames a network takes, as far as it says so itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.normalise import Normalised
from ecotta_rt.prepare.checkpoint import read_network_file
from ecotta_rt.prepare.networks import MODELS

__all__ = ["frame_channels", "made_for", "wanted_normalisation"]


def frame_channels(network: nn.Module) -> int:
    """1 or 3, by its first convolution.

    Raises:
        NetworkError: It takes another number, or has no convolution.
    """
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise NetworkError(f"{type(network).__name__} has no convolution; expected a network for pictures")
    if first.in_channels not in (1, 3):
        raise NetworkError(
            f"the first convolution of {type(network).__name__} takes {first.in_channels} channels; pictures "
            "have 3, or 1 where they are grey"
        )
    return first.in_channels


def made_for(name: str, network: nn.Module) -> tuple[int, int] | None:
    """Height and width of the frames it was made for; None where it does not say.

    Args:
        name: What the user called it: one of `MODELS` and files of ours are known.
        network: Others may say it in an attribute `frame_size`, N or (H, W), or as timm's do in `pretrained_cfg`.
    """
    model = read_network_file(name).model if name.endswith(".safetensors") else name
    if model in MODELS:
        return (MODELS[model].frame_size,) * 2
    inner = network.network if isinstance(network, Normalised) else network
    size: Any = getattr(inner, "frame_size", None) or _about(inner).get("input_size", ())[1:]
    if isinstance(size, int):
        size = (size, size)
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        return None
    return size[0], size[1]


def wanted_normalisation(network: nn.Module) -> str | None:
    """The options that a timm network needs and was not given; None for other networks."""
    about = _about(network)
    if not {"mean", "std"} <= about.keys():
        return None
    mean, std = (" ".join(f"{value:g}" for value in about[name]) for name in ("mean", "std"))
    return f"--mean {mean} --std {std}"


def _about(network: nn.Module) -> Mapping[str, Any]:
    about = getattr(network, "pretrained_cfg", None)
    return about if isinstance(about, Mapping) else {}
