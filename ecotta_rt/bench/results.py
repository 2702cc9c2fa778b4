"""The record of a measurement: what `--json` writes, and what the table and the plot are drawn from.

Collecting (`measure`, `race`) and rendering (`report`, `plot`) meet only here. Sizes are whole bytes, times
milliseconds, errors percent. `failures` and `complete` tell what is missing: a reader must not take a broken-off run
for a whole one.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ecotta_rt.bench.environment import Environment
from ecotta_rt.bench.memory_cage import CageRecord
from ecotta_rt.files.output import write_output

__all__ = [
    "SCHEMA",
    "BenchReport",
    "Enforced",
    "Failure",
    "LatencyRow",
    "ModelFacts",
    "Row",
    "StreamFacts",
    "Times",
    "compared",
]

SCHEMA = 1
"""Version of the JSON object; it changes when a key is renamed, removed or changes its meaning."""

_ONLY_WHERE_SET = ("measured", "rounds", "beside", "enforced")


@dataclass(frozen=True)
class Row:
    """One method over the whole stream, measured in a process of its own.

    Attributes:
        method: Method id.
        engine: What computed the step: `torch` or `onnx`.
        batch: Frames a step.
        normalisation: Statistics the norms used: `batch`, `running` or `source`.
        frames: Frames seen, over all corruptions.
        error_percent: Wrong predictions in 100 frames, over the whole stream.
        errors: Corruption -> wrong predictions in 100 frames of it.
        activation_bytes: Most bytes kept for a later backward at any moment of a step, each storage once. With onnx
            planned, from the order of the graph, when it was made; so is the next.
        step_peak_bytes: Most bytes of live tensors at any moment of a step, of those that the step makes: not the
            weights, the frames and an optimiser's state, which were there before it.
        process_baseline_bytes: Resident memory with the libraries imported, their threads started, the data open.
        load_peak_bytes: Peak of resident memory until network and method were built.
        process_peak_bytes: Peak of resident memory while the stream ran; the peak was reset after loading.
        ms_per_frame: Wall time of the adapting loop a frame; the first batch is a warm-up and not counted.
        forward_ms_per_frame: The fastest inference-only forward of the source network, same threads and batch.
            It keeps its freed memory, whatever allocator the method ran with: `returning` slows the method alone.
            Of the same engine, in the layout or with the session options that suit it best.
        trainable_parameters: Scalars the method may change by gradient.
        session_options: What else was set: threads, memory format, gradient, allocator; `views`, `lr` and `l1_weight`
            where they were chosen; with onnx optimisation, memory and the graph.
        fits: Device id -> whether the larger of load and run fits its memory.
    """

    method: str
    engine: str
    batch: int
    normalisation: str
    frames: int
    error_percent: float
    errors: Mapping[str, float]
    activation_bytes: int
    step_peak_bytes: int
    process_baseline_bytes: int
    load_peak_bytes: int
    process_peak_bytes: int
    ms_per_frame: float
    forward_ms_per_frame: float
    trainable_parameters: int
    session_options: Mapping[str, str | int | float]
    fits: Mapping[str, bool] = field(default_factory=dict)

    @property
    def growth_bytes(self) -> int:
        """What running the method added to imports and data."""
        return self.process_peak_bytes - self.process_baseline_bytes

    @property
    def need_bytes(self) -> int:
        """What a device must have: it kills at load as well as at run time."""
        return max(self.load_peak_bytes, self.process_peak_bytes)


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
class LatencyRow:
    """One contestant of one race. Ratios compare contestants of one race, which took turns.

    Attributes:
        method: Method id; `forward` is inference alone, and `-fast` the step of more memory and less time.
        engine: `torch` or `onnx`.
        batch: Frames a step.
        threads: Threads of its process.
        normalisation: Statistics its norms used.
        ms_per_frame: Wall clock, of all its steps.
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
    forward_ms_per_frame: float | None = field(default=None, kw_only=True)
    ratio_to_forward: Times | None = field(default=None, kw_only=True)
    ratio_to_tent: Times | None = field(default=None, kw_only=True)
    steps: int
    process_peak_bytes: int | None
    session_options: Mapping[str, str | int]


def compared(rows: Sequence[LatencyRow]) -> tuple[LatencyRow, ...]:
    """The rows of one race with their ratios."""
    forward, tent = (
        next((row.ms_per_frame for row in rows if (row.method, row.engine) == who), None)
        for who in (("forward", "onnx"), ("tent", "torch"))
    )
    return tuple(
        replace(
            row,
            forward_ms_per_frame=None if forward is None else forward.median,
            ratio_to_forward=None if forward is None else row.ms_per_frame.over(forward),
            ratio_to_tent=None if tent is None else row.ms_per_frame.over(tent),
        )
        for row in rows
    )


@dataclass(frozen=True)
class Failure:
    """A method that gave no row, and why."""

    method: str
    message: str
    exit_code: int


@dataclass(frozen=True)
class StreamFacts:
    """The stream every row has seen: `frames` a corruption, `corruptions` in the order they were played."""

    name: str
    frames: int
    corruptions: tuple[str, ...]
    severity: int
    order: str
    seed: int


@dataclass(frozen=True)
class ModelFacts:
    """The source network: `parameters` is None until a process has built it; `digest` is its file's SHA-256."""

    name: str
    parameters: int | None
    digest: str


@dataclass(frozen=True)
class Enforced:
    """The hard limit under which each method ran: a memory control group of its own, without swap.

    Attributes:
        limit_bytes: The limit.
        device: Id of the device whose default limit that is; None where a size was named.
        held: Method id -> what its group has seen until the stream was over, for each that was started.
    """

    limit_bytes: int
    device: str | None
    held: Mapping[str, CageRecord]

    @property
    def killed(self) -> tuple[str, ...]:
        """Methods that the kernel killed at the limit."""
        return tuple(method for method, record in self.held.items() if record.oom_kills)


@dataclass(frozen=True)
class BenchReport:
    """One run of `ecotta-bench`.

    Attributes:
        measured: `latency`; None for memory, whose object has no such key. So it is with all that may be None.
        environment: The machine and the versions; `threads` is the most that a process had.
        stream: Where the frames come from; of memory, what every row has seen.
        model: The source network.
        rounds: Of latency: turns that each contestant was to have in its race; CoTTA has fewer.
        rows: One a method, or a contestant.
        beside: Of memory: what methods start from beside the network, warmed-up meta groups (`ecotta-k4`) or a
            `fine-tuned` one -> SHA-256 of its file.
        failures: Methods that were started and gave no row.
        left_out: Methods that cannot run here, each with the reason.
        complete: Whether every method that was to run has a row, or every contestant had all its turns.
        enforced: The hard limit, where one was asked for.
    """

    measured: str | None = field(default=None, kw_only=True)
    environment: Environment
    stream: StreamFacts
    model: ModelFacts
    rounds: int | None = field(default=None, kw_only=True)
    rows: tuple[Row, ...] | tuple[LatencyRow, ...]
    beside: Mapping[str, str] | None = None
    failures: tuple[Failure, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    enforced: Enforced | None = None

    def to_json(self) -> str:
        """The object of `--json`, with `schema` first."""
        keys = {"schema": SCHEMA, **asdict(self)}
        kept = {key: value for key, value in keys.items() if value is not None or key not in _ONLY_WHERE_SET}
        return json.dumps(kept, indent=2) + "\n"

    def write_json(self, path: Path) -> None:
        """Write `to_json` to a file, whole or not at all; see `write_output`."""
        write_output(path, self.to_json().encode())
