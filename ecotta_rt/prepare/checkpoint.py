"""Networks to and from files.

Our own file is a .safetensors: weights in fp16, statistics and vectors in fp32, no `num_batches_tracked`, and as
metadata everything needed to build the network again. A foreign checkpoint is loaded into a network that exists.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from torch import Tensor, nn

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.method.cut.normalise import Normalise
from ecotta_rt.method.width.groups import Widths
from ecotta_rt.prepare.matching import KeyMapping, fill, rename, without_common_prefix
from ecotta_rt.prepare.narrowed import narrowed, parse_channels
from ecotta_rt.prepare.networks import MODELS, build_network
from ecotta_rt.prepare.weights import read_safetensors, read_tensors, stored_tensors, write_safetensors

__all__ = ["NetworkFile", "load_checkpoint", "load_network", "read_network_file", "save_network"]

_MOST_CLASSES = 32_768
"""ImageNet-21k has 21,843: more is a damaged or hostile file, and would only allocate a huge classifier."""


@dataclass(frozen=True)
class NetworkFile:
    """What one of our own files says about itself.

    Attributes:
        model: One of `ecotta_rt.prepare.networks.MODELS`.
        classes: Number of classes.
        mean: Per-channel mean of the frames it was trained with.
        std: Per-channel standard deviation.
        test_accuracy_percent: On the clean test images of its data set, None where unknown.
        recipe: How it was trained, as JSON values.
        channels: What was kept of each channel group where it was made narrower; None: it is whole.
    """

    model: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_accuracy_percent: float | None
    recipe: Mapping[str, Any]
    channels: Widths | None = None


def load_network(path: str | PathLike[str]) -> nn.Module:
    """Load one of our own network files.

    Args:
        path: Written by `save_network` or by `benchmarks/train_networks.py`.

    Returns:
        The network, weights fp32, in evaluation mode.

    Raises:
        InputFileError: No such file, or one that is truncated, hostile or of another kind.
        CheckpointError: Its tensors are not those of the model it names.
    """
    tensors, metadata = read_safetensors(path)
    described = _parse(metadata, path)
    try:
        network = build_network(described.model, classes=described.classes, mean=described.mean, std=described.std)
    except UsageError as error:
        raise InputFileError(f"{path}: metadata no network can have: {error}") from error
    if described.channels is not None:
        network = narrowed(network, described.channels, _frame_of(described.model), path)
    fill(network, tensors, path)
    return network.eval()


def read_network_file(path: str | PathLike[str]) -> NetworkFile:
    """Read what one of our own files says about itself. Raises InputFileError as `load_network`."""
    return _parse(read_safetensors(path)[1], path)


def save_network(
    network: nn.Module,
    path: str | PathLike[str],
    *,
    model: str,
    test_accuracy_percent: float | None = None,
    recipe: Mapping[str, Any] | None = None,
    channels: Widths | None = None,
) -> None:
    """Save one of our networks: written whole or not at all.

    Args:
        network: Built by `build_network(model)`, trained since; or made narrower.
        path: An existing file is replaced.
        model: Its id; this and the following are as in `NetworkFile`.
        test_accuracy_percent: On the clean test images.
        recipe: How it was trained; JSON values.
        channels: The widths it has; None: whole.

    Raises:
        UsageError: `network` is not that model, or holds NaN.
        TransferError: The file cannot be written; `path` is as it was before.
    """
    state = network.state_dict()
    normalise = getattr(network, "normalise", None)
    if model not in MODELS or not isinstance(normalise, Normalise):
        raise UsageError(f"cannot save {type(network).__name__} as {model!r}; known models: {', '.join(MODELS)}")
    classes = state[list(state)[-1]].numel()  # the classifier's bias is the last entry of every network here
    whole = build_network(model, classes=classes)
    expected = (whole if channels is None else narrowed(whole, channels, _frame_of(model), path)).state_dict()
    if {key: value.shape for key, value in expected.items()} != {key: value.shape for key, value in state.items()}:
        raise UsageError(f"cannot save {type(network).__name__} as {model!r}: its tensors have other names or shapes")
    stored = stored_tensors(network)
    metadata = {
        "model": model,
        "classes": str(classes),
        "mean": json.dumps(_digits(normalise.mean)),
        "std": json.dumps(_digits(normalise.std)),
        "recipe": json.dumps(dict(recipe or {})),
    }
    if channels is not None:
        metadata |= {"channels": json.dumps(dict(channels)), "frame": json.dumps(_frame_of(model))}
    if test_accuracy_percent is not None:
        metadata["test_accuracy_percent"] = f"{test_accuracy_percent:.2f}"
    write_safetensors(path, stored, metadata)


def load_checkpoint(
    network: nn.Module, path: str | PathLike[str], key_mapping: KeyMapping | None = None
) -> tuple[str, ...]:
    """Load a foreign checkpoint into a network that exists.

    The prefixes `module.` (DataParallel) and `_orig_mod.` (torch.compile) are dropped, `num_batches_tracked` may be
    absent, and keys with a prefix in `network.ignored_keys` are left out. So is any one prefix, where all that the
    network has is there under it and no mapping is given. A file of torch.save may hold the state dict bare or where
    training scripts keep it (see `weights.read_tensors`); no code in it is run.

    Args:
        network: Filled in place when everything fits, else untouched; its mode stays.
        path: A .safetensors file or one written by torch.save.
        key_mapping: Prefixes of the checkpoint's keys and what replaces them, or a function from key to key; None as
            the replacement leaves a key out.

    Returns:
        One line for each change that was made so that it fits.

    Raises:
        InputFileError: A file that is truncated, hostile, or holds more than tensors and plain values.
        CheckpointError: Keys or shapes that do not match; the message lists them and says what to try.
    """
    tensors = rename(read_tensors(path), network, key_mapping, path)
    lines: tuple[str, ...] = ()
    if key_mapping is None:
        tensors, lines = without_common_prefix(tensors, network, path)
    fill(network, tensors, path)
    types = {str(value.dtype) for value in tensors.values() if value.is_floating_point()} - {"torch.float32"}
    return (*lines, f"its {', '.join(sorted(types))} weights were converted to torch.float32") if types else lines


def _parse(metadata: Mapping[str, str], path: str | PathLike[str]) -> NetworkFile:
    if "model" not in metadata:
        raise InputFileError(
            f"{path}: names no model, so it is no network file of ours; build the network and use load_checkpoint"
        )
    if metadata["model"] not in MODELS:
        raise InputFileError(f"{path}: names the model {metadata['model'][:40]!r}; known models: {', '.join(MODELS)}")
    accuracy = _json(metadata, "test_accuracy_percent", "null", path)
    if accuracy is not None and not (_is_number(accuracy) and 0 <= accuracy <= 100):
        raise InputFileError(f"{path}: test_accuracy_percent is {accuracy!r:.40}, not a number from 0 to 100")
    classes = _json(metadata, "classes", "null", path)
    if not isinstance(classes, int) or not 2 <= classes <= _MOST_CLASSES:
        raise InputFileError(f"{path}: classes is {classes!r:.40}, not a whole number from 2 to {_MOST_CLASSES}")
    recipe = _json(metadata, "recipe", "{}", path)
    if not isinstance(recipe, dict):
        raise InputFileError(f"{path}: recipe is {type(recipe).__name__}, not a JSON object")
    mean, std = (_vector(metadata, name, path) for name in ("mean", "std"))
    return NetworkFile(metadata["model"], classes, mean, std, accuracy, recipe, parse_channels(metadata, path))


def _frame_of(model: str) -> tuple[int, int, int]:
    """Of a size that shows its channels; those of ours have the same ones at any size, and 224 takes seconds."""
    side = min(MODELS[model].frame_size, 64)
    return 3, side, side


def _vector(metadata: Mapping[str, str], name: str, path: str | PathLike[str]) -> tuple[float, ...]:
    values = _json(metadata, name, "null", path)
    if not isinstance(values, list) or len(values) != 3 or not all(_is_number(value) for value in values):
        raise InputFileError(f"{path}: {name} is {values!r:.40}, not three finite numbers")
    return tuple(float(value) for value in values)


def _json(metadata: Mapping[str, str], name: str, absent: str, path: str | PathLike[str]) -> Any:
    try:
        return json.loads(metadata.get(name, absent))
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: {name} is not JSON: {metadata[name][:40]!r}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30 and math.isfinite(value)


def _digits(vector: Tensor) -> list[float]:
    """The shortest decimals that give the same fp32 values: 0.4914, not 0.49140000343322754."""
    return [float(str(value)) for value in vector.flatten().cpu().numpy()]
