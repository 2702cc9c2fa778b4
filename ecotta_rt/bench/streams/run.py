"""Play streams to methods: make each stream once, play it in a process a case, keep every row when it is there."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from ecotta_rt.bench.case import Case
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.graphs import Graphs
from ecotta_rt.bench.measure import Seen, measured
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bench.peers import METHODS
from ecotta_rt.bench.record_source import record_source
from ecotta_rt.bench.recording import heard_answers
from ecotta_rt.bench.results import Failure
from ecotta_rt.bench.run import BenchProgress
from ecotta_rt.bench.streams.figures import score
from ecotta_rt.bench.streams.frame_plan import FramePlan
from ecotta_rt.bench.streams.pixels import record_plan
from ecotta_rt.bench.streams.plan import StreamPlan, label
from ecotta_rt.bench.streams.protocols import plan_stream
from ecotta_rt.bench.streams.remaining import Remaining
from ecotta_rt.bench.streams.results import StreamReport, StreamRow, StreamsFile
from ecotta_rt.errors import EcottaError
from ecotta_rt.files.temporary import temporary_folder

__all__ = ["StreamRun"]

_PACKAGE = Path(__file__).resolve().parents[2]
_OURS = ("method/**/*.py", "options.py")
_ON_DEVICE = ("runtime/*.py", "session/*.py", "adapt/*.py", "bench/onnx_engine.py", "options.py")

# Of a case, what decides no answer: where files lie is no matter, what is in them is.
_PATHS = ("network", "resource", "bundle", "forward", "recording", "source_recording", "way_out")


class StreamRun:
    """A run in progress; whatever ends it, what had been measured by then is in the file.

    Args:
        plan: What to play, and to whom.
        file: Where rows go, and where those of an earlier run are.
        progress: Hears how far it has come.
    """

    def __init__(self, plan: StreamPlan, file: StreamsFile, progress: BenchProgress) -> None:
        self._plan, self._file, self._progress = plan, file, progress
        self._graphs = Graphs(plan.files, plan.orders, plan.named, progress.doing)
        self._environment = read_environment(max(plan.request.threads))
        self._remaining = Remaining(len(plan.cases) * len(plan.request.streams) * len(plan.request.seeds))
        self.failures: list[Failure] = []

    def run(self) -> None:
        """Play every stream to every case that has not played it yet.

        Raises:
            EcottaError: A stream cannot be made. What goes wrong with one case is one of the failures.
        """
        for who, reason in self._plan.left_out.items():
            self._progress.doing(f"{who} is left out: {reason}")
        ready = tuple(self._with_graphs())
        with temporary_folder(tempfile.gettempdir(), "ecotta-bench-") as folder:
            for seed in self._plan.request.seeds:
                self._play_all(seed, ready, folder / str(seed))

    def report(self) -> StreamReport:
        """All rows there are, those of earlier runs too."""
        return self._file.report()

    def _with_graphs(self) -> Iterator[Case]:
        """The cases with their graphs, those that can have them."""
        for case in self._plan.cases:
            try:
                yield self._graphs.given(case)
            except EcottaError as error:
                self._fail(label(case), str(error), error.exit_code)

    def _play_all(self, seed: int, cases: tuple[Case, ...], folder: Path) -> None:
        request = replace(self._plan.request, seed=seed)
        cases = tuple(replace(case, seed=seed) for case in cases)
        folder.mkdir()
        source: dict[str, Any] | None = None
        for protocol in request.streams:
            labels, frames = self._plan.images.labels, request.frames or 0
            plan = plan_stream(protocol, labels, request.corruptions, frames, severity=request.severity, seed=seed)
            waiting = [case for case in cases if not self._is_done(case, plan)]
            self._remaining.skip(len(cases) - len(waiting))
            if not waiting:
                continue
            if source is None:
                source = record_source(cases, request, folder, self._progress.doing)
            with temporary_folder(str(folder), f"{protocol}-") as place:
                record_plan(plan, self._plan.images, place, self._progress.doing)
                for case in waiting:
                    self._play(replace(case, recording=str(place), **source), plan)

    def _is_done(self, case: Case, plan: FramePlan) -> bool:
        request, made = self._digests(case, plan)
        return any(
            row.request == request and (self._plan.request.keep or row.made == made) for row in self._file.report().rows
        )

    def _play(self, case: Case, plan: FramePlan) -> None:
        if self._is_done(case, plan):  # another process was faster
            self._remaining.skip(1)
            return
        name = f"{plan.protocol}, seed {plan.seed}: {label(case)}"
        self._progress.started(name, len(plan), "frames")
        self._remaining.begin()
        outcome = measured(case, self._advance)
        self._remaining.end()
        if isinstance(outcome, Failure):
            self._fail(name, outcome.message, outcome.exit_code)
            return
        row = self._row(case, plan, outcome)
        self._file.add(row)
        errors = "  ".join(f"{answer} {errors.error_percent:.2f} %" for answer, errors in row.answers.items())
        self._progress.finished(name, f"{errors}  {self._remaining}")

    def _advance(self, seen: Seen) -> None:
        self._progress.advanced(seen.frames, f"wrong {seen.wrong}" if seen.frames else "")

    def _fail(self, name: str, message: str, exit_code: int) -> None:
        self.failures.append(Failure(name, message, exit_code))
        self._progress.finished(name, f"no result: {message}")

    def _row(self, case: Case, plan: FramePlan, found: dict[str, Any]) -> StreamRow:
        request, made = self._digests(case, plan)
        answers = {name: score(plan, heard_answers(text)) for name, text in found.pop("answers").items()}
        asked = self._plan.request
        return StreamRow(
            protocol=plan.protocol,
            seed=plan.seed,
            stream=plan.digest(),
            request=request,
            made=made,
            corruptions=len(asked.corruptions),
            frames_each=asked.frames or 0,
            severity=asked.severity,
            distinct_images=plan.distinct_images,
            answers=answers,
            cpu=self._environment.cpu,
            commit=self._environment.commit,
            **found,
        )

    def _digests(self, case: Case, plan: FramePlan) -> tuple[str, str]:
        """Of the request, and of what answers it."""
        images = self._plan.images
        asked = {
            "stream": plan.digest(),
            "images": (images.name, _digest(images.clean(plan.images[plan.valid][:8]).tobytes())),
            "case": {key: value for key, value in asdict(case).items() if key not in _PATHS and value is not None},
            "files": [_file_digest(path) for path in (case.network, case.resource) if path],
        }
        made = [_code_digest(_sources(case)), *([_file_digest(case.bundle)] if case.bundle else [])]
        return _digest(json.dumps(asked, sort_keys=True).encode()), _digest(json.dumps(made).encode())


def _sources(case: Case) -> tuple[str, ...]:
    """Files of ours that decide what a case answers, as patterns."""
    if case.engine == "onnx":
        return _ON_DEVICE
    return ("bench/peers/*.py", *(_OURS if "warmed" in METHODS[case.method].takes else ()))


@cache
def _code_digest(patterns: tuple[str, ...]) -> str:
    found = sorted(path for pattern in patterns for path in _PACKAGE.glob(pattern))
    return _digest(b"".join(path.read_bytes().replace(b"\r\n", b"\n") for path in found))


@cache
def _file_digest(path: str) -> str:
    return sha256_of(Path(path))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
