"""What streams gave: the rows of the JSON file, which is also where a broken-off run goes on.

A row says by two digests what it was measured on: `request`, of stream, images, method, options and files; and `made`,
of the code and the bundle that ran. Several processes may write one file: each adds its rows under a lock.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ecotta_rt.bench.streams.figures import Errors, Group
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.lock import locked

__all__ = ["SCHEMA", "StreamReport", "StreamRow", "StreamsFile", "Subject", "read_report"]

SCHEMA = 1
"""Version of the JSON object; it changes when a key is renamed, removed or changes its meaning."""

_WAIT_S = 60.0


@dataclass(frozen=True)
class Subject:
    """What a file is about; one file has one network and one image set.

    Attributes:
        network: Its name.
        network_sha256: Of its file.
        images: Name of the image set.
    """

    network: str
    network_sha256: str
    images: str


@dataclass(frozen=True)
class StreamRow:
    """One method over one stream, measured in a process of its own.

    Sizes are bytes, times milliseconds, errors percent.

    Attributes:
        protocol: Its name.
        seed: Of stream and method.
        stream: Digest of all that was shown when; equal for all methods of a protocol and seed.
        method: Method id.
        engine: `torch` or `onnx`.
        batch: Frames a step.
        normalisation: Statistics the norms used.
        request: Digest of what was asked for.
        made: Digest of the code, and with onnx of the bundle, that ran.
        corruptions: How many the stream has.
        frames_each: Valid frames a corruption, as asked for.
        severity: As asked for.
        frames: All that were shown.
        distinct_images: Images of the set among the valid frames.
        answers: Name -> its errors: `unfiltered`, which every method has, and perhaps `filtered`.
        activation_bytes, step_peak_bytes, process_baseline_bytes, load_peak_bytes, process_peak_bytes, ms_per_frame,
            forward_ms_per_frame, trainable_parameters, session_options: As in `ecotta_rt.bench.results.Row`, of this
            very run.
        cpu: The processor's own name.
        commit: Of the checkout that ran; None outside one.
    """

    protocol: str
    seed: int
    stream: str
    method: str
    engine: str
    batch: int
    normalisation: str
    request: str
    made: str
    corruptions: int
    frames_each: int
    severity: int
    frames: int
    distinct_images: int
    answers: Mapping[str, Errors]
    activation_bytes: int
    step_peak_bytes: int
    process_baseline_bytes: int
    load_peak_bytes: int
    process_peak_bytes: int
    ms_per_frame: float
    forward_ms_per_frame: float
    trainable_parameters: int
    session_options: Mapping[str, str | int | float]
    cpu: str
    commit: str | None

    @property
    def label(self) -> str:
        """Method, engine, norms and batch, and a step size that is not the paper's."""
        norms = f" {self.normalisation}" if self.method.startswith(("ecotta", "oracle")) else ""
        views = "" if self.views == 1 else f" x{self.views}"
        rate = f" lr {self.session_options['lr']:g}" if "lr" in self.session_options else ""
        return f"{self.method}{views}{norms} {self.engine} {self.batch}{rate}"

    @property
    def views(self) -> int:
        """2: it answered with the mean over a frame and its mirror image."""
        return int(self.session_options.get("views", 1))

    @property
    def setting(self) -> tuple[int, int, int]:
        """Corruptions, frames of each, severity: rows that differ in them do not belong in one table."""
        return self.corruptions, self.frames_each, self.severity

    @property
    def place(self) -> tuple[object, ...]:
        """A newer row of the same place is put in this one's stead."""
        options = self.views, self.session_options.get("lr")
        method = (self.method, self.engine, self.batch, self.normalisation, *options)
        return self.setting, self.protocol, self.seed, *method


@dataclass(frozen=True)
class StreamReport:
    """All rows of a file.

    Attributes:
        subject: What it is about.
        rows: In the order in which they were measured.
    """

    subject: Subject
    rows: tuple[StreamRow, ...] = field(default_factory=tuple)

    def settings(self) -> dict[tuple[int, int, int], list[StreamRow]]:
        """Setting -> its rows, the largest first."""
        settings = sorted({row.setting for row in self.rows}, reverse=True)
        return {setting: [row for row in self.rows if row.setting == setting] for setting in settings}

    def to_json(self) -> str:
        """The object of `--json`; a line a row."""
        head = json.dumps({"schema": SCHEMA, "measured": "streams", **asdict(self.subject)})
        rows = ",\n".join(json.dumps(asdict(row)) for row in self.rows)
        return f'{head[:-1]}, "rows": [\n{rows}\n]}}\n'

    def with_row(self, row: StreamRow) -> "StreamReport":
        """The same and this row, in the stead of one of the same place."""
        return StreamReport(self.subject, (*(old for old in self.rows if old.place != row.place), row))


class StreamsFile:
    """The file, or none: then rows are held here alone.

    Args:
        path: Where rows go; None: nowhere. What is there already is kept.
        subject: What we measure.

    Raises:
        UsageError: The file is about another network or image set.
        InputFileError: It is no such file.
    """

    def __init__(self, path: Path | None, subject: Subject) -> None:
        self._path = path
        self._held = StreamReport(subject)
        self.report()

    def report(self) -> StreamReport:
        """All rows there are now, those of other processes too."""
        if self._path is None or not self._path.exists():
            return self._held
        report = read_report(self._path)
        if report.subject != self._held.subject:
            raise UsageError(
                f"--json {self._path}: it is about {report.subject.network} on {report.subject.images}, and this run "
                f"about {self._held.subject.network} on {self._held.subject.images}; name another file"
            )
        return report

    def add(self, row: StreamRow) -> None:
        """Keep a row."""
        if self._path is None:
            self._held = self._held.with_row(row)
            return
        with locked(self._path, _WAIT_S):
            write_atomic(self._path, self.report().with_row(row).to_json().encode())


def read_report(path: Path) -> StreamReport:
    """Read what `--stream --json` wrote.

    Raises:
        InputFileError: It is no such file.
    """
    try:
        found = json.loads(path.read_bytes())
        if (found["schema"], found["measured"]) != (SCHEMA, "streams"):
            raise InputFileError(
                f"{path}: schema {found['schema']} of {found['measured']}; expected {SCHEMA} of streams"
            )
        subject = Subject(found["network"], found["network_sha256"], found["images"])
        return StreamReport(subject, tuple(_rows(found["rows"])))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputFileError(f"{path}: not what ecotta-bench --stream wrote ({error}); name another file") from error


def _rows(rows: Iterable[dict[str, Any]]) -> Iterable[StreamRow]:
    for row in rows:
        yield StreamRow(**{**row, "answers": {name: _errors(errors) for name, errors in row["answers"].items()}})


def _errors(found: dict[str, Any]) -> Errors:
    groups = {key: {name: Group(**group) for name, group in found[key].items()} for key in ("by_visit", "by_part")}
    return Errors(
        **{**found, **groups, "after_change": Group(**found["after_change"]), "windows": tuple(found["windows"])}
    )
