"""Which data `ecotta prepare` was given, and what frames are to be made of them."""

import argparse
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.cli.prepare_options import class_names, frame_size
from ecotta_rt.data import (
    LabelledArrays,
    LabelledPictures,
    LabelledSet,
    Left,
    SourceData,
    Unlabelled,
    UnlabelledArrays,
    UnlabelledPictures,
    find_pictures,
    is_class_folders,
    open_class_folders,
)
from ecotta_rt.errors import UsageError
from ecotta_rt.messages import tell

__all__ = ["choose_frame", "open_data", "require_a_batch", "tell_frames"]

_SHARE_OF_PICTURES = 0.1
_SHOWN_FILES = 10


def open_data(args: argparse.Namespace) -> LabelledSet | None:
    """Look at what `--data` names: pictures, in class folders or without, or one of the published sets."""
    if args.data is None:
        if args.unlabelled:
            raise UsageError("--unlabelled without --data: name the folder of pictures")
        return None
    from ecotta_rt.data.image_sets import find_image_set, is_published
    from ecotta_rt.data.stream import source_frames

    names = class_names(args)
    folder = Path(args.data)
    in_classes = not is_published(args.data) and is_class_folders(folder)
    if not is_published(args.data) and ((_has_pictures(folder) and not in_classes) or args.unlabelled):
        return UnlabelledPictures(find_pictures(folder), names, count=args.frames, seed=args.seed)
    if in_classes:
        share = _SHARE_OF_PICTURES if args.held_out is None else args.held_out
        folders = open_class_folders(args.data, names)
        return LabelledPictures(folders, share=share, count=args.frames, seed=args.seed)
    classes = find_image_set(args.data).classes
    frames, labels = source_frames(args.data, args.frames, args.seed)
    if args.unlabelled:
        return UnlabelledArrays(frames, names or classes)
    share = args.held_out
    if share is None:
        share = 0.0 if args.fine_tune is None else _SHARE_OF_PICTURES
    return LabelledArrays(frames, labels, names or classes, share=share, seed=args.seed)


def require_a_batch(data: LabelledSet, batch: int) -> None:
    """Refuse a set that is smaller than a batch before anything is decoded."""
    if data.count < batch:
        raise UsageError(
            f"{data.count} frames to learn from are fewer than one batch of {batch}: give more, or --batch {data.count}"
        )


def choose_frame(args: argparse.Namespace, network: Any, data: LabelledSet | None) -> FrameSpec:
    """The frames that the network (an `nn.Module`) shall take, and how pictures become them."""
    from ecotta_rt.prepare.open_network import frame_channels, made_for, wanted_normalisation

    if not 0 < args.crop <= 1:
        raise UsageError(
            f"--crop {args.crop}: a share of each side, above 0 and at most 1; 0.875 is 'to 256, then 224'"
        )
    size = frame_size(args)
    if size is None and not isinstance(data, LabelledArrays | UnlabelledArrays):
        size = made_for(args.network, network)
    wanted = wanted_normalisation(network)
    if wanted is not None:
        tell("ecotta prepare", f"warning: the network says that it wants normalised frames; add {wanted}")
    if size is None:
        if data is None:
            raise UsageError(f"{args.network} does not say what frames it takes: give --size HxW, or --data")
        size = data.common_size()
    height, width = size
    return FrameSpec(frame_channels(network), height, width, args.resize, args.crop)


def tell_frames(data: LabelledSet, frames: SourceData, frame: FrameSpec) -> None:
    """Say what will be learned from, and which files gave no frame."""
    _tell_left_out(frames.left_out)
    if isinstance(frames.training, Unlabelled):
        how = "without labels: the groups learn from the network's own answers to them"
    else:
        held_out = "none held out" if frames.held_out is None else f"{len(frames.held_out.labels):,} held out"
        how = f"{held_out}; {len(data.classes)} classes"
    count, size = len(frames.training.frames), f"{frame.height} x {frame.width}, {frame.colour}"
    tell("ecotta prepare", f"{count:,} pictures to learn from, {how}; frames {size}")


def _has_pictures(folder: Path) -> bool:
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return any((mimetypes.guess_type(name)[0] or "").startswith("image/") for name in names)


def _tell_left_out(files: Sequence[Left]) -> None:
    if not files:
        return
    tell("ecotta prepare", f"{len(files)} file{'s' if len(files) > 1 else ''} left out:")
    for left in files[:_SHOWN_FILES]:
        tell("ecotta prepare", f"  {left.path}: {left.why}")
    if len(files) > _SHOWN_FILES:
        tell("ecotta prepare", f"  and {len(files) - _SHOWN_FILES} more")
