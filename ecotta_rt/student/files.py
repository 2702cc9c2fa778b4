"""Networks to train: opened for it, and saved so that `prepare` takes them."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import CheckpointError, NetworkError, UsageError
from ecotta_rt.prepare.checkpoint import read_network_file
from ecotta_rt.prepare.networks import MODELS
from ecotta_rt.prepare.open_network import made_for, open_network
from ecotta_rt.prepare.storing import save_like
from ecotta_rt.student.feature_tap import FeatureTap

__all__ = ["Member", "open_member", "require_takes", "save_student"]

_SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Member:
    """A network to train, as the user has it.

    Attributes:
        network: A name as for `open_network`, or the network itself.
        checkpoint: Weights to begin with. A model id without them begins at random.
    """

    network: str | nn.Module
    checkpoint: Path | None = None

    @classmethod
    def of(cls, network: str | Path | nn.Module, checkpoint: str | Path | None) -> "Member":
        """The same, from a path too."""
        named = network if isinstance(network, nn.Module) else str(network)
        return cls(named, None if checkpoint is None else Path(checkpoint))

    @property
    def called(self) -> str:
        """For people, and as the factory of weights that are written."""
        return self.network if isinstance(self.network, str) else type(self.network).__name__


def open_member(
    member: Member,
    classes: int,
    seed: int,
    tell: Callable[[str], None] | None = None,
    *,
    copy: bool = False,
) -> tuple[nn.Module, tuple[int, int] | None]:
    """A network to train, and the size of frames it says it is made for.

    Args:
        member: It.
        classes: Of the source.
        seed: Of random weights.
        tell: As for `open_network`.
        copy: A network itself stays as it is.

    Returns:
        The network, all of its parameters trainable; height and width where it says them. Those of a model id are no
        statement while its weights are random.

    Raises:
        UsageError, InputFileError: As `open_network`, and a network file that comes with a checkpoint.
        CheckpointError: Weights or a network file of another number of classes.
    """
    name, checkpoint = member.network, member.checkpoint
    if isinstance(name, nn.Module):
        network = deepcopy(name) if copy else name
        return network.requires_grad_(True), made_for("", network)
    if name.endswith(_SUFFIX):
        if checkpoint is not None:
            raise UsageError(f"checkpoint {checkpoint}: {name} has its weights already; give a model id instead")
        there = read_network_file(name).classes
        if there != classes:
            raise CheckpointError(f"{name}: tells {there} classes apart, the source has {classes}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = open_network(name, classes=classes if name in MODELS else None, checkpoint=checkpoint, tell=tell)
    size = None if name in MODELS and checkpoint is None else made_for(name, network)
    return network.requires_grad_(True), size


def require_takes(network: nn.Module, name: str, frame: FrameSpec, classes: int, *, trains: bool = True) -> None:
    """Refuse a network that does not answer such frames with so many logits, where it `trains` in both modes.

    Raises:
        NetworkError: It does not take them, or has no classifier at its end.
        UsageError: It tells another number of classes apart.
    """
    try:
        tap = FeatureTap(network, (frame.channels, *frame.size), trains=trains)
    except NetworkError as error:
        first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
        if first is not None and first.in_channels != frame.channels:
            raise NetworkError(
                f"{name} takes frames of {first.in_channels} channels, the student {frame.channels}: all networks must "
                "take the same"
            ) from error
        ran = error.__cause__ is None
        raise NetworkError(
            f"{name}: {error}" + ("" if ran else "; a size says what frames all networks take")
        ) from error
    if tap.classes != classes:
        raise UsageError(
            f"{name} tells {tap.classes} classes apart, the source has {classes}: teacher, student and source "
            "must have the same"
        )


def save_student(
    network: nn.Module,
    path: Path,
    member: Member,
    recipe: Mapping[str, Any],
    *,
    frame: FrameSpec,
) -> None:
    """Write a trained network: a network file of ours where it is one, else weights for its factory.

    Args:
        network: From `open_member`.
        path: Ends in `.safetensors`.
        member: As given to `open_member`; a checkpoint of a narrower network makes this the file of a narrower one.
        recipe: How it was made; JSON values.
        frame: What it takes.

    Raises:
        UsageError: It holds NaN.
        TransferError: It cannot be written.
    """
    save_like(network, path, name=member.called, checkpoint=member.checkpoint, recipe=recipe, frame=frame)
