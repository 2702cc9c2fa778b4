"""One run of `ecotta-bench`: record the stream once, make what is missing, measure or race, keep what is done."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from ecotta_rt.bench.bundles import graph_for, note_on_code
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.graphs import Graphs
from ecotta_rt.bench.measure import Seen, measure_case
from ecotta_rt.bench.memory_cage import CageRecord, MemoryCage
from ecotta_rt.bench.plan import BenchPlan
from ecotta_rt.bench.race import Race
from ecotta_rt.bench.record_source import record_source
from ecotta_rt.bench.recording import written
from ecotta_rt.bench.results import BenchReport, Failure, ModelFacts, Row, StreamFacts
from ecotta_rt.bundle import read_bundle
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.stream import open_stream
from ecotta_rt.errors import EcottaError, InputFileError
from ecotta_rt.files.temporary import temporary_folder

__all__ = ["BenchProgress", "BenchRun"]

_TIMED_FRAMES = 256  # more would not change a time
_TIMED_CORRUPTION = CORRUPTIONS[:1]


class BenchProgress(Protocol):
    """Hears what a run does."""

    def doing(self, what: str) -> None:
        """Something without a measure has begun."""

    def started(self, item: str, size: int, unit: str) -> None:
        """A method or race has been begun, of so many frames, rounds or other units."""

    def advanced(self, done: int, note: str = "") -> None:
        """So many of them are done; a note says how it stands."""

    def finished(self, item: str, outcome: str) -> None:
        """It is done."""


class BenchRun:
    """A run in progress; whatever ends it, `report` tells what had been measured by then.

    Args:
        plan: What to measure.
        progress: Hears how far it has come.
    """

    def __init__(self, plan: BenchPlan, progress: BenchProgress) -> None:
        self._plan, self._progress = plan, progress
        self._rows: list[Row] = []
        self._failures: list[Failure] = []
        self._races: list[Race] = []
        self._left_out = dict(plan.left_out)
        self._stream: StreamFacts | None = None
        self._data: dict[str, Any] = {}  # of a case: where the recordings are
        # Now, since the files may be others when the run is over.
        self._model = ModelFacts(plan.files.model, None, plan.files.digest())
        self._beside = None if plan.request.timed else plan.beside()
        self._held: dict[str, CageRecord] = {}
        self._graphs = Graphs(plan.files, plan.orders, plan.named, progress.doing)

    def run(self) -> None:
        """Measure all cases of the plan.

        Raises:
            EcottaError: The stream cannot be made, or the graph that a race is compared with. What goes wrong with one
                case is one of the failures.
        """
        for who, reason in self._left_out.items():
            self._progress.doing(f"{who} is left out: {reason}")
        for note in filter(None, map(note_on_code, self._plan.named.values())):
            self._progress.doing(note)
        with temporary_folder(tempfile.gettempdir(), "ecotta-bench-") as folder:
            self._record_stream(folder)
            if self._plan.request.timed:
                self._hold_races()
            else:
                self._record_source(folder)
                self._measure_each()

    @property
    def state(self) -> str:
        """How far it has come."""
        if self._plan.request.timed:
            whole = sum(race.complete for race in self._races)
            return f"races that were over: {whole} of {len(_races(self._plan.cases))}"
        return f"methods that were done: {len(self._rows) + len(self._failures)}"

    def report(self) -> BenchReport | None:
        """What has been measured; None when not even the stream was made."""
        if self._stream is None:
            return None
        plan, request = self._plan, self._plan.request
        in_races = [
            replace(failure, method=f"{failure.method}, {race.name}")
            for race in self._races
            for failure in race.failures()
        ]
        failures = (*self._failures, *in_races)
        whole = len(self._rows) == len(plan.cases)
        if request.timed:
            whole = not failures and sum(race.complete for race in self._races) == len(_races(plan.cases))
        return BenchReport(
            measured="latency" if request.timed else None,
            environment=read_environment(max(request.threads)),
            stream=self._stream,
            model=self._model,
            rounds=request.rounds if request.timed else None,
            rows=tuple(row for race in self._races for row in race.rows()) if request.timed else tuple(self._rows),
            beside=self._beside,
            failures=failures,
            left_out=self._left_out,
            complete=whole,
            enforced=plan.enforced and replace(plan.enforced, held=dict(self._held)),
        )

    def _record_stream(self, folder: Path) -> None:
        request = self._plan.request
        corruptions, frames = request.corruptions, request.frames
        if request.timed:
            corruptions, frames = _TIMED_CORRUPTION, max(_TIMED_FRAMES, *request.batches)
        else:
            self._progress.doing(f"making the stream: {len(corruptions)} corruptions x {frames} frames")
        stream = open_stream(
            request.data,
            corruptions=corruptions,
            severity=request.severity,
            frames=frames,
            seed=request.seed,
            shuffle_corruptions=request.order == "shuffled",
        )
        played = tuple(segment.corruption for segment in stream.segments)
        self._stream = StreamFacts(
            stream.name, stream.frames_per_corruption, played, stream.severity, request.order, stream.seed
        )
        self._data["recording"] = written(folder / "stream", stream.segments)

    def _record_source(self, folder: Path) -> None:
        self._data |= record_source(self._plan.cases, self._plan.request, folder, self._progress.doing)

    def _measure_each(self) -> None:
        for case in self._plan.cases:
            try:
                outcome = self._measured(self._graphs.given(replace(case, **self._data)))
            except EcottaError as error:  # of a graph, or the cage's
                outcome = Failure(case.label, str(error), error.exit_code)
            if isinstance(outcome, Failure):
                self._failures.append(outcome)
                self._progress.finished(case.label, "no result")
            else:
                self._rows.append(outcome)
                self._progress.finished(outcome.method, f"error {outcome.error_percent:.2f} %")

    def _measured(self, case: Case) -> Row | Failure:
        request, enforced = self._plan.request, self._plan.enforced
        self._progress.started(case.label, len(request.corruptions) * (request.frames or 0), "frames")
        if enforced is None:
            outcome = measure_case(case, self._advance)
        else:
            with MemoryCage(enforced.limit_bytes) as cage:
                outcome = measure_case(case, self._advance, cage)
                self._held[case.label] = cage.held()
        if isinstance(outcome, Failure):
            return outcome
        return replace(outcome, fits={d.id: d.fits(outcome.need_bytes) for d in self._plan.devices})

    def _advance(self, seen: Seen) -> None:
        if seen.parameters:
            self._model = replace(self._model, parameters=seen.parameters)
        self._progress.advanced(seen.frames, f"error {100 * seen.wrong / seen.frames:.1f} %" if seen.frames else "")

    def _hold_races(self) -> None:
        for batch in self._plan.request.batches:  # what nobody can race without
            self._graphs.forward(batch)
        lines_up = [list(self._racing(cases)) for cases in _races(self._plan.cases)]
        rounds = self._plan.request.rounds
        for cases in lines_up:
            race = Race(cases)
            self._races.append(race)
            self._progress.started(race.name, rounds, "rounds")
            race.run(rounds, self._progress.doing, self._progress.advanced)
            self._progress.finished(race.name, f"{len(cases) - len(race.failures())} contestants")

    def _racing(self, cases: list[Case]) -> Iterator[Case]:
        """The cases with their files, but for those that cannot have them."""
        for case in cases:
            try:
                ready = self._graphs.given(replace(case, **self._data))
            except EcottaError as error:
                failure = Failure(f"onnx {case.method} {case.normalisation}", str(error), error.exit_code)
                if failure not in self._failures:  # it is to take part in several races
                    self._failures.append(failure)
                continue
            if case.fast and ready.bundle is not None and not _has_fast_step(Path(ready.bundle), case.batch):
                self._left_out[f"{case.label}, batch {case.batch}"] = f"{Path(ready.bundle).name} has no such step"
                continue
            yield ready


def _races(cases: tuple[Case, ...]) -> list[list[Case]]:
    return [list(race) for _, race in groupby(cases, key=lambda case: (case.batch, case.threads))]


def _has_fast_step(bundle: Path, batch: int) -> bool:
    try:
        return graph_for(read_bundle(bundle, verify=False).manifest, "step", batch, fast=True) is not None
    except InputFileError:
        return True  # the contestant will say what is wrong with it
