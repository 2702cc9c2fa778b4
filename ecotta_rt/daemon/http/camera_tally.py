"""What one camera has come to: counts since the start, the newest values, and the course of the last minutes."""

import math
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

from ecotta_rt.events import (
    AdaptingSet,
    Answer,
    BatchAnswered,
    DoubtBegan,
    DoubtEnded,
    Drift,
    Dropped,
    Event,
    Refusal,
    Signs,
    SourceBack,
    SourceLost,
    StateNotSaved,
    StateReturned,
    StateSaved,
    StreamEnded,
)
from ecotta_rt.files.names import readable_name

__all__ = ["LATENCY_BOUNDS_S", "BoardCamera", "CameraTally"]

LATENCY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the histogram's buckets, in seconds; a last one has no end."""

_POINTS = 300
_COUNTS = (
    *("frames", "refused", "damaged", "batches", "offered", "adapted", "uncertain", "certain"),
    *("labelled", "correct", "lost", "resets", "saves", "saved_bytes", "drifts", "doubts"),
)
_POINT_S = 2.0
_LATELY = 5  # points
_LATELY_S = 60.0


@dataclass(frozen=True)
class BoardCamera:
    """A camera that a board is to know of.

    Attributes:
        name: Its name in the configuration.
        adapting: Whether it adapts at the start.
        silent_s: Without a frame for so long it is `silent`; None: it gives frames when it likes, as a watched folder.
    """

    name: str
    adapting: bool = True
    silent_s: float | None = 10.0


@dataclass
class _Point:
    """Sums over the frames of some seconds."""

    time_s: float
    monotonic_s: float
    frames: int = 0
    entropy_nats: float = 0.0
    certain: int = 0
    latency_s: float = 0.0

    def row(self, knows_gate: bool) -> list[float | None]:
        count = max(self.frames, 1)
        certain = round(self.certain / count, 4) if knows_gate else None
        return [
            round(self.time_s, 3),
            round(self.monotonic_s, 3),
            self.frames,
            _finite(self.entropy_nats / count, 4),
            certain,
            _finite(1000 * self.latency_s / count, 2),
        ]


class CameraTally:
    """Counts one camera's events. Not for several threads: the board has the lock.

    Args:
        camera: Which.
        now_s: By the clock that dates the frames.
    """

    def __init__(self, camera: BoardCamera, now_s: float) -> None:
        self.camera = camera
        self.adapting = camera.adapting
        self._since_s = now_s
        self._frame_s: float | None = None
        self._lost = False
        self._lost_why = ""
        self._ended: str | None = None
        self._counts: Counter[str] = Counter()
        self._dropped_in_all = 0
        self._dropped: dict[str, int] = {}
        self._latency_counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._latency_s = 0.0
        self._answer: dict[str, Any] | None = None
        self._signs: dict[str, Any] | None = None
        self._doubt: str | None = None
        self._drift: dict[str, Any] | None = None
        self._saved_s: float | None = None
        self._not_saved: str | None = None
        self._points: deque[_Point] = deque(maxlen=_POINTS)

    def set_dropped(self, by_reason: dict[str, int]) -> None:
        """So many frames were dropped so far, by reason; for a source that tells more than their number."""
        self._dropped = dict(by_reason)

    def take(self, event: Event, time_s: float, now_s: float, gate_nats: float | None) -> None:
        """Count an event of this camera."""
        match event:
            case Answer():
                self._take_answer(event, time_s, now_s, gate_nats)
            case BatchAnswered():
                self._counts["batches"] += 1
                self._counts["offered"] += event.offered
                self._counts["adapted"] += event.adapted
                self._counts["uncertain"] += event.offered and event.why == "uncertain"
                self._counts["damaged"] += event.damaged
            case SourceLost():
                if not self._lost:
                    self._counts["lost"] += 1
                    self._since_s = now_s
                self._lost, self._lost_why, self._ended = True, event.why, None
            case Refusal():
                self._counts["refused"] += 1
            case SourceBack():
                self._lost, self._ended, self._since_s, self._frame_s = False, None, now_s, now_s
            case Dropped():
                self._counts["shed"] += 1
                self._frame_s = now_s  # it gives frames
                self._dropped_in_all = max(self._dropped_in_all, event.dropped)
            case _:
                self._take_rare(event, time_s, now_s)

    def _take_rare(self, event: Event, time_s: float, now_s: float) -> None:
        match event:
            case AdaptingSet():
                self.adapting = event.adapting
            case Signs():
                self._signs = _plain(asdict(event))
            case Drift():
                self._counts["drifts"] += 1
                self._drift = {"time_s": time_s, "size": _finite(event.size, 3), "known": event.known}
            case DoubtBegan():
                self._counts["doubts"] += 1
                self._doubt = event.why
            case DoubtEnded():
                self._doubt = None
            case StateReturned():
                self._counts["resets"] += 1
            case StateSaved():
                self._counts["saves"] += 1
                self._counts["saved_bytes"] += event.bytes or 0
                self._saved_s, self._not_saved = time_s, None
            case StateNotSaved():
                self._not_saved = event.why
            case StreamEnded():
                self._ended, self._since_s = event.why, now_s

    def _take_answer(self, answer: Answer, time_s: float, now_s: float, gate_nats: float | None) -> None:
        self._counts["frames"] += 1
        self._counts["correct"] += bool(answer.correct)
        self._counts["labelled"] += answer.correct is not None
        self._dropped_in_all = max(self._dropped_in_all, answer.dropped)
        if self._lost or self._frame_s is None:
            self._since_s = now_s
        self._lost, self._ended, self._frame_s = False, None, now_s
        latency_s = answer.latency_ms / 1000
        self._latency_counts[bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1
        self._latency_s += latency_s
        self._answer = _plain({**vars(answer), "name": readable_name(answer.name), "time_s": time_s})
        certain = gate_nats is not None and answer.entropy_nats < gate_nats
        self._counts["certain"] += certain
        point = self._point(time_s, now_s)
        point.frames += 1
        point.entropy_nats += answer.entropy_nats
        point.certain += certain
        point.latency_s += latency_s

    def _point(self, time_s: float, now_s: float) -> _Point:
        if not self._points or now_s - self._points[-1].monotonic_s >= _POINT_S:
            self._points.append(_Point(time_s, now_s))
        return self._points[-1]

    # Reading

    @property
    def _seen_s(self) -> float:
        """When its last frame was seen, or where there was none, when one began to look for it."""
        return self._since_s if self._frame_s is None else self._frame_s

    @property
    def frames(self) -> int:
        """Frames that were answered."""
        return self._counts["frames"]

    def state(self, now_s: float) -> tuple[str, str]:
        """`waiting`, `live`, `silent`, `lost` or `ended`, and why."""
        if self._ended is not None:
            return "ended", self._ended
        if self._lost:
            return "lost", self._lost_why
        silent_s, without_s = self.camera.silent_s, now_s - self._seen_s
        if silent_s is not None and without_s > silent_s:
            return "silent", f"no frame for {without_s:.0f} s, more than {silent_s:g} s"
        return ("waiting", "no frame yet") if self._frame_s is None else ("live", "")

    def lately(self, now_s: float, knows_gate: bool) -> dict[str, float | None]:
        """Over the last points, some ten seconds: frames a second, which sinks while none comes, and the means."""
        latest = [point for point in list(self._points)[-_LATELY:] if now_s - point.monotonic_s < _LATELY_S]
        if not latest:
            return {"frames_per_s": 0.0, "entropy_nats": None, "certain": None, "latency_ms": None}
        frames = sum(point.frames for point in latest)
        certain = sum(point.certain for point in latest) / frames if knows_gate else None
        return {
            "frames_per_s": _finite(frames / max(now_s - latest[0].monotonic_s, _POINT_S / 2), 3),
            "entropy_nats": _finite(sum(point.entropy_nats for point in latest) / frames, 4),
            "certain": certain,
            "latency_ms": _finite(1000 * sum(point.latency_s for point in latest) / frames, 2),
        }

    def dropped(self) -> dict[str, int]:
        """Frames dropped so far, by reason; where nobody has told one, a newer frame has come."""
        shed = self._counts["shed"]
        told = self._dropped or {"newer": max(self._dropped_in_all - shed, 0)}
        return {"newer": 0, **told, "guard": shed}

    def snapshot(self, now_s: float, since_s: float, knows_gate: bool) -> dict[str, Any]:
        """All of it, made of JSON's kinds. Of the points those that ended after `since_s` on the monotonic clock."""
        state, why = self.state(now_s)
        points = [point.row(knows_gate) for point in self._points if point.monotonic_s + _POINT_S > since_s]
        return {
            "name": self.camera.name,
            "state": state,
            "why": why,
            "since_s": round(now_s - (self._seen_s if state == "silent" else self._since_s), 3),
            "expects_frames": self.camera.silent_s is not None and self._ended is None,
            "last_frame_s": None if self._frame_s is None else round(now_s - self._frame_s, 3),
            "adapting": self.adapting,
            "lately": self.lately(now_s, knows_gate),
            "counts": {name: self._counts[name] for name in _COUNTS},
            "dropped": self.dropped(),
            "latency": {
                "bounds_s": list(LATENCY_BOUNDS_S),
                "counts": list(self._latency_counts),
                "sum_s": round(self._latency_s, 6),
            },
            "answer": self._answer,
            "signs": self._signs,
            "doubt": self._doubt,
            "drift": self._drift,
            "saved_time_s": self._saved_s,
            "not_saved": self._not_saved,
            "points": points,
        }


def _finite(value: float, digits: int) -> float | None:
    # JSON has no NaN; a network that has diverged has.
    return round(value, digits) if math.isfinite(value) else None


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """In JSON's kinds."""
    plain: dict[str, Any] = {
        key: _finite(value, 6) if isinstance(value, float) else value for key, value in fields.items()
    }
    if plain.get("top"):
        plain["top"] = [[label, _finite(probability, 6)] for label, probability in plain["top"]]
    return plain
