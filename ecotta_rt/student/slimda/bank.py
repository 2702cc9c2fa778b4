"""The file of a bank: one set of weights, and unlabelled frames of the target to choose a width by.

    .safetensors   tensors `network.*` in fp32 at full width, `frames` uint8 [N, H, W, C]
    metadata       bank ("1"), network, classes, frame, least; for one of `MODELS` its mean and std

Frames are needed to rank widths (`Upem`) and to give the chosen one its statistics, so that `ecotta student pick` asks
for nothing but the bank. They are pictures of the target: who gives a bank away gives them away.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import EcottaError, InputFileError, UsageError
from ecotta_rt.method.cut.normalise import Normalise
from ecotta_rt.method.width.groups import Widths, find_groups
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.checkpoint import load_network, save_network
from ecotta_rt.prepare.matching import fill
from ecotta_rt.prepare.narrowed import save_narrowed
from ecotta_rt.prepare.networks import MODELS, build_network
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.prepare.weights import read_safetensors, write_safetensors
from ecotta_rt.student.evaluate import as_floats
from ecotta_rt.student.slimmable.recalibrate import recalibrate
from ecotta_rt.student.slimmable.slimmable import Slimmable

__all__ = ["Bank", "chosen_frames", "load_bank", "save_bank"]

_VERSION = "1"
_MOST_FRAMES, _MOST_FRAME_BYTES = 512, 16 << 20
_MOST_CLASSES, _LARGEST_SIDE = 32_768, 1024
_CALIBRATION_BATCH = 128


@dataclass(frozen=True, eq=False)
class Bank:
    """A trained bank.

    Attributes:
        slimmable: The network, at any width.
        network: What the user called it: one of `MODELS`, or FILE.py:FACTORY.
        classes: Names by logit.
        frame: What the network takes.
        least: Smallest ratio of channels that was trained.
        frames: uint8 `[N, H, W, C]` of the targets.
        recipe: How it was trained; JSON values.
    """

    slimmable: Slimmable
    network: str
    classes: tuple[str, ...]
    frame: FrameSpec
    least: float
    frames: NDArray[np.uint8]
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def floats(self) -> Tensor:
        """The frames as the network takes them, float32 `[N, C, H, W]` in [0, 1]."""
        return as_floats(self.frames).contiguous()

    def at(self, widths: Widths) -> nn.Module:
        """A plain network of these widths, its norms' statistics those of the bank's frames, in evaluation mode."""
        small = narrow(self.slimmable.groups, widths)
        frames = self.floats()  # in parts of one size: each counts as much as another
        batches = torch.tensor_split(frames, max(1, round(len(frames) / _CALIBRATION_BATCH)))
        return recalibrate(small, batches).requires_grad_(False)

    def save_at(self, widths: Widths, path: Path) -> nn.Module:
        """Write the network of these widths, and return it as `ecotta prepare` would load it.

        Raises:
            UsageError: It holds NaN.
            TransferError: It cannot be written.
        """
        small, recipe = self.at(widths), {**self.recipe, "classes": list(self.classes), "frame": list(self.frame.size)}
        if self.network in MODELS:
            save_network(small, path, model=self.network, channels=widths, recipe=recipe)
            return load_network(path)
        frame = (self.frame.channels, *self.frame.size)
        save_narrowed(small, path, channels=widths, frame=frame, more={"recipe": json.dumps(recipe)})
        small.load_state_dict(read_safetensors(path)[0], strict=False)
        return small


def chosen_frames(targets: list[NDArray[np.uint8]], seed: int) -> NDArray[np.uint8]:
    """Frames for a bank: at most 512 and 16 MiB, the same share of each target, at random."""
    each = int(np.prod(targets[0].shape[1:]))
    room = min(_MOST_FRAMES, max(2, _MOST_FRAME_BYTES // each))
    rng = np.random.default_rng(seed)
    parts = [frames[np.sort(rng.permutation(len(frames))[: max(1, room // len(targets))])] for frames in targets]
    mixed = np.concatenate(parts)
    return np.ascontiguousarray(mixed[rng.permutation(len(mixed))])


def save_bank(bank: Bank, path: Path) -> None:
    """Write a bank whole or not at all.

    Raises:
        UsageError: It holds NaN.
        TransferError: It cannot be written.
    """
    whole = narrow(bank.slimmable.groups, {})
    state = {name: value for name, value in whole.state_dict().items() if not name.endswith("num_batches_tracked")}
    bad = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise UsageError(f"cannot save a bank with NaN or infinite values: {', '.join(bad[:6])}")
    tensors = {f"network.{name}": value for name, value in state.items()}
    metadata = {
        "bank": _VERSION,
        "network": bank.network,
        "classes": json.dumps(list(bank.classes)),
        "frame": json.dumps(asdict(bank.frame)),
        "least": json.dumps(bank.least),
        "recipe": json.dumps(dict(bank.recipe)),
    }
    normalise = getattr(whole, "normalise", None)
    if bank.network in MODELS and isinstance(normalise, Normalise):
        metadata |= {
            name: json.dumps([float(str(value)) for value in getattr(normalise, name).flatten().numpy()])
            for name in ("mean", "std")
        }
    write_safetensors(path, {**tensors, "frames": torch.from_numpy(bank.frames)}, metadata)


def load_bank(path: Path, network: str | None = None, tell: Callable[[str], None] | None = None) -> Bank:
    """Read a bank.

    Args:
        path: Written by `save_bank`.
        network: FILE.py:FACTORY of a bank that is of no model of ours. **Runs the user's own code**; what the file
            names is never run.
        tell: As for `open_network`.

    Raises:
        UsageError: A bank of a FACTORY that is not given, or a model id beside one.
        InputFileError: No bank, damaged, hostile, or of another network.
    """
    tensors, metadata = read_safetensors(path)
    if metadata.get("bank") != _VERSION:
        raise InputFileError(f"{path}: no bank of ours; `ecotta student slim` makes one")
    classes, frame, least = _classes(metadata, path), _frame(metadata, path), _least(metadata, path)
    frames = tensors.pop("frames", None)
    shape = (frame.height, frame.width, frame.channels)
    if frames is None or frames.dtype != torch.uint8 or frames.ndim != 4 or tuple(frames.shape[1:]) != shape:
        raise InputFileError(f"{path}: its frames are not uint8 [N, {', '.join(map(str, shape))}]")
    if len(frames) < 2:
        raise InputFileError(f"{path}: {len(frames)} frames; at least 2 are needed for statistics")
    name = metadata.get("network", "")
    built = _build(name, network, len(classes), metadata, path, tell)
    try:
        whole = narrow(find_groups(built, torch.zeros(1, frame.channels, *frame.size)), {})
        fill(whole, {key.removeprefix("network."): value for key, value in tensors.items()}, path)
        slimmable = Slimmable(whole, torch.zeros(1, frame.channels, *frame.size))
        there = slimmable.classifier().out_features
    except InputFileError:
        raise
    except EcottaError as error:
        raise InputFileError(f"{path}: its network does not take its frames: {error}") from error
    if there != len(classes):
        raise InputFileError(f"{path}: names {len(classes)} classes, and its network tells {there} apart")
    recipe = _json(metadata, "recipe", path)
    name = name if network is None else network
    return Bank(slimmable, name, classes, frame, least, frames.numpy(), recipe if isinstance(recipe, dict) else {})


def _build(
    name: str,
    given: str | None,
    classes: int,
    metadata: Mapping[str, str],
    path: Path,
    tell: Callable[[str], None] | None,
) -> nn.Module:
    if name in MODELS:
        if given is not None:
            raise UsageError(f"network {given}: {path} is a bank of {name}; leave it out")
        try:
            mean, std = ([float(value) for value in _json(metadata, each, path)] for each in ("mean", "std"))
            return build_network(name, classes=classes, mean=mean, std=std)
        except (TypeError, ValueError, UsageError) as error:
            raise InputFileError(f"{path}: metadata no network can have: {error}") from error
    if given is None:
        raise UsageError(f"{path} is a bank of {name[:80]!r}: name that network as FILE.py:FACTORY")
    if given in MODELS or given.endswith(".safetensors"):
        raise UsageError(f"network {given}: {path} is a bank of {name[:80]!r}, which is no model of ours")
    return open_network(given, tell=tell)


def _classes(metadata: Mapping[str, str], path: Path) -> tuple[str, ...]:
    found = _json(metadata, "classes", path)
    named = (
        isinstance(found, list) and 2 <= len(found) <= _MOST_CLASSES and all(isinstance(name, str) for name in found)
    )
    if not named:
        raise InputFileError(f"{path}: classes is {found!r:.40}, not a list of 2 names or more")
    return tuple(found)


def _frame(metadata: Mapping[str, str], path: Path) -> FrameSpec:
    found = _json(metadata, "frame", path)
    try:
        sides = found["height"], found["width"]
        if not all(type(side) is int and 1 <= side <= _LARGEST_SIDE for side in sides) or found["channels"] not in (
            1,
            3,
        ):
            raise ValueError(f"frames of {sides}")
        if found["resize"] not in ("cover", "stretch") or not 0 < float(found["crop"]) <= 1:
            raise ValueError(f"resize {found['resize']!r:.20}, crop {found['crop']!r:.20}")
        return FrameSpec(int(found["channels"]), *sides, found["resize"], float(found["crop"]))
    except (TypeError, KeyError, ValueError) as error:
        raise InputFileError(f"{path}: frame is {found!r:.60}, not what a network takes: {error}") from error


def _least(metadata: Mapping[str, str], path: Path) -> float:
    found = _json(metadata, "least", path)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1:
        raise InputFileError(f"{path}: least is {found!r:.40}, not a ratio between 0 and 1")
    return float(found)


def _json(metadata: Mapping[str, str], name: str, path: Path) -> Any:
    try:
        return json.loads(metadata.get(name, "null"))
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: {name} is not JSON: {metadata[name][:40]!r}") from error
