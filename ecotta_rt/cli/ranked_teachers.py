"""Teachers of `ecotta student distil` that were trained for other tasks: ranked first, then learned from."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.progress import WorkProgress
from ecotta_rt.errors import UsageError
from ecotta_rt.messages import tell

if TYPE_CHECKING:
    from ecotta_rt.bundle import FrameSpec
    from ecotta_rt.cli.student_options import EpochProgress
    from ecotta_rt.student.domains import Domains, FoundDomains
    from ecotta_rt.student.source_networks import SourceNetwork
    from ecotta_rt.student.training import History, TrainingOptions
    from ecotta_rt.student.weighted import Teaching

__all__ = ["RANKED", "RankedTeachers", "add_ranked", "check_ranked"]

RANKED = ("nearest", "weighted")
"""Methods whose teachers are these."""

_TITLE = "ecotta student distil"
_PROBED = 500
_FEW_A_CLASS = 5
_DEFAULTS = {"measure": "logme", "power": 12.0, "label_share": 0.8}


def add_ranked(parser: argparse.ArgumentParser) -> None:
    """Declare the options of these methods."""
    add = parser.add_argument_group("nearest and weighted").add_argument
    add(
        "--teachers",
        nargs="+",
        type=Path,
        default=[],
        metavar="NETWORKS",
        help="folders, files of ours or .toml, as for `ecotta student rank`",
    )
    add("--measure", metavar="NAME", help="what they are ranked by (default logme)")
    add("--power", type=float, metavar="P", help="weighted: weights are scores to this (default 12)")
    add(
        "--label-share",
        type=float,
        metavar="L",
        help="lambda, the labels' share of the loss (default 0.8)",
    )
    add("--leave-out", action="store_true", help="go on without networks that cannot be used")


def check_ranked(args: argparse.Namespace, method: str) -> None:
    """Refuse what does not go together, before anything is read. Raises UsageError."""
    if method not in RANKED:
        if args.teachers:
            raise UsageError(f"--teachers goes with --method {' or '.join(RANKED)}; {method} takes --teacher")
        if given := [
            name for name in (*_DEFAULTS, "leave_out") if vars(args)[name] is not None and vars(args)[name] is not False
        ]:
            said = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{said}: goes with --method {' or '.join(RANKED)}, and {method} does not rank")
        return
    if not args.teachers:
        raise UsageError(f"--method {method} without --teachers: name the folder of networks")
    if args.teacher or args.teacher_checkpoint or args.teacher_epochs or args.keep_teachers or args.frozen_teacher:
        raise UsageError(f"--method {method} takes its teachers from --teachers, and leaves them as they are")
    if method == "nearest" and args.power is not None:
        raise UsageError("--power goes with --method weighted; nearest has one teacher, which weighs 1")
    label_share = _constant(args, "label_share")
    if not 0 < label_share <= 1:
        raise UsageError(f"--label-share {label_share}: lambda lies above 0 and at most at 1")


def _constant(args: argparse.Namespace, name: str) -> Any:
    given = vars(args)[name]
    return _DEFAULTS[name] if given is None else given


class RankedTeachers:
    """A student and the networks that it learns from; what `run` of the command needs to know of them.

    Attributes:
        student: Trained in place.
        made_for: Height and width of its frames; None where it does not say.
        method: One of `RANKED`.
    """

    def __init__(self, args: argparse.Namespace, method: str, found: "FoundDomains") -> None:
        from ecotta_rt.student.batches import check_batch
        from ecotta_rt.student.files import open_member
        from ecotta_rt.student.ranking import check_ranking
        from ecotta_rt.student.source_networks import find_source_networks

        self._measure, self._power, self._label_share = (_constant(args, name) for name in _DEFAULTS)
        check_ranking((self._measure,), self._power)
        unlabelled = sum(target.count for target in found.targets.values()) or found.source.count
        check_batch(args.batch, unlabelled, "without labels")
        self.method, self._args, self._classes = method, args, len(found.classes)
        self._specs = find_source_networks(args.teachers)
        self.student, self.made_for = open_member(args.student, args.checkpoint, self._classes, args.seed, _say)
        self._sources: tuple[SourceNetwork, ...] = ()
        self._teaching: tuple[Teaching, ...] = ()

    def check(self, frame: "FrameSpec") -> None:
        """Open and try all networks, before pictures are decoded."""
        from ecotta_rt.student.files import require_takes
        from ecotta_rt.student.source_networks import open_source_networks

        require_takes(self.student, self._args.student, frame, self._classes)
        self._sources, left = open_source_networks(self._specs, frame, leave_out=self._args.leave_out, tell=_say)
        for one in left:
            _say(f"left out: {one.name}: {one.why}")

    def train_teachers(self, domains: "Domains", training: "TrainingOptions", out: Path) -> None:
        """Rank them by the labelled pictures: no teacher is trained here."""
        import math

        import numpy as np

        from ecotta_rt.student.ranking import rank
        from ecotta_rt.student.weighted import chosen_sources

        places = np.sort(np.random.default_rng(self._args.seed).permutation(len(domains.labels))[:_PROBED])
        power = math.inf if self.method == "nearest" else self._power
        frames, labels = domains.source.frames[places], domains.labels[places]
        with WorkProgress("ranking teachers") as progress:
            ranking = rank(self._sources, frames, labels, (self._measure,), power=power, report=progress.update)
        if not ranking.related:
            _say(
                f"warning: by {self._measure} no teacher knows anything of this task; all weigh the same. "
                "Labels alone may do better (--label-share 1)"
            )
        elif not ranking.clear:
            _say("warning: the first two are not told apart by these pictures; more labelled ones would help")
        if ranking.pictures < _FEW_A_CLASS * ranking.classes:
            _say(f"warning: fewer than {_FEW_A_CLASS} pictures a class say little")
        self._teaching = chosen_sources(self._sources, {one.name: one.weight for one in ranking.sources})
        said = ", ".join(f"{name} {weight:.3f}" for name, weight in self._weights().items())
        _say(f"teachers by {self._measure} and their weights: {said}")

    def distil(
        self, domains: "Domains", training: "TrainingOptions", progress: "EpochProgress", snapshot: Path
    ) -> "History":
        """Train the student; an epoch is a pass over the targets, or over the source where there is none."""
        import numpy as np

        from ecotta_rt.student.training import train
        from ecotta_rt.student.weighted import source_steps

        targets = [target.frames for target in domains.targets] or [domains.source.frames]
        unlabelled = targets[0] if len(targets) == 1 else np.concatenate(targets)
        labelled = (domains.source.frames, domains.labels)
        steps = source_steps(self.student, self._teaching, labelled, unlabelled, training, self._label_share)
        return train(steps, training, report=progress, snapshot=snapshot)

    def recipe(self) -> Mapping[str, Any]:
        """What the network's file says of how it was taught."""
        said = {"measure": self._measure, "label_share": self._label_share}
        return {**said, "teachers": self._weights()}

    def save_teachers(self, out: Path, recipe: Mapping[str, Any], frame: "FrameSpec") -> list[Path]:
        """None: they are as they were."""
        return []

    def remove_snapshots(self, out: Path) -> None:
        """None were left."""

    def _weights(self) -> dict[str, float]:
        return {one.source.name: round(one.weight, 4) for one in self._teaching}


def _say(line: str) -> None:
    tell(_TITLE, line)
