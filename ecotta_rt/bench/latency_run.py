"""`ecotta-bench --latency`: make what is missing, hold the races one after the other, keep what is done."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from ecotta_rt.bench.bundles import graph_for, note_on_code
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.exporting import bundle_for, forward_for
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.latency_contestants import Contestant
from ecotta_rt.bench.latency_race import Race
from ecotta_rt.bench.latency_request import LatencyPlan, Start
from ecotta_rt.bench.latency_results import LatencyReport, make_rows
from ecotta_rt.bench.recording import write_recording
from ecotta_rt.bench.results import Failure, ModelFacts, StreamFacts
from ecotta_rt.bench.run_progress import RunProgress
from ecotta_rt.bundle import read_bundle
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.stream import open_stream
from ecotta_rt.errors import EcottaError, InputFileError
from ecotta_rt.files.temporary import temporary_folder

__all__ = ["LatencyRun"]

_FRAMES = 256  # more would not change a time
_CORRUPTION = CORRUPTIONS[:1]
_SEVERITY = 5


class LatencyRun:
    """A run in progress; whatever ends it, `report` tells what had been timed by then.

    Args:
        plan: What to time.
        progress: Hears how far it has come.

    Attributes:
        races: Those that were begun, in order.
        failures: Contestants that never started.
    """

    def __init__(self, plan: LatencyPlan, progress: RunProgress) -> None:
        self.races: list[Race] = []
        self.failures: list[Failure] = []
        self._plan, self._progress = plan, progress
        self._left_out = dict(plan.left_out)
        self._stream: StreamFacts | None = None
        self._bundles: dict[tuple[str, str], Path | EcottaError] = {}

    def run(self) -> None:
        """Hold all races.

        Raises:
            EcottaError: The frames or the inference-only graph cannot be made. What goes wrong with a contestant is
                one of `failures`.
        """
        for who, reason in self._plan.left_out.items():
            self._progress.doing(f"{who} is left out: {reason}")
        for note in filter(None, map(note_on_code, self._plan.named.values())):
            self._progress.doing(note)
        with temporary_folder(tempfile.gettempdir(), "ecotta-bench-") as folder:
            self._record(folder)
            forwards = {batch: forward_for(order, self._progress.doing) for batch, order in self._plan.forwards.items()}
            self._find_bundles()
            for start in self._plan.starts:
                self._hold(start, str(folder), forwards[start.batch])

    def report(self) -> LatencyReport | None:
        """What has been timed; None when not even the frames were made."""
        if self._stream is None:
            return None
        plan, request = self._plan, self._plan.request
        rows = [
            row for race in self.races for row in make_rows(race.batch, race.threads, [r.lap() for r in race.racers])
        ]
        failed = [
            Failure(f"{racer.failure.method}, {race.name}", racer.failure.message, racer.failure.exit_code)
            for race in self.races
            for racer in race.racers
            if racer.failure is not None
        ]
        failures = (*self.failures, *failed)
        return LatencyReport(
            environment=read_environment(max(request.threads)),
            stream=self._stream,
            model=ModelFacts(plan.files.model, None, plan.files.digest()),
            rounds=request.rounds,
            rows=tuple(rows),
            failures=failures,
            left_out=self._left_out,
            complete=not failures and sum(race.complete for race in self.races) == len(plan.starts),
        )

    def _record(self, folder: Path) -> None:
        request = self._plan.request
        wanted = max(_FRAMES, *request.batches)
        stream = open_stream(
            request.data, corruptions=_CORRUPTION, severity=_SEVERITY, seed=request.seed, frames=wanted
        )
        write_recording(folder, stream.segments)
        self._stream = StreamFacts(
            stream.name, stream.frames_per_corruption, _CORRUPTION, _SEVERITY, "official", request.seed
        )

    def _find_bundles(self) -> None:
        for (method, normalisation), order in self._plan.orders.items():
            try:
                found: Path | EcottaError = self._plan.named.get(normalisation) or bundle_for(
                    order, self._progress.doing
                )
            except EcottaError as error:
                found = error
                self.failures.append(Failure(f"onnx {method} {normalisation}", str(error), error.exit_code))
            self._bundles[method, normalisation] = found

    def _hold(self, start: Start, recording: str, forward: Path) -> None:
        race = Race(start.batch, start.threads)
        self.races.append(race)
        jobs = list(self._jobs(start, recording, forward))
        self._progress.started(race.name, self._plan.request.rounds, "rounds")
        race.run(
            jobs,
            self._plan.request.rounds,
            on_loading=lambda contestant: self._progress.doing(f"{race.name}: loading {contestant.label}"),
            on_round=self._progress.advanced,
        )
        timed = sum(racer.failure is None for racer in race.racers)
        self._progress.finished(race.name, f"{timed} contestants")

    def _jobs(self, start: Start, recording: str, forward: Path) -> Iterator[tuple[Contestant, Job]]:
        for contestant in start.contestants:
            bundle = self._bundles.get((contestant.method, contestant.normalisation))
            if contestant.from_bundle and not isinstance(bundle, Path):
                continue  # it is among the failures
            if contestant.fast and isinstance(bundle, Path) and not _has_fast_step(bundle, start.batch):
                self._left_out[f"{contestant.label}, batch {start.batch}"] = f"{bundle.name} has no such step"
                continue
            yield contestant, self._job(contestant, start, recording, forward, bundle)

    def _job(
        self, contestant: Contestant, start: Start, recording: str, forward: Path, bundle: Path | EcottaError | None
    ) -> Job:
        request, resource = self._plan.request, self._plan.resources.get(contestant.method)
        return Job(
            method=contestant.method,
            network=str(self._plan.files.network),
            resource=None if resource is None else str(resource),
            recording=recording,
            source_recording=None,
            batch=start.batch,
            normalisation=contestant.normalisation,
            gradient=request.gradient,
            memory_format="channels_last",  # torch contestants try both
            allocator="libc",
            threads=start.threads,
            seed=request.seed,
            engine=contestant.engine,
            bundle=str(bundle) if contestant.from_bundle else None,
            forward=str(forward),
            fast=contestant.fast,
            optimisation=request.optimisation,
            memory_kind=request.memory_kind,
        )


def _has_fast_step(bundle: Path, batch: int) -> bool:
    try:
        return graph_for(read_bundle(bundle, verify=False).manifest, "step", batch, fast=True) is not None
    except InputFileError:
        return True  # the contestant will say what is wrong with it
