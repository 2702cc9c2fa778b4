"""Turn what a user names on a command line into a network, and find out what frames it takes.

It may be one of ours, a file of ours, or their own code.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ecotta_rt.errors import InputFileError, NetworkError, UsageError
from ecotta_rt.method.cut.any_layout import in_any_layout
from ecotta_rt.method.cut.normalise import Normalised
from ecotta_rt.method.cut.one_line import one_line
from ecotta_rt.method.cut.unwrapping import in_float32, settled, unwrapped
from ecotta_rt.prepare.checkpoint import load_checkpoint, load_network, read_network_file
from ecotta_rt.prepare.matching import KeyMapping
from ecotta_rt.prepare.narrowed import LARGEST_SIDE, narrowed_as_in
from ecotta_rt.prepare.networks import MODELS, build_network

__all__ = ["frame_channels", "made_for", "open_network", "wanted_normalisation"]

_OWN_MODULE = "ecotta_profiled_network"  # under which a user's file is imported


def open_network(
    name: str,
    *,
    classes: int | None = None,
    checkpoint: Path | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    key_mapping: KeyMapping | None = None,
    tell: Callable[[str], None] | None = None,
    settle: bool = True,
) -> nn.Module:
    """The network that `name` stands for.

    Args:
        name: A model id; a network file of ours (`.safetensors`); or `FILE.py:FACTORY` or `PACKAGE.MODULE:FACTORY`,
            where FACTORY is called without arguments and returns an `nn.Module`. **Runs the user's own code.**
        classes: Number of classes, for a model id.
        checkpoint: Weights to load into it; of a network that was made narrower, the network becomes as narrow.
        mean: Of the frames it was trained with, in [0, 1], by channel, where it does not normalise them itself; for a
            model id, where it is not that of the public checkpoints.
        std: Standard deviation, as `mean`.
        key_mapping: From the checkpoint's keys to the network's; see `load_checkpoint`.
        tell: Called with one line for each change to network or weights that was made so that they fit.
        settle: Make weights that are computed at each call (weight norm, say) plain ones. Off: its tensors keep the
            names that they have in the checkpoint.

    Raises:
        UsageError: There is no such network, or the factory fails or returns something else.
        InputFileError: A file that cannot be read.
    """
    if classes is not None and name not in MODELS:
        raise UsageError(f"--classes {classes} goes with a model id ({', '.join(MODELS)}); {name!r} sets its own")
    if bool(mean) != bool(std):
        raise UsageError("--mean and --std go together: give both, or leave both out")
    if mean and name.endswith(".safetensors"):
        raise UsageError(f"--mean {mean[0]:g}: {name} says itself how its frames are normalised; leave it out")
    if name in MODELS:
        network = build_network(name, classes=classes, mean=_for_three(mean), std=_for_three(std))
    elif name.endswith(".safetensors"):
        network = load_network(name)
    elif ":" in name:
        network = in_any_layout(in_float32(unwrapped(_build_own(name)), tell))
    else:
        raise UsageError(
            f"unknown network {name!r}; known models: {', '.join(MODELS)}; "
            "or a .safetensors file of ours, or FILE.py:FACTORY for a network of your own"
        )
    if checkpoint is not None:
        network = narrowed_as_in(network, checkpoint, tell)
        for line in load_checkpoint(network, checkpoint, key_mapping):
            (tell or _nobody)(line)
    elif key_mapping is not None:
        raise UsageError("--key-mapping renames the keys of a --checkpoint, and none is given")
    if settle:
        network = settled(network, tell)
    if mean and name not in MODELS:
        return Normalised(network, mean, std, frame_channels(network))
    return network


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
        name: What the user called it: one of `MODELS` and files of ours are known; those that `ecotta student` wrote
            say it themselves.
        network: Others may say it in an attribute `frame_size`, N or (H, W), or as timm's do in `pretrained_cfg`.

    Raises:
        InputFileError: A file of ours that says something else than a height and a width up to `LARGEST_SIDE`.
    """
    model, size = name, None
    if name.endswith(".safetensors"):
        described = read_network_file(name)
        model, size = described.model, described.recipe.get("frame")
        # The file may be a stranger's, and a network is tried on a frame of this size.
        if size is not None and (_sides(size) is None or max(size) > LARGEST_SIDE):
            raise InputFileError(f"{name}: frame is {size!r:.40}, not [height, width] up to {LARGEST_SIDE}")
    if model in MODELS:
        return _sides(size) or (MODELS[model].frame_size,) * 2
    inner = network.network if isinstance(network, Normalised) else network
    size = getattr(inner, "frame_size", None) or _about(inner).get("input_size", ())[1:]
    return _sides((size, size) if isinstance(size, int) else size)


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width, where these are two."""
    if not isinstance(size, Sequence) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        return None
    return size[0], size[1]


def wanted_normalisation(network: nn.Module) -> str | None:
    """The options that a timm network needs and was not given; None for other networks."""
    about = _about(network)
    if not {"mean", "std"} <= about.keys():
        return None
    mean, std = (" ".join(f"{value:g}" for value in about[name]) for name in ("mean", "std"))
    return f"--mean {mean} --std {std}"


def _nobody(line: str) -> None:
    """Ignore a line."""


def _for_three(values: Sequence[float]) -> tuple[float, ...] | None:
    return (tuple(values) * 3 if len(values) == 1 else tuple(values)) or None


def _build_own(name: str) -> nn.Module:
    place, _, factory_name = name.rpartition(":")
    with _importable(Path(place).parent if place.endswith(".py") else Path.cwd()):
        module = _import(place)
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            raise UsageError(f"{name}: {place} has no function or class {factory_name!r} to call")
        try:
            network = factory()
        except Exception as error:
            raise UsageError(f"{name}: {factory_name}() raised {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name}: {factory_name}() returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def _import(place: str) -> ModuleType:
    if place.endswith(".py") and not Path(place).is_file():
        raise UsageError(f"no such file: {place}")
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(_OWN_MODULE, place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[_OWN_MODULE] = module  # dataclasses look their module up there
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{place} can't be imported: {type(error).__name__}: {one_line(error)}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let a user's module import its neighbours, as `python FILE.py` would."""
    before = list(sys.path)
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path[:] = before


def _about(network: nn.Module) -> Mapping[str, Any]:
    about = getattr(network, "pretrained_cfg", None)
    return about if isinstance(about, Mapping) else {}
