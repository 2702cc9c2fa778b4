"""The demo in words, figures and bars."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.demo.ladder import WAYS, Outcome
from ecotta_rt.demo.shipped import Stream

__all__ = ["bars", "closing", "facts", "heading", "mean_row", "row"]

_NAME_WIDTH, _WIDTH = 18, 12
_BAR = 40
_MIB = 2**20
_FULL, _PLAIN = "█", "#"


def heading() -> str:
    """Above the rows."""
    return "error %".ljust(_NAME_WIDTH) + "".join(way.rjust(_WIDTH) for way in WAYS)


def row(corruption: str, wrong: Mapping[str, NDArray[np.bool_]]) -> str:
    """A line of the table; a way that has not begun has an empty place."""
    cells = [_percent(wrong[way]) if way in wrong and len(wrong[way]) else "" for way in WAYS]
    return corruption.ljust(_NAME_WIDTH) + "".join(cell.rjust(_WIDTH) for cell in cells)


def mean_row(outcome: Outcome) -> str:
    """The last line of the table: over all frames."""
    return row("all", {way: wrong.ravel() for way, wrong in outcome.wrong.items()})


def bars(outcome: Outcome, encoding: str | None) -> str:
    """The error of each way as a bar, in characters that `encoding` has."""
    errors = {way: 100 * float(wrong.mean()) for way, wrong in outcome.wrong.items()}
    most = max(errors.values()) or 1.0
    mark = _FULL if _encodes(_FULL, encoding) else _PLAIN
    lines = [f"{way:<12}{mark * round(_BAR * error / most):<{_BAR}} {error:5.1f} %" for way, error in errors.items()]
    return "\n".join(lines)


def closing(stream: Stream, outcome: Outcome) -> str:
    """What the figures say, and what they cost."""
    wrong = [outcome.wrong[way].ravel() for way in WAYS]
    count = len(wrong[0])
    steps = [_step(before, after) for before, after in itertools.pairwise(wrong)]
    lines = [
        f"Of {count:,} frames the network got {int(wrong[0].sum())} wrong as it came. Then, each on top of the last:",
        f"  the warm-up, done before it was shipped, {steps[0]};",
        f"  statistics that follow the stream {steps[1]};",
        f"  learning, from {outcome.learned:,} frames that it was certain enough of, {steps[2]}.",
        f"One network ({outcome.network}) on one short stream: an observation, not a result.",
        _cost(outcome),
    ]
    return "\n".join(lines)


def facts(stream: Stream, outcome: Outcome) -> dict[str, Any]:
    """All of it as one JSON object."""
    return {
        "schema": 1,
        "demo": "fashion-mnist-c, grey",
        "model": outcome.network,
        "seed": stream.seed,
        "frames": int(stream.labels.size),
        "frames_learned_from": outcome.learned,
        "error_percent": {way: 100 * float(wrong.mean()) for way, wrong in outcome.wrong.items()},
        "errors": {
            corruption: {way: 100 * float(outcome.wrong[way][place].mean()) for way in WAYS}
            for place, corruption in enumerate(stream.corruptions)
        },
        "ms_per_frame": dict(outcome.ms_per_frame),
        "process_peak_bytes": outcome.peak_bytes,
    }


def _percent(wrong: NDArray[np.bool_]) -> str:
    return f"{100 * float(wrong.mean()):.1f}"


def _step(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> str:
    right, spoiled = int((before & ~after).sum()), int((~before & after).sum())
    if not right and not spoiled:
        return "changed no answer's being right or wrong"
    return f"put {right} right and spoiled {spoiled}"


def _cost(outcome: Outcome) -> str:
    answering, learning = outcome.ms_per_frame["statistics"], outcome.ms_per_frame["learning"]
    memory = "" if outcome.peak_bytes is None else f"{outcome.peak_bytes / _MIB:.0f} MiB at most for the process, "
    return f"It took {memory}{answering:.1f} ms a frame to answer and {learning:.1f} to answer and learn (medians)."


def _encodes(mark: str, encoding: str | None) -> bool:
    try:
        mark.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
