"""Merge what the boards of a fleet have learned: states of one network into one, or into one for each kind of place.

STATE is a state's file, such as `ecotta run` keeps it, or a folder: of a state folder of `ecotta serve` the newest
valid state of each camera, of another folder all *.state.safetensors in it. No picture is needed.

Parameters are averaged, and the statistics of norms pooled as moments, in proportion to the frames behind each state.
Momentum, the filter of answers and the memory of places begin anew. Order and names of the states change nothing.
A state that is damaged, of another network, or of numbers out of all proportion ends the merge with exit code 4, and
nothing is written; with --robust it is named and left out, and a few hostile states cannot turn the rest. Where more
than --most-left-out of them would be left out, that ends with exit code 4, too.

What the merged state is worth is told by trying it: `ecotta run --state OUT --no-adapt`; without --no-adapt the file
becomes that run's own. The boards' own states stay.

With --networks STATE is a whole network: network files of ours; or, with --checkpoint, the one network that all these
files belong to, a model id or FILE.py:FACTORY. They have to be fine-tuned or adapted from one checkpoint: others end
with exit code 4, told by their weights and with --data by what lies half-way between them. Their parameters are
averaged with equal weights or those of --weights, and norm statistics pooled by the batches that the norms counted, by
--counts, or measured anew on --data. OUT is a file that `ecotta prepare` takes as it takes those that went in.

examples:
  ecotta merge door.state.safetensors yard.state.safetensors -o all.state.safetensors
  ecotta merge /var/lib/ecotta -o all.state.safetensors --bundle net.ecotta
  ecotta merge from-boards/ -o all.state.safetensors --robust                   some boards may be broken or hostile
  ecotta merge from-boards/ -o all.state.safetensors --clusters --plot kinds.svg    all-1..., all-2...: day, night, ...
  ecotta merge from-boards/ -o all.state.safetensors --clusters 3                   three kinds of place
  ecotta merge from-boards/ -o all.state.safetensors --bundle net.ecotta --source-share
  ecotta merge a.state.safetensors b.state.safetensors -o ab.state.safetensors --weights 3,1
  ecotta merge from-boards/ -o all.state.safetensors --rule median --json report.json
  ecotta merge --networks night.safetensors day.safetensors -o both.safetensors
  ecotta merge --networks night.safetensors day.safetensors -o both.safetensors --data pictures/ --recalibrate
  ecotta merge --networks zoo.py:net --checkpoint night.pt day.pt -o both.safetensors --weights 2,1
  ecotta merge --networks night.safetensors day.safetensors -o both.safetensors --head auto     both-1..., both-2...
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli import merge_networks
from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.atomic import check_target
from ecotta_rt.messages import show, tell

if TYPE_CHECKING:  # they need numpy, which --help does not
    from ecotta_rt.fleet.bundle_state import BundleState
    from ecotta_rt.fleet.merge import Merged

__all__ = ["NAME", "SCHEMA", "add_arguments", "run"]

NAME = "merge"

SCHEMA = 1
"""Version of the JSON object."""

_TITLE = "ecotta merge"
_SUFFIX = ".safetensors"
_RULES = ("mean", "median", "trimmed-mean", "clipped-mean")
_WEIGHTS = ("counts", "equal")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("states", metavar="STATE", nargs="+", type=Path, help="state files, or folders of them; or networks")
    add(
        "-o",
        "--out",
        metavar="OUT",
        type=Path,
        required=True,
        help="the merged state; with --clusters OUT-1, OUT-2, ...",
    )
    add("--robust", action="store_true", help="leave out what cannot be used or is out of all proportion, and say so")
    add(
        "--most-left-out",
        type=float,
        metavar="SHARE",
        help="with --robust: where a larger share of the states is left out, exit code 4 and nothing is written (0.5)",
    )
    add(
        "--clusters",
        type=_kinds,
        nargs="?",
        const=True,
        default=False,
        metavar="N",
        help="one state for each kind of place, by norm statistics; N says how many, without it they are found",
    )
    add(
        "--source-share",
        type=_share,
        nargs="?",
        const=0.25,
        metavar="SHARE",
        help="draw what is merged towards the source, the own state of --bundle, as if that were so large a share of "
        "the boards: less is lost where that does better than what is merged, and less gained where it does worse "
        "(default: 0; without a number 0.25)",
    )
    add(
        "--rule",
        choices=_RULES,
        help="mean; by coordinate the median, or the mean without a fifth at either end; or clipped-mean, of states "
        "that are drawn in to the usual distance from the median (default: mean, with --robust clipped-mean)",
    )
    add(
        "--weights",
        type=_weights,
        metavar="W",
        help="of the mean: counts, of the frames behind each state; equal; or a number for each, as 3,1,1, as they are "
        "named and in a folder by name (default: counts, with --robust equal, since a state may claim any count)",
    )
    add("--bundle", type=Path, metavar="FILE", help="the network that all have to belong to (default: that of most)")
    add("--plot", type=Path, metavar="FILE", help="with --clusters: draw how the states lie (.png or .svg)")
    add("--force", action="store_true", help="replace files that exist")
    add_json(parser)
    merge_networks.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Merge, write, and say what was merged."""
    if args.networks:
        return merge_networks.run(args)
    merge_networks.refuse_options(args)
    _check(args)
    from ecotta_rt.cli.merge_text import merge_facts, merge_text
    from ecotta_rt.cli.progress import WorkProgress
    from ecotta_rt.fleet.merge import merge
    from ecotta_rt.fleet.options import MergeOptions

    files = _each_once([file for path in args.states for file in _files(path)])
    _require_free(args.out, files, args)
    options = MergeOptions(
        rule=args.rule,
        weights=args.weights,
        robust=args.robust,
        clusters=args.clusters,
        bundle=_bundle_state(args.bundle),
        source_share=args.source_share or 0.0,
        **({} if args.most_left_out is None else {"most_left_out": args.most_left_out}),
    )
    with WorkProgress(_TITLE) as progress:
        merged = merge(files, options, progress.update)
    paths = _outputs(args.out, len(merged.groups)) if args.clusters else [args.out]
    for path in paths:
        _require_free(path, files, args)
    for path, group in zip(paths, merged.groups, strict=True):
        group.state.save(path)
    if args.plot is not None and merged.clusters is not None:
        from ecotta_rt.fleet.plot import draw_clusters

        draw_clusters(merged.clusters, args.plot)
    for one in merged.left_out:
        tell(_TITLE, f"left out: {one.why}")
    for note in _notes(args, merged, paths):
        tell(_TITLE, note)
    write_json(args.json, {"schema": SCHEMA, **merge_facts(merged, paths)})
    if args.json != STDOUT:
        show(merge_text(merged, paths, by_hand=isinstance(args.weights, tuple), asked=args.clusters is not True))
    return 0


def _weights(text: str) -> str | tuple[float, ...]:
    if text in _WEIGHTS:
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: counts, equal, or a number for each state as 3,1,1") from None


def _kinds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: how many kinds of place, or nothing; name the states before it")
    return int(text)


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a share, or nothing; name the states before it") from None


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is read."""
    if args.out.suffix != _SUFFIX:
        raise UsageError(f"--out {args.out}: give a {_SUFFIX} file")
    if args.most_left_out is not None and not args.robust:
        raise UsageError("--most-left-out goes with --robust; without that a state that cannot be used ends the merge")
    if args.source_share and args.bundle is None:
        raise UsageError("--source-share needs --bundle: the source is the bundle's own state")
    if args.plot is not None:
        if not args.clusters:
            raise UsageError("--plot draws clusters; give --clusters too")
        from ecotta_rt.files.figure import check_figure

        check_figure(args.plot)
    check_json(args.json, *args.states, args.out, *([] if args.plot is None else [args.plot]))
    outputs = [path for path in (args.out, args.plot, args.json) if path not in (None, STDOUT)]
    if len({Path(path).resolve() for path in outputs}) < len(outputs):
        raise UsageError("--out, --plot and --json name one file; give each its own")
    for path in args.states:
        if not path.exists():
            raise InputFileError(f"{path}: no such file or folder")
        if path.is_dir() and path.resolve() == args.out.parent.resolve():
            raise UsageError(
                f"--out {args.out} would be merged itself the next time: it lies in {path}; give another folder"
            )
    check_target(args.out)


def _each_once(files: Sequence[Path]) -> Sequence[Path]:
    seen: set[tuple[int, int]] = set()
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue  # it is named where it is read
        if (status.st_dev, status.st_ino) in seen:
            raise UsageError(f"{file} is named twice; each state counts once, and --weights gives one more weight")
        seen.add((status.st_dev, status.st_ino))
    return files


def _require_free(path: Path, files: Sequence[Path], args: argparse.Namespace) -> None:
    """Refuse to write over a state that is merged, or over what the user has not given up."""
    if not path.exists() or (args.clusters and path == args.out):
        return
    if any(file.exists() and path.samefile(file) for file in files):
        raise UsageError(f"--out {path} is one of the states themselves; choose another name")
    if not args.force:
        raise UsageError(f"{path} exists; --force replaces it, --out chooses another name")


def _outputs(out: Path, count: int) -> list[Path]:
    """The names of several states; `.state.safetensors` stays the end of a name that has it."""
    from ecotta_rt.fleet.folder import STATE_SUFFIX

    suffix = STATE_SUFFIX if out.name.endswith(STATE_SUFFIX) else _SUFFIX
    stem = out.name.removesuffix(suffix)
    return [out.with_name(f"{stem}-{number}{suffix}") for number in range(1, count + 1)]


def _files(path: Path) -> Sequence[Path]:
    """The states that a path names; a camera that its owner has let begin anew has learned nothing yet.

    Raises:
        InputFileError: It is a folder without any, or a camera has no valid one.
    """
    if not path.is_dir():
        return [path]
    from ecotta_rt.daemon.saving.kept_states import cameras_in
    from ecotta_rt.daemon.saving.snapshot_files import is_source
    from ecotta_rt.fleet.folder import STATE_SUFFIX, states_in

    newest = [camera.newest() for camera in cameras_in(path)]
    found = [kept.snapshot.path for kept in newest if kept.state is not None and not is_source(kept.state)]
    found = found or list(states_in(path).values())
    for kept in newest:
        if kept.snapshot.path not in found:
            tell(_TITLE, f"passed over: {kept.snapshot.path} stands for the source")
    if not found:
        raise InputFileError(
            f"{path}: no states in it; they are called NAME{STATE_SUFFIX}, or lie in a folder a camera"
        )
    return found


def _bundle_state(bundle: Path | None) -> "BundleState | None":
    if bundle is None:
        return None
    from ecotta_rt.bundle import read_bundle
    from ecotta_rt.fleet.bundle_state import BundleState

    return BundleState.of(read_bundle(bundle, verify=False))


def _notes(args: argparse.Namespace, merged: "Merged", paths: Sequence[Path]) -> Iterator[str]:
    """What the user may not expect."""
    for path, group in zip(paths, merged.groups, strict=True):
        if args.robust and len(group.members) < 3:
            yield f"{path}: of {len(group.members)} none can be told from the rest; --robust compares three or more"
        if group.drawn:
            whose = f"{group.drawn[0]}{f' and {len(group.drawn) - 1} more' if len(group.drawn) > 1 else ''}"
            yield f"{path}: drawn towards the source before: {whose}; give --source-share at the last merge alone"
    if args.clusters and (more := _outputs(args.out, len(paths) + 1)[-1]).exists():
        yield f"{more} is of an earlier merge, which had more kinds of place"
