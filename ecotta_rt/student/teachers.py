"""A student and its teachers: networks that adapt with it, or foreign ones that are ranked first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch import nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import UsageError
from ecotta_rt.student.batches import check_batch
from ecotta_rt.student.defaults import LABEL_SHARE, MEASURE, PICTURES, POWER
from ecotta_rt.student.domains import Domains, FoundDomains
from ecotta_rt.student.files import Member, open_member, require_takes, save_student
from ecotta_rt.student.methods import DistilOptions, teachers_needed
from ecotta_rt.student.out_files import beside
from ecotta_rt.student.progressive import distil
from ecotta_rt.student.ranking import check_ranking, rank
from ecotta_rt.student.source_networks import SourceNetwork, find_source_networks, open_source_networks
from ecotta_rt.student.training import History, TrainingOptions, train
from ecotta_rt.student.watch import Watch
from ecotta_rt.student.weighted import Teaching, chosen_sources, source_steps

__all__ = ["OwnTeachers", "RankedOptions", "RankedTeachers", "Teachers"]


@dataclass(frozen=True)
class RankedOptions:
    """Options of learning from networks of other tasks, by few labels: DistilNearest and DistillWeighted.

    Attributes:
        method: `nearest` learns from the one that knows most, `weighted` from all by their weights.
        measure: What they are ranked by.
        power: p of the weights; `nearest` has none.
        label_share: lambda, the labels' share of the loss.
        leave_out: Go on without networks that cannot be used.
    """

    method: Literal["nearest", "weighted"] = "weighted"
    measure: str = MEASURE
    power: float = POWER
    label_share: float = LABEL_SHARE
    leave_out: bool = False

    def __post_init__(self) -> None:
        if self.method not in ("nearest", "weighted"):
            raise UsageError(f"unknown method {self.method!r}; known: nearest, weighted")
        check_ranking((self.measure,), self.power)
        if not 0 < self.label_share <= 1:
            raise UsageError(f"label share {self.label_share:g}: lambda lies above 0 and at most at 1")


class Teachers(Protocol):
    """A student and its teachers, as a run needs them, in this order.

    Attributes:
        student: Trained in place.
        method: What it is called.
    """

    student: nn.Module
    method: str

    @property
    def made_for(self) -> tuple[int, int] | None:
        """Height and width of the networks' frames; None where they do not say."""

    def check(self, frame: FrameSpec) -> None:
        """Refuse networks that do not take these frames, before pictures are decoded."""

    def ready(self, domains: Domains, training: TrainingOptions, out: Path | None) -> None:
        """Make the teachers ready to teach; `out` names what is left to go on from."""

    def distil(self, domains: Domains, training: TrainingOptions, snapshot: Path | None) -> History:
        """Train the student."""

    def recipe(self) -> Mapping[str, Any]:
        """What the student's file says of how it was taught, beside the usual."""

    def keep(self, out: Path, recipe: Mapping[str, Any], frame: FrameSpec) -> tuple[Path, ...]:
        """Write the teachers that have changed; the files."""

    def tidy(self, out: Path) -> None:
        """Remove what `ready` left to go on from."""


class OwnTeachers:
    """See `Teachers`: networks of the student's own task, one or one a target."""

    def __init__(
        self,
        student: Member,
        teachers: Sequence[Member],
        options: DistilOptions,
        found: FoundDomains,
        training: TrainingOptions,
        *,
        epochs: int = 0,
        watch: Watch,
    ) -> None:
        check_batch(training.batch, found.source.count)
        self._member, self._options, self._epochs, self._watch = student, options, epochs, watch
        self._classes, self.method = len(found.classes), options.method
        needed = teachers_needed(options.method, len(found.targets))
        self._alike = len(teachers) == 1
        self._teachers = tuple(teachers) * (needed if self._alike else 1)
        self.student, size = open_member(student, self._classes, training.seed, watch.tell)
        self.teachers: list[nn.Module] = []
        self._sizes = [(student.called, size)]
        for place, teacher in enumerate(self._teachers):
            # Copies of one teacher begin alike: what makes them differ shall be their targets.
            seed = training.seed + 1 + (0 if self._alike else place)
            network, size = open_member(teacher, self._classes, seed, watch.tell, copy=place > 0 and self._alike)
            self.teachers.append(network)
            self._sizes.append((teacher.called, size))

    @property
    def made_for(self) -> tuple[int, int] | None:
        """Height and width of the networks' frames; UsageError where they say different ones."""
        said = [(name, size) for name, size in self._sizes if size is not None]
        if len({size for _, size in said}) > 1:
            listed = ", ".join(f"{name} for {size[0]}x{size[1]}" for name, size in said)
            raise UsageError(f"the networks are made for other frames than each other: {listed}; say a size")
        return said[0][1] if said else None

    def check(self, frame: FrameSpec) -> None:
        require_takes(self.student, self._member.called, frame, self._classes)
        trains = self._options.teacher_learns or self._epochs > 0
        for network, teacher in zip(self.teachers, self._teachers, strict=True):
            require_takes(network, teacher.called, frame, self._classes, trains=trains)

    def ready(self, domains: Domains, training: TrainingOptions, out: Path | None) -> None:
        """Train each on the source, where asked; copies of one are trained once."""
        if not self._epochs:
            return
        recipe = replace(training, epochs=self._epochs)
        for place, teacher in enumerate(self.teachers):
            if place and self._alike:
                teacher.load_state_dict(self.teachers[0].state_dict())
                continue
            snapshot = None if out is None else beside(out, f"teacher-{place + 1}", "snapshot")
            with self._watch.epochs(f"teacher {place + 1} on the source") as report:
                distil(teacher, [], domains, DistilOptions("source-only"), recipe, report=report, snapshot=snapshot)

    def distil(self, domains: Domains, training: TrainingOptions, snapshot: Path | None) -> History:
        with self._watch.epochs(f"distilling ({self.method})") as report:
            return distil(
                self.student, self.teachers, domains, self._options, training, report=report, snapshot=snapshot
            )

    def recipe(self) -> Mapping[str, Any]:
        return {}

    def keep(self, out: Path, recipe: Mapping[str, Any], frame: FrameSpec) -> tuple[Path, ...]:
        about = {**recipe, "method": f"teacher of {recipe['method']}", "norms": "trained"}  # the student's alone change
        paths = tuple(beside(out, f"teacher-{place + 1}", "safetensors") for place in range(len(self.teachers)))
        for network, path, teacher in zip(self.teachers, paths, self._teachers, strict=True):
            save_student(network, path, teacher, about, frame=frame)
        return paths

    def tidy(self, out: Path) -> None:
        for place in range(len(self.teachers)):
            beside(out, f"teacher-{place + 1}", "snapshot").unlink(missing_ok=True)


class RankedTeachers:
    """See `Teachers`: networks of other tasks, by how much they know of this one; they stay as they are."""

    def __init__(
        self,
        student: Member,
        teachers: Sequence[str | Path],
        options: RankedOptions,
        found: FoundDomains,
        training: TrainingOptions,
        *,
        watch: Watch,
    ) -> None:
        unlabelled = sum(target.count for target in found.targets.values()) or found.source.count
        check_batch(training.batch, unlabelled, "without labels")
        self._member, self._options, self._watch = student, options, watch
        self._classes, self.method = len(found.classes), str(options.method)
        self._specs = find_source_networks(teachers)
        self.student, self.made_for = open_member(student, self._classes, training.seed, watch.tell)
        self._sources: tuple[SourceNetwork, ...] = ()
        self._teaching: tuple[Teaching, ...] = ()

    def check(self, frame: FrameSpec) -> None:
        """Open and try all networks, before pictures are decoded."""
        require_takes(self.student, self._member.called, frame, self._classes)
        leave_out, tell = self._options.leave_out, self._watch.tell
        self._sources, left = open_source_networks(self._specs, frame, leave_out=leave_out, tell=tell)
        for one in left:
            tell(f"left out: {one.name}: {one.why}")

    def ready(self, domains: Domains, training: TrainingOptions, out: Path | None) -> None:
        """Rank them by the labelled pictures: no teacher is trained here."""
        options, tell = self._options, self._watch.tell
        places = np.sort(np.random.default_rng(training.seed).permutation(len(domains.labels))[:PICTURES])
        power = math.inf if self.method == "nearest" else options.power
        frames, labels = domains.source.frames[places], domains.labels[places]
        with self._watch.work("ranking teachers") as report:
            ranking = rank(self._sources, frames, labels, (options.measure,), power=power, report=report)
        for doubt in ranking.doubts():
            tell(f"warning: {doubt}")
        if not ranking.related:
            tell("labels alone may do better: a label share of 1")
        self._teaching = chosen_sources(self._sources, {one.name: one.weight for one in ranking.sources})
        said = ", ".join(f"{name} {weight:.3f}" for name, weight in self._weights().items())
        tell(f"teachers by {options.measure} and their weights: {said}")

    def distil(self, domains: Domains, training: TrainingOptions, snapshot: Path | None) -> History:
        """Train the student; an epoch is a pass over the targets, or over the source where there is none."""
        targets = [target.frames for target in domains.targets] or [domains.source.frames]
        unlabelled = targets[0] if len(targets) == 1 else np.concatenate(targets)
        labelled = (domains.source.frames, domains.labels)
        steps = source_steps(self.student, self._teaching, labelled, unlabelled, training, self._options.label_share)
        with self._watch.epochs(f"distilling ({self.method})") as report:
            return train(steps, training, report=report, snapshot=snapshot)

    def recipe(self) -> Mapping[str, Any]:
        options = self._options
        return {"measure": options.measure, "label_share": options.label_share, "teachers": self._weights()}

    def keep(self, out: Path, recipe: Mapping[str, Any], frame: FrameSpec) -> tuple[Path, ...]:
        """None: they are as they were."""
        return ()

    def tidy(self, out: Path) -> None:
        """None were left."""

    def _weights(self) -> dict[str, float]:
        return {one.source.name: round(one.weight, 4) for one in self._teaching}
