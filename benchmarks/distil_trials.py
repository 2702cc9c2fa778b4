"""The trials of measure_distil.py as values: domains, rows, and the settings among which each method chooses."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ecotta_rt.student.methods import DistilOptions

__all__ = ["DIGITS", "TRIALS", "WIDTHS", "Published", "Row", "Setting", "Trial"]

DIGITS = {"mnist": "mnist32", "usps": "usps_native16", "mnistm": "mnistm32", "street": "streetdigits32"}
WIDTHS = {"teacher": (16, 32, 64), "student": (6, 12, 16)}
"""Channels of three 3x3 convolutions, each with batch norm, ReLU and a pooling by 2 but for the last."""


@dataclass(frozen=True)
class Setting:
    """Constants that are chosen, the same number of settings for every method.

    Attributes:
        lr: Step size of the student at the beginning.
        temperature: T of distillation; None where there is no teacher.
        gamma: Weight of the alignment; None is that of `DistilOptions`.
    """

    lr: float
    temperature: float | None = None
    gamma: float | None = None

    def told(self) -> str:
        """As in a table."""
        named = {"lr": self.lr, "T": self.temperature, "gamma": self.gamma}
        return ", ".join(f"{name} {value:g}" for name, value in named.items() if value is not None)

    def facts(self) -> dict[str, float | None]:
        """For a file; without gamma where no setting of the trial has one."""
        return {name: value for name, value in asdict(self).items() if name != "gamma" or value is not None}


ALONE = tuple(Setting(lr) for lr in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4))
TAUGHT = tuple(Setting(lr, temperature) for lr in (0.1, 0.3) for temperature in (1.0, 4.0, 20.0))


@dataclass(frozen=True)
class Row:
    """One line of a table: a method for one network.

    Attributes:
        name: As in the table.
        method: One of `METHODS`.
        settings: To choose from.
        teacher_learns: Off: the teacher stays as the source has made it.
    """

    name: str
    method: str
    settings: tuple[Setting, ...]
    teacher_learns: bool = True


PEERS = (
    Row("student, source only", "source-only", ALONE),
    Row("student, DANN", "adapted", ALONE),
)


@dataclass(frozen=True)
class Published:
    """A network of this package that begins with somebody's weights, its classifier made anew.

    Attributes:
        model: One of `MODELS`.
        checkpoint: File name of its weights.
    """

    model: str
    checkpoint: str


LATER = ("published", "informed", "resting", "bfloat16")
"""What not all trials have; it is in the conditions of those that do."""


@dataclass(frozen=True)
class Trial:
    """Domains, sizes and rows.

    Attributes:
        pairs: Source and targets of each.
        rows: In the order they are run, for each seed and pair.
        size: Side of the frames.
        epochs: Passes over the source, as many steps each as there are targets; `source only` passes over it so often
            that it takes as many steps.
        tuned_in: The trial whose first pair settings were chosen on.
        augment: Of all domains.
        frames: At most so many of each domain.
        batch: Frames of each domain.
        rate: Of `RATES`, for all rows.
        start_epochs: On the source, of the networks that all rows begin with.
        start_lr: Of these.
        teacher_share: Of the student's step size that teachers have, which begin with all the weight of their loss.
        held_out: Frames of the source that the choosing of settings keeps for itself.
        published: What `teacher` and `student` are; None: convolutions of `WIDTHS`, from random weights.
        informed: Of the settings whose error on held-out frames of the source is within one standard error of the
            smallest, the one is chosen whose answers tell most about target frames; else the one with the smallest.
        resting: Parts of published networks whose weights stay as they are; their norms follow.
        bfloat16: Convolutions and what lies between them, for time.
    """

    pairs: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[Row, ...]
    size: int
    epochs: int
    tuned_in: str
    augment: str = "none"
    frames: int = 2000
    batch: int = 32
    rate: Literal["dann", "cosine"] = "dann"
    start_epochs: int = 8
    start_lr: float = 0.1
    teacher_share: float = 0.25
    held_out: int = 500
    published: Mapping[str, Published] | None = None
    informed: bool = False
    resting: tuple[str, ...] = ()
    bfloat16: bool = False

    def conditions(self) -> dict[str, Any]:
        """What all figures of a file have in common; what came later stands there only where it is used."""
        same = {name: value for name, value in asdict(self).items() if name not in ("pairs", "rows")}
        same = {name: value for name, value in same.items() if value or name not in LATER}
        options = {name: value for name, value in asdict(DistilOptions()).items() if name != "temperature"}
        settings = {row.name: [setting.facts() for setting in row.settings] for row in self.rows}
        widths = {} if self.published else {"widths": {k: list(v) for k, v in WIDTHS.items()}}
        return {**same, "options": options, "settings": settings, **widths}


TARGETS = Trial(
    pairs=(("mnist", ("usps", "mnistm", "street")),),
    rows=(*PEERS, Row("student, KD-MTDA", "kd-mtda", TAUGHT), Row("student, MT-MTDA", "mt-mtda", TAUGHT)),
    size=16,
    epochs=4,
    tuned_in="digits",
)
"""Of its three targets each has a teacher that takes a third of the student's steps; three times as many epochs give it
those of `digits`."""

TRIALS = {
    "digits": Trial(
        pairs=(("mnist", ("usps",)), ("mnist", ("mnistm",)), ("usps", ("mnist",))),
        rows=(*PEERS, Row("student, KD-STDA", "kd-stda", TAUGHT)),
        size=16,
        epochs=12,
        tuned_in="digits",
    ),
    "targets": TARGETS,
    "targets-longer": replace(TARGETS, rows=TARGETS.rows[len(PEERS) :], epochs=12),
    "pacs": Trial(
        pairs=(("photo", ("art_painting",)), ("art_painting", ("cartoon",))),
        rows=(*PEERS, Row("student, KD-STDA", "kd-stda", TAUGHT)),
        size=16,
        epochs=12,
        tuned_in="pacs",
        augment="flip:0.5,shift:0.125",
    ),
    "pacs-published": Trial(
        pairs=(("photo", ("art_painting",)), ("art_painting", ("cartoon",))),
        rows=(
            Row("student, source only", "source-only", (Setting(0.02), Setting(0.005))),
            Row("student, DANN", "adapted", (Setting(0.02, None, 0.5), Setting(0.02, None, 1.5))),
            Row("student, KD-STDA", "kd-stda", (Setting(0.08, 1.0, 0.5),)),
            Row("student of a teacher that does not adapt", "kd-stda", (Setting(0.08, 1.0),), teacher_learns=False),
        ),
        size=32,
        epochs=2,
        tuned_in="pacs-published",
        augment="flip:0.5,shift:0.125",
        frames=1280,
        batch=16,
        start_epochs=1,
        start_lr=0.03,
        held_out=320,
        published={model: Published("resnet-20", "resnet20-12fca82f.th") for model in WIDTHS},
        informed=True,
        resting=("conv1", "bn1", "layer1"),
        bfloat16=True,
    ),
}
