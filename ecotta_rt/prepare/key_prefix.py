"""Find the one prefix by which a checkpoint's keys differ from a network's: `model.conv1.weight`, `conv1.weight`.

Training frameworks keep the network in an attribute of something larger (Lightning's `model.` or `net.`), beside
metrics, losses and averaged copies. Where all that the network has is there under one prefix, that is its state.
"""

from collections.abc import Mapping
from os import PathLike

from torch import Tensor, nn

from ecotta_rt.errors import CheckpointError

__all__ = ["OPTIONAL_KEY", "without_common_prefix"]

OPTIONAL_KEY = "num_batches_tracked"
"""What a checkpoint may leave out."""

_LISTED = 3


def without_common_prefix(
    tensors: Mapping[str, Tensor], network: nn.Module, path: str | PathLike[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors by the network's names, and lines that say what was done.

    Args:
        tensors: By the checkpoint's names.
        network: Whose names are wanted.
        path: For messages.

    Returns:
        The tensors as they are where no prefix makes everything fit.

    Raises:
        CheckpointError: Several prefixes do.
    """
    wanted = {key: value.shape for key, value in network.state_dict().items() if not key.endswith(OPTIONAL_KEY)}
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
        more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        lines.append(f"{len(others)} tensors outside of it were left out: {', '.join(others[:_LISTED])}{more}")
    return inside, tuple(lines)
