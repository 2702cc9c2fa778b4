"""`ecotta student slim`, for Python."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.checkpoint import read_network_file
from ecotta_rt.prepare.narrowed import channels_in
from ecotta_rt.prepare.open_network import frame_channels
from ecotta_rt.student.files import Member, open_member, require_takes
from ecotta_rt.student.frame_limit import student_frame
from ecotta_rt.student.named_data import LabelledData, UnlabelledData
from ecotta_rt.student.slimda.bank import Bank, chosen_frames, save_bank
from ecotta_rt.student.slimda.training import SlimOptions, require_widths, train_bank
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.tasks.pictures import Pictures, decoded, stores
from ecotta_rt.student.training import History, TrainingOptions
from ecotta_rt.student.watch import Watch

__all__ = ["Slimmed", "slim"]


@dataclass(frozen=True, eq=False)
class Slimmed:
    """A bank, and how it was trained.

    Attributes:
        bank: For `pick`; `ecotta_rt.student.slimda.bank.save_bank` writes it.
        history: An entry an epoch.
    """

    bank: Bank
    history: History


def slim(
    network: str | nn.Module,
    source: LabelledData,
    targets: Mapping[str, UnlabelledData],
    *,
    options: SlimOptions | None = None,
    training: TrainingOptions | None = None,
    pictures: Pictures | None = None,
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
) -> Slimmed:
    """Train one network that runs at any width, over the places where it will be used: `ecotta student slim`.

    Args:
        network: Model id, network file of ours, FILE.py:FACTORY (that code is **run**), or a network, of which a copy
            is trained.
        source: As for `distil`.
        targets: As for `distil`; one at least.
        options: What makes it a bank.
        training: The recipe; None: 20 epochs with a step size of 0.05.
        pictures: How they are looked at.
        checkpoint: Weights that it begins with.
        out: Where to write the bank, `.safetensors`; as for `distil`.
        watch: Hears how far it is.

    Raises:
        UsageError: No target, a network that was made narrower already, or options that do not go together.
        NetworkError: None of its channels can be removed; the message names the node.
        InputFileError, CheckpointError: Files that cannot be used.
        TransferError: A file cannot be written.
    """
    watch, pictures, options = watch or Watch(), pictures or Pictures(), options or SlimOptions()
    training = training or TrainingOptions(epochs=20, lr=0.05)
    found = pictures.find(source, targets, training.seed)
    if not found.targets:
        raise UsageError("a bank adapts to target domains: give at least one")
    member = Member.of(network, checkpoint)
    name = _whole_network(member)
    opened, made_for = open_member(member, len(found.classes), training.seed, watch.tell, copy=True)
    size = pictures.size or made_for or found.common_size()
    frame = student_frame(size, frame_channels(opened), pictures.resize)
    require_takes(opened, member.called, frame, len(found.classes))
    slimmable = Slimmable.for_frame(opened, frame)
    slimmable.classifier()
    require_widths(slimmable, options)
    groups = slimmable.groups
    for note in groups.notes:
        watch.tell(note)
    channels = sum(group.size for group in groups.groups.values())
    watch.tell(f"{len(groups.groups)} groups of channels, {channels:,} channels to remove")
    base = None if out is None else Path(out)
    with stores(base, found, {}, watch) as (store, snapshot):
        domains = decoded(found, frame, store, watch)
        with watch.epochs("slimming") as report:
            history = train_bank(slimmable, domains, training, options, report=report, snapshot=snapshot)
        recipe = {
            "method": "slimda",
            "epochs": training.epochs,
            "seed": training.seed,
            "targets": [target.name for target in domains.targets],
            **vars(options),
        }
        frames = chosen_frames([target.frames for target in domains.targets], training.seed)
        bank = Bank(slimmable, name, domains.classes, frame, options.least, frames, recipe)
        if base is not None:
            save_bank(bank, base)
    return Slimmed(bank, history)


def _whole_network(member: Member) -> str:
    """What a bank calls it: a file of ours is one of its model; UsageError for one that was made narrower already."""
    name = member.called
    own = name.endswith(".safetensors")
    for path in (name if own else None, member.checkpoint):
        if path is not None and channels_in(path) is not None:
            raise UsageError(f"{path} was made narrower already; begin with the network that it was made of")
    return read_network_file(name).model if own else name
