"""The one training loop of every method here: what a method is stands in its `Steps`, what a run is in its options.

    for each epoch: for each batch: set the rate, step, tell; then leave a snapshot

An interrupted run goes on after its last whole epoch and ends as one that was not interrupted would have, to the bit on
the same number of threads.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch
from torch import nn

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.snapshot import RunIdentity, read_snapshot, save_snapshot

__all__ = ["RATES", "History", "Moment", "Steps", "StudentProgress", "TrainingOptions", "sgd", "train"]

B = TypeVar("B")

History = tuple[Mapping[str, float], ...]
"""An epoch's means of all that a step tells, and what `Steps.after_epoch` added."""

RATES: Mapping[str, Callable[[float], float]] = {
    "dann": lambda done: (1 + 10 * done) ** -0.75,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "constant": lambda done: 1.0,
}
"""Factor on the step size by the share of the run that is done. `dann`: Ganin et al. 2016, section 5.2.2."""


@dataclass(frozen=True)
class TrainingOptions:
    """What any run of `train` is asked.

    Attributes:
        epochs: Passes over the source.
        batch: Frames of each domain a step.
        lr: Step size of SGD at the beginning.
        momentum: Of SGD.
        weight_decay: Of SGD.
        rate: One of `RATES`.
        augmentation: Done to every frame.
        seed: Of orders, augmentation and whatever a network draws.
    """

    epochs: int = 10
    batch: int = 32
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    rate: Literal["dann", "cosine", "constant"] = "dann"
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise UsageError(f"epochs={self.epochs}, batch={self.batch}: at least 1 epoch of batches of 2 frames")
        if not 0 < self.lr < math.inf or not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < 1:
            raise UsageError(
                f"lr={self.lr}, momentum={self.momentum}, weight_decay={self.weight_decay}: expected a finite lr > 0, "
                "momentum and weight_decay in [0, 1)"
            )
        if self.rate not in RATES:
            raise UsageError(f"rate={self.rate!r}: choose {', '.join(RATES)}")
        if self.seed < 0:
            raise UsageError(f"seed={self.seed}: it must not be negative")


@dataclass(frozen=True)
class Moment:
    """Where in a run a step is.

    Attributes:
        epoch: From 0.
        epochs: Of the run.
        step: From 0, over the whole run.
        steps: Of the run.
    """

    epoch: int
    epochs: int
    step: int
    steps: int

    @property
    def done(self) -> float:
        """Share of the run before this step, in [0, 1): the p of DANN's schedules."""
        return self.step / self.steps


@dataclass(frozen=True, eq=False)
class Steps(Generic[B]):
    """A method: all that is its own.

    Attributes:
        modules: What is trained or changed, by name; kept in snapshots.
        optimisers: Whose step sizes are set to `lr` times the rate before each step, by name; kept in snapshots. A
            group's own `lr` at the beginning is what the rate is a factor on.
        per_epoch: How many batches an epoch has.
        batches: Those of an epoch; all randomness comes from the generator.
        step: Does one: forward, backward, and the optimisers' steps. Returns losses and signs by name, to be told.
        identity: What must be the same when a run is gone on with: methods, options, data, networks as they began.
        after_epoch: Signs to measure at the end of each epoch; they may not look at labels of a target.
    """

    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]
    per_epoch: int
    batches: Callable[[torch.Generator], Iterator[B]]
    step: Callable[[B, Moment], Mapping[str, float]]
    identity: RunIdentity
    after_epoch: Callable[[], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class StudentProgress:
    """Where a run stands; handed to `report` after each step.

    Attributes:
        step: How many are done.
        steps: Of the run.
        epoch: The one in progress, from 1.
        epochs: Of the run.
        means: Of all that the steps tell, over the epoch so far.
        seconds: Since this call began.
        seconds_left: An estimate from the steps of this call.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    means: Mapping[str, float]
    seconds: float
    seconds_left: float


def sgd(module: nn.Module, options: TrainingOptions, share: float = 1.0) -> torch.optim.SGD:
    """The optimiser of the options for a module's parameters; `share` of their step size."""
    lr, momentum, decay = options.lr * share, options.momentum, options.weight_decay
    return torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum, weight_decay=decay)


def train(
    steps: Steps[B],
    options: TrainingOptions,
    *,
    report: Callable[[StudentProgress], None] | None = None,
    snapshot: Path | None = None,
) -> History:
    """Train in place, to the last epoch: which epoch was best nobody can tell without labels of the target.

    Args:
        steps: The method, made anew: networks as they begin.
        options: Of the run.
        report: Called after each step.
        snapshot: File that is written after each epoch; if it is there, the run goes on from it. It is not removed
            here.

    Returns:
        An entry an epoch, those before an interruption included.

    Raises:
        UsageError: A loss that is no longer finite.
        InputFileError: `snapshot` belongs to another run, or is damaged.
        TransferError: `snapshot` cannot be written.
    """
    run = {**{name: str(value) for name, value in asdict(options).items()}, **steps.identity}
    generator = torch.Generator().manual_seed(options.seed)
    began_s = time.monotonic()
    total = options.epochs * steps.per_epoch
    start = {name: [group["lr"] for group in optimiser.param_groups] for name, optimiser in steps.optimisers.items()}
    with torch.random.fork_rng(devices=[]):  # what dropout draws
        torch.manual_seed(options.seed)
        history = _resume(snapshot, steps, generator, run)
        first = len(history)
        for epoch in range(first, options.epochs):
            sums: dict[str, float] = {}
            for index, batch in enumerate(steps.batches(generator)):
                moment = Moment(epoch, options.epochs, epoch * steps.per_epoch + index, total)
                _set_rates(steps, start, RATES[options.rate](moment.done))
                told = steps.step(batch, moment)
                for name, value in told.items():
                    sums[name] = sums.get(name, 0.0) + value
                    if not math.isfinite(value):
                        # The same lr would end there again, and another one is another run.
                        left = (
                            "" if snapshot is None or epoch == 0 else f", and remove {snapshot}, which is of this one"
                        )
                        raise UsageError(f"{name} is {value} in step {moment.step + 1}: give a smaller lr{left}")
                if report:
                    spent_s = time.monotonic() - began_s
                    here = moment.step + 1 - first * steps.per_epoch
                    left_s = spent_s / here * (total - moment.step - 1)
                    means = {name: value / (index + 1) for name, value in sums.items()}
                    report(StudentProgress(moment.step + 1, total, epoch + 1, options.epochs, means, spent_s, left_s))
            means = {name: value / steps.per_epoch for name, value in sums.items()}
            history += ({**means, **(steps.after_epoch() if steps.after_epoch else {})},)
            _save(snapshot, steps, generator, run, history)
    return history


def _set_rates(steps: Steps[B], start: Mapping[str, list[float]], factor: float) -> None:
    for name, optimiser in steps.optimisers.items():
        for group, lr in zip(optimiser.param_groups, start[name], strict=True):
            group["lr"] = lr * factor


def _save(path: Path | None, steps: Steps[B], generator: torch.Generator, run: RunIdentity, history: History) -> None:
    parts = {
        "modules": {name: module.state_dict() for name, module in steps.modules.items()},
        "optimisers": {name: optimiser.state_dict() for name, optimiser in steps.optimisers.items()},
        "generator": generator.get_state(),
        "torch_generator": torch.get_rng_state(),
        "history": [dict(epoch) for epoch in history],
    }
    save_snapshot(path, run, parts)


def _resume(path: Path | None, steps: Steps[B], generator: torch.Generator, run: RunIdentity) -> History:
    saved = read_snapshot(path, run)
    if saved is None:
        return ()
    try:
        for name, module in steps.modules.items():
            module.load_state_dict(saved["modules"][name])
        for name, optimiser in steps.optimisers.items():
            optimiser.load_state_dict(saved["optimisers"][name])
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputFileError(f"{path}: snapshot of other networks; remove it to start again") from error
    generator.set_state(saved["generator"])
    torch.set_rng_state(saved["torch_generator"])
    return tuple(saved["history"])
