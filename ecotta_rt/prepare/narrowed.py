"""The file of a network that was made narrower: what was kept of each channel group, beside its tensors.

    metadata `channels`   JSON object, group -> channels kept; groups that are not named stayed whole
    metadata `frame`      JSON list [C, H, W] of the frames it was made with; not for one of `MODELS`

Who loads such a file builds the network at full width, finds the same groups in it, and removes the same channels
before its tensors are filled in.
"""

import json
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import torch
from torch import nn

from ecotta_rt.errors import InputFileError, NetworkError, UsageError
from ecotta_rt.method.width.groups import Widths, find_groups
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.weights import has_safetensors, read_safetensors, stored_tensors, write_safetensors

__all__ = ["LARGEST_SIDE", "channels_in", "narrowed", "narrowed_as_in", "parse_channels", "save_narrowed"]

LARGEST_SIDE = 1024
"""Pixels of the largest frame that a network file may name: to try a network costs memory in their number."""

_MOST_GROUPS, _MOST_CHANNELS = 10_000, 1 << 20

FilePath = str | PathLike[str]


def save_narrowed(
    network: nn.Module,
    path: FilePath,
    *,
    channels: Widths,
    frame: tuple[int, int, int],
    more: Mapping[str, str] | None = None,
) -> None:
    """Save a network of the user's own that was made narrower, for `--checkpoint` beside its FACTORY.

    Args:
        network: From `narrow`, its norms recalibrated.
        path: An existing file is replaced.
        channels: The widths it has.
        frame: `(C, H, W)` of its frames.
        more: Metadata for people.

    Raises:
        UsageError: It holds NaN or infinite values.
        TransferError: The file cannot be written; `path` is as it was before.
    """
    metadata = {**(more or {}), "channels": json.dumps(dict(channels)), "frame": json.dumps(list(frame))}
    write_safetensors(path, stored_tensors(network), metadata)


def narrowed_as_in(network: nn.Module, path: FilePath, tell: Callable[[str], None] | None = None) -> nn.Module:
    """`network` with the channels that a checkpoint has; as it is where the checkpoint says nothing of channels.

    Args:
        network: At full width.
        path: A checkpoint of any kind.
        tell: Hears that it was made narrower.

    Raises:
        InputFileError: Metadata that no network, or not this one, can have.
    """
    channels = channels_in(path)
    if channels is None:
        return network
    small = narrowed(network, channels, _frame(read_safetensors(path)[1], path), path)
    if tell is not None:
        weights, before = (sum(value.numel() for value in one.parameters()) for one in (small, network))
        tell(f"{path} is a narrower network: {weights:,} of {before:,} weights")
    return small


def channels_in(path: FilePath) -> dict[str, int] | None:
    """What a checkpoint says of its channels; None: nothing. Raises InputFileError as `parse_channels`."""
    return parse_channels(read_safetensors(path)[1], path) if has_safetensors(path) else None


def narrowed(network: nn.Module, channels: Widths, frame: tuple[int, int, int], path: FilePath) -> nn.Module:
    """`network` with the channels that a file names.

    Args:
        network: At full width.
        channels: By group.
        frame: `(C, H, W)` of its frames.
        path: For messages.

    Raises:
        InputFileError: Groups or numbers that this network does not have.
    """
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != frame[0]:
        raise InputFileError(f"{path}: made for frames of {frame[0]} channels; this network takes {first.in_channels}")
    try:
        groups = find_groups(network, torch.zeros(1, *frame))
    except NetworkError as error:
        raise InputFileError(f"{path}: says that channels were removed from this network, but: {error}") from error
    try:
        small = narrow(groups, channels)
    except UsageError as error:
        raise InputFileError(f"{path}: its channels are not those of this network: {error}") from error
    if getattr(small, "frame_size", None) is None:
        small.frame_size = frame[1:]  # type: ignore[assignment]
    return small


def parse_channels(metadata: Mapping[str, str], path: FilePath) -> dict[str, int] | None:
    """The channels kept of each group; None where the file says nothing of any.

    Raises:
        InputFileError: Not a JSON object of names and numbers.
    """
    if "channels" not in metadata:
        return None
    found = _json(metadata, "channels", path)
    if not isinstance(found, dict) or len(found) > _MOST_GROUPS:
        raise InputFileError(f"{path}: channels is {found!r:.40}, not a JSON object, group to channels")
    for name, count in found.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_CHANNELS:
            raise InputFileError(f"{path}: channels of {name[:60]!r} is {count!r:.40}, not a number from 1")
    return found


def _frame(metadata: Mapping[str, str], path: FilePath) -> tuple[int, int, int]:
    found = _json(metadata, "frame", path)
    sound = isinstance(found, list) and len(found) == 3 and all(type(side) is int and side > 0 for side in found)
    if not sound or found[0] not in (1, 3) or max(found[1:]) > LARGEST_SIDE:
        raise InputFileError(f"{path}: frame is {found!r:.40}, not [1 or 3, height, width] up to {LARGEST_SIDE}")
    return found[0], found[1], found[2]


def _json(metadata: Mapping[str, str], name: str, path: FilePath) -> Any:
    try:
        return json.loads(metadata.get(name, "null"))
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: {name} is not JSON: {metadata[name][:40]!r}") from error
