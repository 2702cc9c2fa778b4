"""The networks that are to be merged: opened one at a time, and again for each pass over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.prepare.checkpoint import NetworkFile, read_network_file
from ecotta_rt.prepare.matching import KeyMapping
from ecotta_rt.prepare.networks import MODELS
from ecotta_rt.prepare.open_network import open_network

__all__ = ["Member", "file_members"]

_SUFFIX = ".safetensors"
_LEAST, _MOST = 1e-9, 1e18


@dataclass(frozen=True, eq=False)
class Member:
    """One network among those that are merged.

    Attributes:
        name: What messages call it, such as its file.
        open: Gives it, in float32 and evaluation mode; called again for each pass.
        weight: Of its parameters beside the others', from 1e-9 to 1e18.
        count: Frames or batches behind its norm statistics, in the same range. None: what its norms say,
            `num_batches_tracked`; where one of the members' does not say it, `weight`.
    """

    name: str
    open: Callable[[], nn.Module]
    weight: float = 1.0
    count: float | None = None

    def __post_init__(self) -> None:
        for what, value in (("weight", self.weight), ("count", self.count)):
            if value is not None and not _LEAST <= value <= _MOST:
                raise UsageError(f"{what} {value:g} of {self.name}: expected a number from {_LEAST:g} to {_MOST:g}")


def file_members(
    names: Sequence[str],
    checkpoints: Sequence[Path] = (),
    *,
    weights: Sequence[float] = (),
    counts: Sequence[float] = (),
    own_heads: bool = False,
    classes: int | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    key_mapping: KeyMapping | None = None,
    tell: Callable[[str], None] | None = None,
) -> tuple[Member, ...]:
    """The networks that a command line names. **Runs the user's own code** where it names a factory, once a pass.

    Args:
        names: Network files of ours; or, with `checkpoints`, the one network that all of them belong to: a model id,
            `FILE.py:FACTORY` or `PACKAGE.MODULE:FACTORY`.
        checkpoints: Files of torch.save or safetensors.
        weights: Of the parameters, a number a file; none: all the same.
        counts: Behind the norm statistics, a number a file; none: as the files say.
        own_heads: Each keeps its own head: files of ours may tell different numbers of classes apart.
        classes: As for `open_network`; so are the following.
        mean: Of the frames.
        std: Of the frames.
        key_mapping: Of the checkpoints.
        tell: Hears of changes to the weights of the first of them that were made so that they fit.

    Raises:
        UsageError: Fewer than two files, weights or counts that are not one a file, or names that do not go together.
        InputFileError: A file of ours that cannot be read, or is of another model, width, preprocessing or number of
            classes than the first; the message names it.
    """
    files = [str(checkpoint) for checkpoint in checkpoints] or list(names)
    if len(files) < 2:
        raise UsageError(f"{len(files)} network to merge: give at least two files")
    for what, given in (("weights", weights), ("counts", counts)):
        if given and len(given) != len(files):
            raise UsageError(f"--{what}: {len(given)} numbers for {len(files)} networks; give one a network, or none")
    if checkpoints:
        if len(names) != 1 or names[0].endswith(_SUFFIX):
            raise UsageError(
                "--checkpoint: all of them belong to one network; name it alone, a model id or FILE.py:FACTORY"
            )
        given_names = list(names) * len(files)
    else:
        given_names = list(names)
        foreign = next((name for name in names if not name.endswith(_SUFFIX)), None)
        if foreign is not None:
            raise UsageError(
                f"{foreign}: its weights are needed; give --checkpoint FILE FILE ... after the one network that they "
                "belong to, or network files of ours (.safetensors)"
            )
        _require_alike([(name, read_network_file(name)) for name in names], own_heads)

    def opener(place: int) -> Callable[[], nn.Module]:
        told = False

        def open_one() -> nn.Module:
            nonlocal told
            say = tell if place == 0 and not told else None
            told = True
            return open_network(
                given_names[place],
                classes=classes if given_names[place] in MODELS else None,
                checkpoint=checkpoints[place] if checkpoints else None,
                mean=mean,
                std=std,
                key_mapping=key_mapping,
                tell=say,
                settle=False,
            ).eval()

        return open_one

    return tuple(
        Member(name, opener(place), *(weights[place : place + 1] or (1.0,)), *(counts[place : place + 1]))
        for place, name in enumerate(files)
    )


def _require_alike(files: Sequence[tuple[str, NetworkFile]], own_heads: bool) -> None:
    first_name, first = files[0]
    for name, file in files[1:]:
        for what in ("model", "classes", "channels", "mean", "std"):
            ours, theirs = getattr(first, what), getattr(file, what)
            if ours == theirs or (what == "classes" and own_heads):
                continue
            hint = "; --head keeps each network's own head" if what == "classes" else ""
            raise InputFileError(
                f"{name}: its {what} is {_short(theirs)}, that of {first_name} {_short(ours)}: networks are merged "
                f"only where both come from one checkpoint{hint}"
            )


def _short(value: object) -> str:
    return "that of a whole network" if value is None else f"{value!s:.60}"
