"""What doubt and drift do to an owner: how often they are told, how soon, and how often for nothing.

For measure_signs.py, which says what is played. Frames come at 10 a second; signs are judged every 5 s, as the daemon
does it.

A doubt that begins is false where less than 0.8 times its limit of the last 200 answers were wrong. Beside that: how
much of the time in which more than 1.2 times the limit were wrong was in doubt.

A drift that is told within 100 frames of a change is right, any other is false. `DriftDetector` is run anew over the
keys of each stream, for every limit. For comparison `Places`, which the memory of places notices changes by, over the
same keys.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Moments
from ecotta_rt.adapt.drift import DriftDetector
from ecotta_rt.adapt.places import Places
from ecotta_rt.adapt.signs import SignsRecipe, StreamSigns
from ecotta_rt.daemon.doubts import DoubtLimits, Doubts
from ecotta_rt.events import DoubtBegan, Signs

__all__ = ["DRIFT_LIMITS", "FRAMES_PER_S", "doubt_alarms", "drift_alarms"]

FRAMES_PER_S = 10.0
JUDGE_EVERY = 50
DRIFT_LIMITS = (3.0, 4.0, 5.0)
SOON, AT_ALL = 50, 100
CHANGING = ("continual", "practical", "sorted", "one-class", "sudden", "garbage")
"""Protocols whose stays are long enough for a change to be noticed in 100 frames."""

Arrays = Mapping[str, NDArray[Any]]


def told(stream: Arrays, temperature: float | None) -> Iterator[tuple[int, Signs, int]]:
    """Whenever they are judged: the frame, the signs, and how many frames the frozen network had answered."""
    signs = StreamSigns(SignsRecipe(stream["filtered"].shape[1], temperature=temperature))
    for place, filtered in enumerate(stream["filtered"]):
        signs.take(stream["unfiltered"][place][None], filtered[None])
        if np.isfinite(stream["frozen"][place, 0]):
            signs.compare(filtered, stream["frozen"][place])
        if place % JUDGE_EVERY == JUDGE_EVERY - 1:
            yield place, signs.told(place), signs.compared


def recent_errors(stream: Arrays) -> NDArray[np.float64]:
    """Of the last 200 answers, or as many as there are; 0 where all are garbage."""
    valid = stream["labels"] >= 0
    wrong = valid & (stream["filtered"].argmax(axis=1) != stream["labels"])
    wrongs, valids = (np.cumsum(np.concatenate([np.zeros(200), flags])) for flags in (wrong, valid))
    return np.asarray((wrongs[200:] - wrongs[:-200]) / np.maximum(valids[200:] - valids[:-200], 1), np.float64)


def doubt_alarms(
    streams: Mapping[str, Arrays], temperature: float | None, limits: Sequence[float]
) -> list[dict[str, Any]]:
    """What the doubt rule does, a row a limit of the expected error."""
    signs = {name: list(told(stream, temperature)) for name, stream in streams.items()}
    errors = {name: recent_errors(stream) for name, stream in streams.items()}
    hours = _hours(len(stream["labels"]) for stream in streams.values())
    rows = [_at_limit(signs, errors, hours, limit) for limit in limits]
    return [
        {"limit": limit, "calibrated": temperature is not None, **row} for limit, row in zip(limits, rows, strict=True)
    ]


def _at_limit(
    signs: Mapping[str, list[tuple[int, Signs, int]]],
    errors: Mapping[str, NDArray[np.float64]],
    hours: float,
    limit: float,
) -> dict[str, Any]:
    false = right = doubted = bad = judged = 0
    collapses: list[str] = []
    for name, found in signs.items():
        doubts = Doubts(DoubtLimits(most_error=limit))
        for place, each, compared in found:
            error = errors[name][place]
            for event in doubts.judge(each, compared, place / FRAMES_PER_S):
                if isinstance(event, DoubtBegan):
                    false, right = false + (error < 0.8 * limit), right + (error >= 0.8 * limit)
            collapses += [name] if doubts.collapsed and name not in collapses else []
            is_bad = error > 1.2 * limit and place >= 99
            bad, doubted = bad + is_bad, doubted + (is_bad and doubts.since_s is not None)
        judged += len(found)
    return {
        "hours": round(hours, 2),
        "false alarms": int(false),
        "false alarms an hour": round(float(false / hours), 2),
        "right alarms": int(right),
        "bad time doubted": round(float(doubted / bad), 3) if bad else None,
        "bad time": round(float(bad / judged), 3),
        "streams taken for collapsed": collapses,
    }


def drift_alarms(
    changing: Mapping[str, Arrays], steady: Mapping[str, Arrays], limits: Sequence[float] = DRIFT_LIMITS
) -> list[dict[str, Any]]:
    """How many changes are noticed and how many are none, a row a limit; the last one is of the memory of places.

    Args:
        changing: Streams of several places, by name; those whose stays are too short are left out.
        steady: Streams of one place each; names say whether classes come in runs.
        limits: Of `DriftDetector`.
    """
    changing = {name: stream for name, stream in changing.items() if name.split("-seed-")[0] in CHANGING}
    rows = []
    for limit in (*limits, None):
        notices = places_notice if limit is None else drift_notices(limit)
        rows.append({"limit": limit, **_noticed(notices, changing), **_false(notices, steady)})
    return rows


Notices = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""From keys, float32 `[N, D]`, to the frames at which a change is noticed."""


def drift_notices(limit: float) -> Notices:
    def notices(keys: NDArray[np.float32]) -> NDArray[np.int64]:
        detector = DriftDetector(keys.shape[1], limit)
        return np.array([place for place, key in enumerate(keys) if detector.take(key) is not None], np.int64)

    return notices


def places_notice(keys: NDArray[np.float32]) -> NDArray[np.int64]:
    nothing = Moments(np.zeros(1, np.float32), np.ones(1, np.float32))
    places, found = Places(nothing, keys.shape[1], capacity=8), []
    for place, key in enumerate(keys):
        before = places.changes
        places.notice(key, nothing)
        found += [place] if places.changes > before else []
    return np.array(found, np.int64)


def _noticed(notices: Notices, streams: Mapping[str, Arrays]) -> dict[str, Any]:
    delays: list[float] = []
    for stream in streams.values():
        found = notices(stream["keys"])
        starts = np.flatnonzero(np.diff(stream["places"])) + 1
        for start, end in zip(starts, [*starts[1:], len(stream["places"])], strict=True):
            first = found[(found >= start) & (found < min(end, start + AT_ALL))]
            delays.append(float(first[0] - start) if len(first) else np.inf)
    soon, at_all = (np.array(delays) < frames for frames in (SOON, AT_ALL))
    return {
        "changes": len(delays),
        f"within {SOON}": round(float(soon.mean()), 3) if delays else None,
        f"within {AT_ALL}": round(float(at_all.mean()), 3) if delays else None,
        "median frames until then": float(np.median(np.array(delays)[at_all])) if at_all.any() else None,
    }


def _false(notices: Notices, streams: Mapping[str, Arrays]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for order in ("shuffled", "in runs"):
        chosen = [stream["keys"] for name, stream in streams.items() if f"-{order.replace(' ', '-')}-" in name]
        hours, false = _hours(map(len, chosen)), sum(len(notices(keys)) for keys in chosen)
        rows[f"hours {order}"] = round(hours, 2)
        rows[f"false an hour {order}"] = round(false / hours, 2) if hours else None
    return rows


def _hours(frames: "Iterator[int]") -> float:
    return sum(frames) / FRAMES_PER_S / 3600
