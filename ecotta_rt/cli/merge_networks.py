"""The part of `ecotta merge` for whole networks, which --networks turns it to: its options, and what it does."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.input_files import require_network
from ecotta_rt.cli.json_option import STDOUT, check_json, write_json
from ecotta_rt.cli.parser import add_key_mapping, integer, key_mapping, thread_count
from ecotta_rt.errors import UsageError
from ecotta_rt.files.output import check_output
from ecotta_rt.messages import in_columns, show, tell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ecotta_rt.merging.connectivity import Origin
    from ecotta_rt.merging.members import Member
    from ecotta_rt.merging.networks import MergedNetworks

__all__ = ["SCHEMA", "add_arguments", "refuse_options", "run"]

_TITLE = "ecotta merge"
_SUFFIX = ".safetensors"
_FRAMES = 1000
_OF_STATES = ("robust", "most_left_out", "clusters", "source_share", "rule", "bundle", "plot")

SCHEMA = 1
"""Version of the JSON object."""

_LAST_LAYER = "auto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of whole networks, --networks among them."""
    group = parser.add_argument_group("whole networks")
    add = group.add_argument
    add("--networks", action="store_true", help="what is named are networks, fine-tuned or adapted from one checkpoint")
    add(
        "--checkpoint",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="files of torch.save or safetensors, for the one network that is named: a model id or FILE.py:FACTORY",
    )
    add("--counts", type=_numbers, default=(), metavar="N", help="frames behind each one's norm statistics, as 900,300")
    add(
        "--head",
        metavar="MODULE",
        help="merge all but this module, and write a file a network with its own one; auto: the last layer",
    )
    add("--data", metavar="DATA", help="pictures without labels, of all the places: networks of one origin are told")
    add("--recalibrate", action="store_true", help="measure the norms' statistics on --data instead of pooling them")
    add("--frames", type=integer, default=_FRAMES, metavar="N", help=f"look at N pictures at most (default {_FRAMES})")
    add("--size", metavar="HxW", help="of the frames (default: what the networks are made for, else the pictures')")
    add("--network-classes", type=integer, metavar="N", help="classes of a model id")
    add("--mean", type=float, nargs="+", default=[], help="of frames in [0, 1], where a factory does not normalise")
    add("--std", type=float, nargs="+", default=[], help="as --mean")
    add("--seed", type=integer, default=0, help="of the choice of --frames (default 0)")
    add("--threads", type=thread_count, metavar="N", help="threads (default: torch's choice)")
    add_key_mapping(parser)


def run(args: argparse.Namespace) -> int:
    """Look whether they belong together, merge, write, tell."""
    names = [str(name) for name in args.states]
    outs = _outputs(args)
    _check(args, names, outs)
    from ecotta_rt.cli.progress import WorkProgress
    from ecotta_rt.merging.connectivity import require_one_origin
    from ecotta_rt.merging.files import save_merged
    from ecotta_rt.merging.members import file_members
    from ecotta_rt.merging.networks import find_head, merge_networks
    from ecotta_rt.prepare.pipeline import use_threads
    from ecotta_rt.student.slimmable.recalibrate import recalibrate_on

    use_threads(args.threads)
    members = file_members(
        names,
        args.checkpoint,
        weights=args.weights if isinstance(args.weights, tuple) else (),
        counts=args.counts,
        own_heads=args.head is not None,
        classes=args.network_classes,
        mean=args.mean,
        std=args.std,
        key_mapping=key_mapping(args.key_mapping),
        tell=_say,
    )
    network = members[0].open()
    head = find_head(network) if args.head == _LAST_LAYER else args.head
    frames = _frames(args, names, network)
    with WorkProgress(_TITLE) as progress:
        origin = require_one_origin(members, frames, head=head, report=progress.update)
        merged = merge_networks(members, head=head, report=progress.update)
        made_for = _made_for(names, network)
        for place, out in enumerate(outs):
            network = merged.fill(members[place].open(), place)
            if args.recalibrate and frames is not None:
                recalibrate_on(network, frames)
            name = names[0] if args.checkpoint else names[place]
            checkpoint = args.checkpoint[place] if args.checkpoint else None
            save_merged(network, out, merged, name=name, checkpoint=checkpoint, frame=made_for)
    for line in origin.doubts:
        _say(f"warning: {line}")
    if merged.counted is False and not args.recalibrate:
        _say("the files do not say how much is behind their norm statistics: pooled by the weights; --counts says it")
    if args.json != STDOUT:
        _print(members, origin, outs)
    write_json(args.json, _facts(args, members, merged, origin, head, outs))
    return 0


def refuse_options(args: argparse.Namespace) -> None:
    """Refuse, for states, the options of networks."""
    given = [f"--{name}" for name in ("checkpoint", "counts", "head", "data", "recalibrate") if getattr(args, name)]
    if given:
        raise UsageError(f"{', '.join(given)}: of whole networks; give --networks too, or leave it out")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: expected a number for each network, as 900,300") from None


def _outputs(args: argparse.Namespace) -> list[Path]:
    """OUT; with heads of their own OUT-1, OUT-2, ..., in the order of the networks."""
    count = len(args.checkpoint) or len(args.states)
    if args.head is None:
        return [args.out]
    return [args.out.with_name(f"{args.out.stem}-{number}{_SUFFIX}") for number in range(1, count + 1)]


def _check(args: argparse.Namespace, names: Sequence[str], outs: Sequence[Path]) -> None:
    """Refuse before torch is imported what can be refused."""
    if args.out.suffix != _SUFFIX:
        raise UsageError(f"--out {args.out}: give a {_SUFFIX} file")
    given = [f"--{name.replace('_', '-')}" for name in _OF_STATES if _is_given(getattr(args, name, None))]
    if given:
        raise UsageError(f"{', '.join(given)}: for states of boards, not for --networks; leave it out")
    if args.weights == "counts":
        raise UsageError("--weights counts: of networks give equal or a number for each, as 3,1; --counts for norms")
    if args.recalibrate and args.data is None:
        raise UsageError("--recalibrate measures on pictures: give --data")
    if args.frames < 2 or args.seed < 0:
        raise UsageError(f"--frames {args.frames}, --seed {args.seed}: at least 2 pictures, and no negative seed")
    for name in names:
        require_network(name, None)
    for checkpoint in args.checkpoint:
        require_network("", checkpoint)
    inputs = [*names, *args.checkpoint]
    files = [Path(file).resolve() for file in args.checkpoint or names]
    twice = next((file for at, file in enumerate(files) if file.is_file() and file in files[:at]), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice; --weights gives one network more weight")
    for out in outs:
        check_output("--out", out, *inputs)
        if out.exists() and not args.force:
            raise UsageError(f"{out} exists; --force replaces it, --out chooses another name")
    check_json(args.json, *inputs, *outs)


def _frames(args: argparse.Namespace, names: Sequence[str], network: Any) -> "NDArray[np.uint8] | None":
    """What --data names, as the networks take it."""
    if args.data is None:
        return None
    import numpy as np

    from ecotta_rt.bundle import FrameSpec
    from ecotta_rt.cli.prepare_options import frame_size
    from ecotta_rt.cli.progress import WorkProgress
    from ecotta_rt.files.temporary import temporary_folder
    from ecotta_rt.prepare.open_network import frame_channels
    from ecotta_rt.student.feature_tap import FeatureTap
    from ecotta_rt.student.named_data import find_unlabelled

    found = find_unlabelled("--data", args.data, (), plain=True, count=args.frames, seed=args.seed)
    size = frame_size(args) or _made_for(names, network) or found.common_size()
    frame = FrameSpec(frame_channels(network), *size)
    FeatureTap(network, (frame.channels, *size))  # says in a sentence that it does not take them
    with temporary_folder(tempfile.gettempdir(), "ecotta-merge-") as folder:
        with WorkProgress("decoding pictures") as progress:
            data = found.frames(frame, folder / "frames", progress.update)
        for left in data.left_out:
            _say(f"left out: {left.path}: {left.why}")
        return np.array(data.training.frames)  # decoded ones are mapped from a file that is removed


def _made_for(names: Sequence[str], network: Any) -> tuple[int, int] | None:
    """What all that are named say they are made for; None where they do not, or not the same."""
    from ecotta_rt.prepare.open_network import made_for

    sizes = {made_for(name, network) for name in names}
    return sizes.pop() if len(sizes) == 1 else None


def _say(line: str) -> None:
    tell(_TITLE, line)


def _print(members: Sequence["Member"], origin: "Origin", outs: Sequence[Path]) -> None:
    whole = sum(member.weight for member in members)
    cosines = ["", *(f"{one.cosine:.2f}" for one in origin.likenesses)]
    shares = ["", *(f"{one.share:.2f}" if one.told else "?" for one in origin.barriers)]
    rows = [("network", "weight", "cosine", "barrier")[: 4 if origin.barriers else 3]]
    for place, member in enumerate(members):
        rows.append((member.name, f"{member.weight / whole:.2f}", cosines[place], *shares[place : place + 1]))
    show(in_columns([row[: len(rows[0])] for row in rows], right=range(1, len(rows[0]))))
    for place, out in enumerate(outs):
        show(f"{out}" + (f": the head of {members[place].name}" if len(outs) > 1 else ""))


def _is_given(value: Any) -> bool:
    """0 is, too."""
    return value is not None and value is not False


def _facts(
    args: argparse.Namespace,
    members: Sequence["Member"],
    merged: "MergedNetworks",
    origin: "Origin",
    head: str | None,
    outs: Sequence[Path],
) -> dict[str, Any]:
    from ecotta_rt.merging.connectivity import HIGHEST_BARRIER, LEAST_COSINE

    return {
        "schema": SCHEMA,
        "networks": [member.name for member in members],
        "files": [str(out) for out in outs],
        "parts": [{"digest": part.digest, "weight": part.weight, "count": part.count} for part in merged.parts],
        "head": head,
        "statistics": "none" if merged.counted is None else "measured" if args.recalibrate else "pooled",
        "pooled_by": None if merged.counted is None else "counts" if merged.counted else "weights",
        "cosines": [one.cosine for one in origin.likenesses],
        "least_cosine": LEAST_COSINE,
        "barriers": [one.share if one.told else None for one in origin.barriers],
        "highest_barrier": HIGHEST_BARRIER,
        "doubts": list(origin.doubts),
    }
