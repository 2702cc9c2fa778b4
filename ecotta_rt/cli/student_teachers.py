"""Where a student's teachers come from: the command line names them, or they are ranked first."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ecotta_rt.cli.progress import WorkProgress
from ecotta_rt.cli.ranked_teachers import ranked_constant
from ecotta_rt.cli.student_options import EpochProgress
from ecotta_rt.errors import UsageError
from ecotta_rt.messages import tell
from ecotta_rt.student.defaults import PICTURES

if TYPE_CHECKING:
    from ecotta_rt.bundle import FrameSpec
    from ecotta_rt.student.domains import Domains, FoundDomains
    from ecotta_rt.student.methods import DistilOptions
    from ecotta_rt.student.source_networks import SourceNetwork
    from ecotta_rt.student.training import History, TrainingOptions
    from ecotta_rt.student.weighted import Teaching

__all__ = ["OwnTeachers", "RankedTeachers", "Teachers", "given_constants", "teacher_files"]

_TITLE = "ecotta student distil"
_CONSTANTS = ("beta", "alignment", "gamma", "temperature", "alpha", "kl", "consistency", "teacher_lr")


class Teachers(Protocol):
    """A student and its teachers, as `run` of the command needs them, in this order.

    Attributes:
        student: Trained in place.
        method: What the command calls it.
        made_for: Height and width of the networks' frames; None where they do not say.
    """

    student: Any
    method: str
    made_for: tuple[int, int] | None

    def check(self, frame: "FrameSpec") -> None:
        """Refuse networks that do not take these frames, before pictures are decoded."""

    def ready(self, domains: "Domains", training: "TrainingOptions", out: Path) -> None:
        """Make the teachers ready to teach."""

    def distil(
        self, domains: "Domains", training: "TrainingOptions", progress: EpochProgress, snapshot: Path
    ) -> "History":
        """Train the student."""

    def recipe(self) -> Mapping[str, Any]:
        """What the student's file says of how it was taught, beside the usual."""

    def keep(self, out: Path, recipe: Mapping[str, Any], frame: "FrameSpec") -> list[Path]:
        """Write the teachers that have changed; the files."""

    def tidy(self, out: Path) -> None:
        """Remove what `ready` left to go on from."""


def given_constants(args: argparse.Namespace) -> dict[str, Any]:
    """Those of progressive distillation that the command line names; the others are `DistilOptions`' own."""
    given = {name: vars(args)[name] for name in _CONSTANTS}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def teacher_files(out: Path, count: int) -> list[Path]:
    """Where `OwnTeachers.keep` writes so many."""
    return [out.with_name(f"{out.name}.teacher-{place + 1}.safetensors") for place in range(count)]


class OwnTeachers:
    """Student and teachers, as the command line has them."""

    def __init__(self, args: argparse.Namespace, method: str, found: "FoundDomains") -> None:
        from ecotta_rt.student.batches import check_batch
        from ecotta_rt.student.files import open_member
        from ecotta_rt.student.methods import teachers_needed

        check_batch(args.batch, found.source.count)
        self._args, self._classes, self.method = args, len(found.classes), method
        self._options = _options(args, method)
        needed = teachers_needed(method, len(found.targets))
        names = list(args.teacher) * (needed if len(args.teacher) == 1 else 1)
        checkpoints = list(args.teacher_checkpoint or [None] * len(args.teacher))
        checkpoints *= needed if len(args.teacher) == 1 else 1
        self.teacher_names = list(zip(names, checkpoints, strict=True))
        self.student, size = open_member(args.student, args.checkpoint, self._classes, args.seed, _say)
        self.teachers, sizes = [], [(args.student, size)]
        for place, (name, checkpoint) in enumerate(self.teacher_names):
            # Copies of one teacher begin alike: what makes them differ shall be their targets.
            seed = args.seed + 1 + (0 if len(args.teacher) == 1 else place)
            network, size = open_member(name, checkpoint, self._classes, seed, _say)
            self.teachers.append(network)
            sizes.append((name, size))
        self.made_for = self._one_size([(name, size) for name, size in sizes if size is not None])

    def check(self, frame: "FrameSpec") -> None:
        """Refuse networks that do not take these frames, before pictures are decoded."""
        from ecotta_rt.student.files import require_takes

        require_takes(self.student, self._args.student, frame, self._classes)
        trains = not self._args.frozen_teacher or self._args.teacher_epochs > 0
        for teacher, (name, _) in zip(self.teachers, self.teacher_names, strict=True):
            require_takes(teacher, name, frame, self._classes, trains=trains)

    def ready(self, domains: "Domains", training: "TrainingOptions", out: Path) -> None:
        """Train each on the source, where asked; copies of one are trained once."""
        from dataclasses import replace

        from ecotta_rt.student.methods import DistilOptions
        from ecotta_rt.student.progressive import distil

        if not self._args.teacher_epochs:
            return
        options = DistilOptions(method="source-only")
        for place, teacher in enumerate(self.teachers):
            if place and len(self._args.teacher) == 1:
                teacher.load_state_dict(self.teachers[0].state_dict())
                continue
            recipe = replace(training, epochs=self._args.teacher_epochs)
            with EpochProgress(f"teacher {place + 1} on the source") as progress:
                snapshot = _teacher_snapshot(out, place)
                distil(teacher, [], domains, options, recipe, report=progress, snapshot=snapshot)

    def distil(
        self, domains: "Domains", training: "TrainingOptions", progress: EpochProgress, snapshot: Path
    ) -> "History":
        from ecotta_rt.student.progressive import distil

        networks = (self.student, self.teachers)
        return distil(*networks, domains, self._options, training, report=progress, snapshot=snapshot)

    def recipe(self) -> Mapping[str, Any]:
        return {}

    def keep(self, out: Path, recipe: Mapping[str, Any], frame: "FrameSpec") -> list[Path]:
        from ecotta_rt.student.files import save_student

        paths = teacher_files(out, len(self.teachers))
        about = {**recipe, "method": f"teacher of {recipe['method']}"}
        for network, path, (name, checkpoint) in zip(self.teachers, paths, self.teacher_names, strict=True):
            save_student(network, path, name, about, frame=frame, checkpoint=checkpoint)
        return paths

    def tidy(self, out: Path) -> None:
        for place in range(len(self.teachers)):
            _teacher_snapshot(out, place).unlink(missing_ok=True)

    def _one_size(self, sizes: Sequence[tuple[str, tuple[int, int]]]) -> tuple[int, int] | None:
        if self._args.size is None and len({size for _, size in sizes}) > 1:
            said = ", ".join(f"{name} for {size[0]}x{size[1]}" for name, size in sizes)
            raise UsageError(f"the networks are made for other frames than each other: {said}; say with --size HxW")
        return sizes[0][1] if sizes else None


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

        self._measure, self._power, self._label_share = (
            ranked_constant(args, name) for name in ("measure", "power", "label_share")
        )
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

    def ready(self, domains: "Domains", training: "TrainingOptions", out: Path) -> None:
        """Rank them by the labelled pictures: no teacher is trained here."""
        import math

        import numpy as np

        from ecotta_rt.student.ranking import rank
        from ecotta_rt.student.weighted import chosen_sources

        places = np.sort(np.random.default_rng(self._args.seed).permutation(len(domains.labels))[:PICTURES])
        power = math.inf if self.method == "nearest" else self._power
        frames, labels = domains.source.frames[places], domains.labels[places]
        with WorkProgress("ranking teachers") as progress:
            ranking = rank(self._sources, frames, labels, (self._measure,), power=power, report=progress.update)
        for doubt in ranking.doubts():
            _say(f"warning: {doubt}")
        if not ranking.related:
            _say("labels alone may do better: --label-share 1")
        self._teaching = chosen_sources(self._sources, {one.name: one.weight for one in ranking.sources})
        said = ", ".join(f"{name} {weight:.3f}" for name, weight in self._weights().items())
        _say(f"teachers by {self._measure} and their weights: {said}")

    def distil(
        self, domains: "Domains", training: "TrainingOptions", progress: EpochProgress, snapshot: Path
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

    def keep(self, out: Path, recipe: Mapping[str, Any], frame: "FrameSpec") -> list[Path]:
        """None: they are as they were."""
        return []

    def tidy(self, out: Path) -> None:
        """None were left."""

    def _weights(self) -> dict[str, float]:
        return {one.source.name: round(one.weight, 4) for one in self._teaching}


def _options(args: argparse.Namespace, method: str) -> "DistilOptions":
    from ecotta_rt.student.methods import DistilOptions, Progression

    given = {name: value for name, value in given_constants(args).items() if name != "beta"}
    if args.beta is not None:
        given["beta"] = Progression(*args.beta)
    return DistilOptions(method=method, teacher_learns=not args.frozen_teacher, **given)


def _teacher_snapshot(out: Path, place: int) -> Path:
    return out.with_name(f"{out.name}.teacher-{place + 1}.snapshot")


def _say(line: str) -> None:
    tell(_TITLE, line)
