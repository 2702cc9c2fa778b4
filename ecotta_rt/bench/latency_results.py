"""The record of `ecotta-bench --latency`: what `--json` writes, and what the table is drawn from.

Times are milliseconds, of the wall clock, a frame. Ratios compare contestants of one race: they took turns, so a
machine that slowed down for a while did so for all of them.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ecotta_rt.bench.environment import Environment
from ecotta_rt.bench.results import SCHEMA, Failure, ModelFacts, StreamFacts
from ecotta_rt.files.output import write_output

__all__ = ["Lap", "LatencyReport", "LatencyRow", "Times", "make_rows"]


@dataclass(frozen=True)
class Times:
    """The fastest and the middle one of several steps, or the ratios of those."""

    min: float
    median: float

    @staticmethod
    def of(values: Sequence[float]) -> "Times":
        """Of at least one value."""
        return Times(min(values), statistics.median(values))

    def over(self, other: "Times") -> "Times":
        """The ratio of the fastest to the fastest, and of the middle to the middle."""
        return Times(self.min / other.min, self.median / other.median)


@dataclass(frozen=True)
class Lap:
    """What one contestant of a race did.

    Attributes:
        method: Method id, `forward`, or an id with `-fast`.
        engine: `torch` or `onnx`.
        normalisation: `batch`, `running` or `source`.
        step_ms: Wall time of each step, in the order they were run.
        process_peak_bytes: Peak of its resident memory while it raced; None where that cannot be read.
        session_options: How it was run.
    """

    method: str
    engine: str
    normalisation: str
    step_ms: tuple[float, ...]
    process_peak_bytes: int | None
    session_options: Mapping[str, str | int]


@dataclass(frozen=True)
class LatencyRow:
    """One contestant of one race.

    Attributes:
        method: Method id; `forward` is inference alone, and `-fast` the step of more memory and less time.
        engine: `torch` or `onnx`.
        batch: Frames a step.
        threads: Threads of its process.
        normalisation: Statistics its norms used.
        ms_per_frame: Of all its steps.
        forward_ms_per_frame: Median of the `forward` of the same race: the fastest inference-only graph.
        ratio_to_forward: Its times over those of that `forward`.
        ratio_to_tent: Its times over those of torch's TENT in the same race.
        steps: How many steps were timed.
        process_peak_bytes: Peak of its resident memory while it raced. It keeps freed memory, which is faster: what a
            method needs is measured by `ecotta-bench --memory`.
        session_options: How it was run.
    """

    method: str
    engine: str
    batch: int
    threads: int
    normalisation: str
    ms_per_frame: Times
    forward_ms_per_frame: float | None
    ratio_to_forward: Times | None
    ratio_to_tent: Times | None
    steps: int
    process_peak_bytes: int | None
    session_options: Mapping[str, str | int]


def make_rows(batch: int, threads: int, laps: Sequence[Lap]) -> tuple[LatencyRow, ...]:
    """Rows of one race, in the order of `laps`; those without a single step are left out."""
    times = {id(lap): Times.of([ms / batch for ms in lap.step_ms]) for lap in laps if lap.step_ms}
    forward, tent = (
        next((times[id(lap)] for lap in laps if (lap.method, lap.engine) == who and lap.step_ms), None)
        for who in (("forward", "onnx"), ("tent", "torch"))
    )
    return tuple(
        LatencyRow(
            method=lap.method,
            engine=lap.engine,
            batch=batch,
            threads=threads,
            normalisation=lap.normalisation,
            ms_per_frame=times[id(lap)],
            forward_ms_per_frame=None if forward is None else forward.median,
            ratio_to_forward=None if forward is None else times[id(lap)].over(forward),
            ratio_to_tent=None if tent is None else times[id(lap)].over(tent),
            steps=len(lap.step_ms),
            process_peak_bytes=lap.process_peak_bytes,
            session_options=lap.session_options,
        )
        for lap in laps
        if lap.step_ms
    )


@dataclass(frozen=True)
class LatencyReport:
    """One run of `ecotta-bench --latency`.

    Attributes:
        environment: The machine and the versions; `threads` is the most that a contestant had.
        stream: Where the frames come from.
        model: The source network.
        rounds: Turns that each contestant was to have in its race; CoTTA has fewer.
        rows: One a contestant.
        failures: Contestants without a result.
        left_out: Contestants that cannot run here, each with the reason.
        complete: Whether every contestant had all its turns.
    """

    environment: Environment
    stream: StreamFacts
    model: ModelFacts
    rounds: int
    rows: tuple[LatencyRow, ...]
    failures: tuple[Failure, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True

    def to_json(self) -> str:
        """The object of `--json`, with `schema` first."""
        return json.dumps({"schema": SCHEMA, "measured": "latency", **asdict(self)}, indent=2) + "\n"

    def write_json(self, path: Path) -> None:
        """Write `to_json` to a file, whole or not at all."""
        write_output(path, self.to_json().encode())
