"""Try each setting against the present ones, change what pays, and try what was changed together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ecotta_rt.bench.tuning.measuring import Answers, Estimate, difference, mean_error, play
from ecotta_rt.bench.tuning.settings import (
    Alternative,
    alternatives,
    least_batch,
    passes,
    present_options,
)
from ecotta_rt.bench.tuning.streams import Played
from ecotta_rt.bundle import Bundle
from ecotta_rt.options import AdaptationOptions

__all__ = ["LEAST_FRAMES", "Report", "Row", "Tuning", "pays"]

TOGETHER, PRESENT = "all changes together", "as it is"

LEAST_FRAMES = 250
"""Of each order, before anything is changed: ten runs of 25, so that a standard error is itself known to a sixth."""

_SURE = 2.0
"""Standard errors of a gain. Of five settings that are only noise one is changed in 45 % of draws at 1, in 7 % at 2."""

_NO_LOSS = 1.0
"""Points; a setting that saves forward passes must not cost more."""

Say = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Row:
    """What one way to follow the streams came to.

    Attributes:
        setting: What differs from the present.
        orders: Error of each stream, in percent.
        error: Mean of both.
        gain: How many points less than the present; None of the present itself.
        milliseconds_a_frame: Mean processor time of an answer here.
        changes: Whether this is changed.
    """

    setting: str
    orders: tuple[Estimate, ...]
    error: Estimate
    gain: Estimate | None
    milliseconds_a_frame: float
    changes: bool = False


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        rows: The present, each alternative, and where there are several changes all of them together.
        present: The options as they were.
        chosen: As they should be.
        not_tried: What the bundle has not, and what to do.
        enough: Whether there were frames enough to change anything.
        guesses: Whether the network, as it is, may answer no better than guessing.
        temperature: Of its answers by the chosen options, for signs of whether they are right; None: not to be known
            from so few frames, or such answers.
    """

    rows: tuple[Row, ...]
    present: AdaptationOptions
    chosen: AdaptationOptions
    not_tried: tuple[str, ...]
    enough: bool = True
    guesses: bool = False
    temperature: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "rows": [_row_json(row) for row in self.rows],
            "present": vars(self.present),
            "chosen": vars(self.chosen),
            "not_tried": list(self.not_tried),
            "enough": self.enough,
            "guesses": self.guesses,
            "temperature": self.temperature,
        }


class Tuning:
    """One bundle's. What cannot be tuned is said when it is made.

    Args:
        bundle: To be tuned.
        mirror: Whether mirroring a frame keeps its class.

    Raises:
        UsageError, InputFileError: As `present_options` and `least_batch`.
    """

    def __init__(self, bundle: Bundle, mirror: bool) -> None:
        self._bundle = bundle
        self.present = present_options(bundle)
        self.batch = least_batch(bundle)
        self._others, self._missing = alternatives(bundle, self.present, mirror)
        self._played: dict[AdaptationOptions, Answers] = {}
        self._done = self._total = 0

    def run(self, streams: Sequence[Played], say: Say) -> Report:
        """Measure and choose.

        Args:
            streams: From `make_streams`.
            say: Hears how much is done, of how much, and what.
        """
        frames = sum(len(stream.labels) // self.batch * self.batch for stream in streams)
        ways = {_as_played(other.of(self.present)) for other in self._others} | {_as_played(self.present)}
        self._done, self._total = 0, round(sum(frames * passes(way) for way in ways))
        now = self._answers(self.present, PRESENT, streams, say)
        rows = [self._row(PRESENT, self.present, now, now)]
        paying: list[tuple[Alternative, Estimate]] = []
        enough = min(len(stream.labels) for stream in streams) >= LEAST_FRAMES
        for other in self._others:
            options = other.of(self.present)
            row = self._row(str(other), options, self._answers(options, str(other), streams, say), now)
            rows.append(row)
            assert row.gain is not None
            if enough and pays(other, row.gain):
                paying.append((other, row.gain))
        changes = _one_each(paying)
        chosen = _with_all(self.present, changes)
        if len(changes) > 1:
            self._total += round(frames * passes(chosen)) * (_as_played(chosen) not in self._played)
            row = self._row(TOGETHER, chosen, self._answers(chosen, TOGETHER, streams, say), now)
            rows.append(row)
            best = max(changes, key=lambda change: change[1].points)
            assert row.gain is not None
            if row.gain.points < best[1].points:  # they do not add up
                changes = [best]
                chosen = _with_all(self.present, changes)
        taken = {str(other) for other, _ in changes}
        marked = tuple(replace(row, changes=row.setting in taken) for row in rows)
        guesses = _guesses(rows[0].error, streams)
        temperature = self._played[_as_played(chosen)].temperature if enough and not guesses else None
        return Report(marked, self.present, chosen, tuple(self._missing), enough, guesses, temperature)

    def _answers(self, options: AdaptationOptions, what: str, streams: Sequence[Played], say: Say) -> Answers:
        key = _as_played(options)
        if key not in self._played:
            weight = passes(options)

            def step(frames: int) -> None:
                self._done += round(frames * weight)
                say(self._done, self._total, what)

            self._played[key] = play(self._bundle, key, streams, self.batch, step)
        return self._played[key]

    def _row(self, setting: str, options: AdaptationOptions, answers: Answers, now: Answers) -> Row:
        wrong, before = answers.wrong(options.answer), now.wrong(self.present.answer)
        gain = None if setting == PRESENT else difference(before, wrong)
        orders = tuple(mean_error([found]) for found in wrong)
        return Row(setting, orders, mean_error(wrong), gain, answers.milliseconds_a_frame)


def _as_played(options: AdaptationOptions) -> AdaptationOptions:
    """One run has both answers."""
    return replace(options, answer="filtered")


def pays(other: Alternative, gain: Estimate) -> bool:
    """Whether it is better by two standard errors or more.

    What saves forward passes may be no better: it must not be worse by as much, and two standard errors must leave no
    room for a loss of more than a point. So little evidence changes nothing there, either.
    """
    doubt = _SURE * gain.standard_error
    if other.saves:
        return gain.points >= -doubt and gain.points - doubt >= -_NO_LOSS
    return gain.points > 0 and gain.points >= doubt


def _guesses(error: Estimate, streams: Sequence[Played]) -> bool:
    """Whether the error may be that of somebody who always says the commonest class."""
    rights = [np.bincount(stream.labels).max() / len(stream.labels) for stream in streams]
    return error.points + _SURE * error.standard_error >= 100 - 100 * float(np.mean(rights))


def _one_each(pays: Sequence[tuple[Alternative, Estimate]]) -> list[tuple[Alternative, Estimate]]:
    """Of each setting the best value."""
    names = dict.fromkeys(other.name for other, _ in pays)
    return [max((p for p in pays if p[0].name == name), key=lambda p: p[1].points) for name in names]


def _with_all(options: AdaptationOptions, changes: Sequence[tuple[Alternative, Estimate]]) -> AdaptationOptions:
    for other, _ in changes:
        options = other.of(options)
    return options


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "setting": row.setting,
        "orders": [vars(order) for order in row.orders],
        "error": vars(row.error),
        "gain": None if row.gain is None else vars(row.gain),
        "milliseconds_a_frame": row.milliseconds_a_frame,
        "changes": row.changes,
    }
