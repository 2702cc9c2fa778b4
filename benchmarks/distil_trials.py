"""The trials of measure_distil.py as values: domains, rows, and the settings among which each method chooses."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ecotta_rt.student.methods import DistilOptions

__all__ = ["DIGITS", "TRIALS", "WIDTHS", "Row", "Setting", "Trial"]

DIGITS = {"mnist": "mnist32", "usps": "usps_native16", "mnistm": "mnistm32", "street": "streetdigits32"}
WIDTHS = {"teacher": (16, 32, 64), "student": (6, 12, 16)}
"""Channels of three 3x3 convolutions, each with batch norm, ReLU and a pooling by 2 but for the last."""


@dataclass(frozen=True)
class Setting:
    """Constants that are chosen, the same number of settings for every method.

    Attributes:
        lr: Step size of the student at the beginning.
        temperature: T of distillation; None where there is no teacher.
    """

    lr: float
    temperature: float | None = None

    def told(self) -> str:
        """As in a table."""
        return f"lr {self.lr:g}" + (f", T {self.temperature:g}" if self.temperature is not None else "")


ALONE = tuple(Setting(lr) for lr in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4))
TAUGHT = tuple(Setting(lr, temperature) for lr in (0.1, 0.3) for temperature in (1.0, 4.0, 20.0))


@dataclass(frozen=True)
class Row:
    """One line of a table: a method for one network.

    Attributes:
        name: As in the table.
        method: One of `METHODS`.
        settings: To choose from.
    """

    name: str
    method: str
    settings: tuple[Setting, ...]


PEERS = (
    Row("student, source only", "source-only", ALONE),
    Row("student, DANN", "adapted", ALONE),
)


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

    def conditions(self) -> dict[str, Any]:
        """What all figures of a file have in common."""
        same = {name: value for name, value in asdict(self).items() if name not in ("pairs", "rows")}
        options = {name: value for name, value in asdict(DistilOptions()).items() if name != "temperature"}
        settings = {row.name: [asdict(setting) for setting in row.settings] for row in self.rows}
        return {**same, "options": options, "settings": settings, "widths": {k: list(v) for k, v in WIDTHS.items()}}


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
}
