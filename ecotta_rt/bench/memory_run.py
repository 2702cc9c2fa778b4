"""`ecotta-bench --memory`: record the stream once, measure every method on it, keep what is done."""

import tempfile
from dataclasses import replace
from pathlib import Path

from ecotta_rt.bench.bundles import note_on_code
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.exporting import bundle_for, forward_for
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.measure import Progress, measure_method
from ecotta_rt.bench.memory_cage import CageRecord, MemoryCage
from ecotta_rt.bench.peers import METHODS
from ecotta_rt.bench.plan import Plan
from ecotta_rt.bench.recording import write_recording
from ecotta_rt.bench.results import Enforced, Failure, ModelFacts, Report, Row, StreamFacts
from ecotta_rt.bench.run_progress import RunProgress
from ecotta_rt.data.stream import Segment, Stream, open_stream, source_frames
from ecotta_rt.errors import EcottaError, UsageError
from ecotta_rt.files.temporary import temporary_folder

__all__ = ["MemoryRun"]

_SOURCE_FRAMES = 2000  # what EATA looks at before it adapts (arXiv 2204.02610, section 5.1)


class MemoryRun:
    """A run in progress; whatever ends it, `report` tells what had been measured by then.

    Args:
        plan: What to measure.
        progress: Hears how far it has come.

    Attributes:
        outcomes: A row or a failure for each method that is done.
    """

    def __init__(self, plan: Plan, progress: RunProgress) -> None:
        self.outcomes: list[Row | Failure] = []
        self._plan, self._progress = plan, progress
        self._stream: StreamFacts | None = None
        # Now, since the files may be others when the run is over.
        self._model = ModelFacts(plan.files.model, None, plan.files.digest())
        self._beside = plan.beside()
        self._held: dict[str, CageRecord] = {}

    def run(self) -> None:
        """Measure all methods of the plan, one after the other.

        Raises:
            EcottaError: The stream cannot be made. What goes wrong with one method is one of `outcomes`.
        """
        request = self._plan.request
        for method, reason in self._plan.left_out.items():
            self._progress.doing(f"{method} is left out: {reason}")
        if request.bundle is not None and (note := note_on_code(request.bundle)):
            self._progress.doing(note)
        with temporary_folder(tempfile.gettempdir(), "ecotta-bench-") as folder:
            stream, source = self._record_stream(folder), self._record_source(folder)
            for method in request.methods:
                wants_source = "source_frames" in METHODS[method].takes
                job = self._job(method, stream, source if wants_source else None)
                try:
                    job = self._with_graphs(job)
                except EcottaError as error:
                    self._done(Failure(method, str(error), error.exit_code))
                else:
                    self._measure(job)

    def report(self) -> Report | None:
        """What has been measured; None when not even the stream was made."""
        if self._stream is None:
            return None
        plan = self._plan
        rows = tuple(outcome for outcome in self.outcomes if isinstance(outcome, Row))
        return Report(
            environment=read_environment(plan.request.threads),
            stream=self._stream,
            model=self._model,
            beside=self._beside,
            rows=rows,
            failures=tuple(outcome for outcome in self.outcomes if isinstance(outcome, Failure)),
            left_out=dict(plan.left_out),
            complete=len(rows) == len(plan.request.methods),
            enforced=plan.enforced and replace(plan.enforced, held=dict(self._held)),
        )

    def _measure(self, job: Job) -> None:
        corruptions, frames = len(self._plan.request.corruptions), self._plan.request.frames or 0
        self._progress.started(job.method, corruptions * frames, "frames")
        try:
            outcome = self._outcome(job, self._plan.enforced)
        except EcottaError as error:  # the cage's
            outcome = Failure(job.method, str(error), error.exit_code)
        if isinstance(outcome, Row):
            outcome = replace(outcome, fits={d.id: d.fits(outcome.need_bytes) for d in self._plan.devices})
        self._done(outcome)

    def _outcome(self, job: Job, enforced: Enforced | None) -> Row | Failure:
        if enforced is None:
            return measure_method(job, self._advance)
        with MemoryCage(enforced.limit_bytes) as cage:
            outcome = measure_method(job, self._advance, cage)
            self._held[job.method] = cage.held()
            return outcome

    def _done(self, outcome: Row | Failure) -> None:
        self.outcomes.append(outcome)
        result = "no result" if isinstance(outcome, Failure) else f"error {outcome.error_percent:.2f} %"
        self._progress.finished(outcome.method, result)

    def _with_graphs(self, job: Job) -> Job:
        """The job with the files that an onnx engine needs; those that are missing are made first."""
        plan = self._plan
        if plan.forward is None:
            return job
        forward, order = forward_for(plan.forward, self._progress.doing), plan.orders.get(job.method)
        bundle = plan.request.bundle if order else None
        if order is not None and bundle is None:
            bundle = bundle_for(order, self._progress.doing)
        return replace(job, forward=str(forward), bundle=None if bundle is None else str(bundle))

    def _advance(self, progress: Progress) -> None:
        if progress.parameters:
            self._model = replace(self._model, parameters=progress.parameters)
        error = f"error {100 * progress.wrong / progress.frames:.1f} %" if progress.frames else ""
        self._progress.advanced(progress.frames, error)

    def _record_stream(self, folder: Path) -> str:
        request = self._plan.request
        self._progress.doing(f"making the stream: {len(request.corruptions)} corruptions x {request.frames} frames")
        stream = open_stream(
            request.data,
            corruptions=request.corruptions,
            severity=request.severity,
            frames=request.frames,
            seed=request.seed,
            shuffle_corruptions=request.order == "shuffled",
        )
        self._stream = _facts(stream, request.order)
        return _write(folder / "stream", stream.segments)

    def _record_source(self, folder: Path) -> str | None:
        """Clean training images for the methods that look at some; None where there are none or nobody asks."""
        request = self._plan.request
        if not any("source_frames" in METHODS[method].takes for method in request.methods):
            return None
        try:
            frames, labels = source_frames(request.data, seed=request.seed)
        except UsageError as error:
            self._progress.doing(f"eata runs as eta, without its regulariser: {error}")
            return None
        return _write(folder / "source", [Segment("none", frames[:_SOURCE_FRAMES], labels[:_SOURCE_FRAMES])])

    def _job(self, method: str, recording: str, source_recording: str | None) -> Job:
        request, resource = self._plan.request, self._plan.resources.get(method)
        return Job(
            method=method,
            network=str(self._plan.files.network),
            resource=None if resource is None else str(resource),
            recording=recording,
            source_recording=source_recording,
            batch=request.batch,
            normalisation=request.normalisation,
            gradient=request.gradient,
            memory_format=request.memory_format,
            allocator=request.allocator or "libc",
            threads=request.threads,
            seed=request.seed,
            hyperparameters=dict(request.hyperparameters),
            engine=request.engine,
            frame_by_frame=request.frame_by_frame,
            fast=request.fast,
            optimisation=request.optimisation,
            memory_kind=request.memory_kind,
        )


def _write(folder: Path, segments: tuple[Segment, ...] | list[Segment]) -> str:
    folder.mkdir()
    write_recording(folder, segments)
    return str(folder)


def _facts(stream: Stream, order: str) -> StreamFacts:
    return StreamFacts(
        name=stream.name,
        frames=stream.frames_per_corruption,
        corruptions=tuple(segment.corruption for segment in stream.segments),
        severity=stream.severity,
        order=order,
        seed=stream.seed,
    )
