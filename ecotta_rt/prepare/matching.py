"""Put named tensors into a network, all of them or none.

Every reason why they do not fit is gathered into one CheckpointError: what the network misses, what it has no place
for, what has another shape, and what to try.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike

import torch
from torch import Tensor, nn

from ecotta_rt.errors import CheckpointError, InputFileError
from ecotta_rt.method.cut.normalise import Normalise

__all__ = ["KeyMapping", "fill", "rename", "without_common_prefix"]

KeyMapping = Mapping[str, str | None] | Callable[[str], str | None]
"""From a checkpoint's keys to the network's: prefixes and what replaces them, or a function. None drops a key."""

FilePath = str | PathLike[str]

_OPTIONAL_KEY = "num_batches_tracked"
"""What a checkpoint may leave out."""

_LISTED, _FEW = 6, 3
_WRAPPING_PREFIXES = ("module.", "_orig_mod.")
"""DataParallel's and torch.compile's."""


def rename(
    tensors: Mapping[str, Tensor], network: nn.Module, key_mapping: KeyMapping | None, path: FilePath
) -> dict[str, Tensor]:
    """Give a checkpoint's tensors the network's names.

    Args:
        tensors: As read.
        network: Its attribute `ignored_keys` lists prefixes of keys to leave out.
        key_mapping: Applied once `module.` and `_orig_mod.` are gone from a key; the longest prefix wins.
        path: For messages.

    Raises:
        CheckpointError: Two keys become one.
    """
    renamed: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    ignored: Sequence[str] = getattr(network, "ignored_keys", ())
    for key, value in tensors.items():
        new = _mapped(_unwrapped(key, network), key_mapping)
        if new is None or new.startswith(tuple(ignored)):
            continue
        if new in renamed:
            raise CheckpointError(f"{path}: keys '{origin[new]}' and '{key}' both become '{new}'; correct key_mapping")
        renamed[new], origin[new] = value, key
    return renamed


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: FilePath) -> None:
    """Copy tensors into the network's parameters and buffers of the same names.

    Args:
        network: Filled in place, only when everything fits. Its dtypes and its mode stay.
        tensors: By the network's names; `num_batches_tracked` may be absent.
        path: For messages.

    Raises:
        CheckpointError: Keys or shapes that do not match, or another preprocessing than the network's.
        InputFileError: Values no network can have: NaN, infinite, or a variance below zero.
    """
    wanted = network.state_dict()
    tensors = _without_preprocessing(network, tensors, wanted, path)
    missing = [key for key in wanted if key not in tensors and not key.endswith(_OPTIONAL_KEY)]
    unexpected = [key for key in tensors if key not in wanted]
    misshapen = [key for key in tensors if key in wanted and tensors[key].shape != wanted[key].shape]
    if missing or unexpected or misshapen:
        raise CheckpointError(_mismatch(network, wanted, tensors, missing, unexpected, misshapen, path))
    for key, value in tensors.items():
        _check_values(key, value, wanted[key], path)
    with torch.no_grad():
        for key, value in tensors.items():
            wanted[key].copy_(value)  # state_dict() returns the network's own storages


def without_common_prefix(
    tensors: Mapping[str, Tensor], network: nn.Module, path: str | PathLike[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Find the one prefix by which a checkpoint's keys differ from the network's: `model.conv1.weight`, `conv1.weight`.

    Training frameworks keep the network in an attribute of something larger (Lightning's `model.` or `net.`), beside
    metrics, losses and averaged copies. Where all that the network has is there under one prefix, that is its state.

    Returns:
        The tensors by the network's names, or as they are where no prefix makes everything fit; and lines that say what
        was done.

    Raises:
        CheckpointError: Several prefixes do.
    """
    wanted = {key: value.shape for key, value in network.state_dict().items() if not key.endswith(_OPTIONAL_KEY)}
    if not wanted or wanted.keys() <= tensors.keys():
        return dict(tensors), ()
    one = max(wanted, key=len)
    starts = [key.removesuffix(one) for key in tensors if key.endswith(f".{one}")]
    fitting = [start for start in starts if _fits(tensors, wanted, start)]
    if len(fitting) > 1:
        raise CheckpointError(
            f"{path}: holds {len(fitting)} networks that fit, under {', '.join(fitting)}: say which one, "
            f"for example --key-mapping {fitting[0]}="
        )
    if fitting:
        return _stripped(tensors, fitting[0])
    head, dot, _ = one.partition(".")
    bare = {f"{head}{dot}{key}": value for key, value in tensors.items()}
    if dot and all(key.startswith(f"{head}.") for key in wanted) and _fits(bare, wanted, ""):
        return bare, (f"the checkpoint's keys got the prefix '{head}.' of the network",)
    return dict(tensors), ()


def _fits(tensors: Mapping[str, Tensor], wanted: Mapping[str, object], start: str) -> bool:
    return all(start + key in tensors and tensors[start + key].shape == shape for key, shape in wanted.items())


def _stripped(tensors: Mapping[str, Tensor], start: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    inside = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
    others = [key for key in tensors if not key.startswith(start)]
    lines = [f"the prefix '{start}' of the checkpoint's keys was taken off"]
    if others:
        more = f" and {len(others) - _FEW} more" if len(others) > _FEW else ""
        lines.append(f"{len(others)} tensors outside of it were left out: {', '.join(others[:_FEW])}{more}")
    return inside, tuple(lines)


def _unwrapped(key: str, network: nn.Module) -> str:
    children = {name for name, _ in network.named_children()}
    while key.startswith(_WRAPPING_PREFIXES) and key.partition(".")[0] not in children:
        key = key.partition(".")[2]
    return key


def _mapped(key: str, key_mapping: KeyMapping | None) -> str | None:
    if key_mapping is None:
        return key
    if callable(key_mapping):
        return key_mapping(key)
    prefix = max((prefix for prefix in key_mapping if key.startswith(prefix)), key=len, default=None)
    if prefix is None:
        return key
    replacement = key_mapping[prefix]
    return None if replacement is None else replacement + key[len(prefix) :]


def _without_preprocessing(
    network: nn.Module, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: FilePath
) -> dict[str, Tensor]:
    """Drop a checkpoint's own `mu` and `sigma` (or `mean` and `std`) once they agree with the network's."""
    kept = dict(tensors)
    normalise = next((module for module in network.modules() if isinstance(module, Normalise)), None)
    if normalise is None:
        return kept
    for names, ours in ((("mu", "mean"), normalise.mean), (("sigma", "std"), normalise.std)):
        for name in names:
            if name in wanted or name not in kept or kept[name].numel() != ours.numel():
                continue
            theirs = kept.pop(name).flatten().tolist()
            if not torch.allclose(torch.tensor(theirs), ours.flatten().cpu(), atol=1e-4):
                raise CheckpointError(
                    f"{path}: was trained with {name} {_rounded(theirs)}, the network normalises with "
                    f"{_rounded(ours.flatten().tolist())}; build it with the checkpoint's mean= and std="
                )
    return kept


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _check_values(key: str, value: Tensor, wanted: Tensor, path: FilePath) -> None:
    plain = value.layout is torch.strided and not value.is_meta and not value.is_quantized
    if not plain or value.is_floating_point() != wanted.is_floating_point():
        raise InputFileError(f"{path}: '{key}' is {value.dtype} ({value.layout}), which cannot become {wanted.dtype}")
    if not bool(torch.isfinite(value.to(wanted.dtype)).all()):
        raise InputFileError(
            f"{path}: '{key}' holds NaN or infinite values; the file is damaged or its training diverged"
        )
    if key.endswith("running_var") and bool((value < 0).any()):
        raise InputFileError(
            f"{path}: '{key}' holds a variance of {float(value.min()):.3g}, below 0; the file is damaged"
        )


def _mismatch(
    network: nn.Module,
    wanted: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    missing: Sequence[str],
    unexpected: Sequence[str],
    misshapen: Sequence[str],
    path: FilePath,
) -> str:
    both = [f"{key} {_shape(tensors[key])}, network {_shape(wanted[key])}" for key in misshapen]
    lines = [
        f"{path}: does not fit {type(network).__name__}",
        *_listing("missing", [f"{key} {_shape(wanted[key])}" for key in missing]),
        *_listing("unexpected", [f"{key} {_shape(tensors[key])}" for key in unexpected]),
        *_listing("misshapen", both),
        f"try: {_advice(wanted, tensors, missing, unexpected, misshapen)}",
    ]
    return "\n  ".join(lines)


def _advice(
    wanted: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    missing: Sequence[str],
    unexpected: Sequence[str],
    misshapen: Sequence[str],
) -> str:
    renaming = _renaming(missing, unexpected)
    if renaming is not None:
        return f"key_mapping={{{renaming[0]!r}: {renaming[1]!r}}} (--key-mapping {renaming[0]}={renaming[1]})"
    if missing and unexpected:
        return (
            "a key_mapping from the checkpoint's prefixes to the network's (--key-mapping OLD=NEW), or the network the "
            "checkpoint was made with"
        )
    last = list(wanted)[-1]  # the classifier's bias in every network here
    if misshapen and set(misshapen) <= {last, f"{last.rpartition('.')[0]}.weight"} and last in tensors:
        return f"a network built with classes={tensors[last].numel()}"
    if unexpected and not missing and not misshapen and len(unexpected) <= _LISTED:
        return (
            f"key_mapping={{{unexpected[0]!r}: None}} (--key-mapping {unexpected[0]}), and so on, where these may be "
            "left out"
        )
    return "the network the checkpoint was made with (another depth or width?)"


def _renaming(missing: Sequence[str], unexpected: Sequence[str]) -> tuple[str, str] | None:
    """The one prefix replacement that turns every unexpected key into a missing one, if there is one."""
    if not missing or not unexpected:
        return None
    for target in missing:
        ending = _common_ending(unexpected[0], target)
        if not ending:
            continue
        prefix, replacement = unexpected[0].removesuffix(ending), target.removesuffix(ending)
        moved = {replacement + key.removeprefix(prefix) for key in unexpected if key.startswith(prefix)}
        if len(moved) == len(unexpected) and set(missing) <= moved and prefix:
            return prefix, replacement
    return None


def _common_ending(left: str, right: str) -> str:
    """The whole name segments both end in: `network.conv1.weight`, `conv1.weight` -> `conv1.weight`."""
    shared: list[str] = []
    for a, b in zip(reversed(left.split(".")), reversed(right.split(".")), strict=False):
        if a != b:
            break
        shared.insert(0, a)
    return ".".join(shared)


def _listing(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = f"; and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
    return [f"{title} ({len(entries)}): {'; '.join(entries[:_LISTED])}{more}"]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
