"""Clean training images, written down for the methods that look at some before they adapt."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ecotta_rt.bench.case import Case
from ecotta_rt.bench.peers import METHODS
from ecotta_rt.bench.recording import written
from ecotta_rt.bench.request import Request
from ecotta_rt.data.stream import Segment, source_frames
from ecotta_rt.errors import UsageError

__all__ = ["record_source"]

_SOURCE_FRAMES = 2000  # what EATA looks at before it adapts (arXiv 2204.02610, section 5.1)


def record_source(cases: Sequence[Case], request: Request, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Record them below `folder`.

    Returns:
        What to change of every case; nothing where there are no training images or nobody asks.
    """
    if not any("source_frames" in METHODS[case.method].takes for case in cases):
        return {}
    try:
        frames, labels = source_frames(request.data, seed=request.seed)
    except UsageError as error:
        say(f"eata runs as eta, without its regulariser: {error}")
        return {}
    clean = Segment("none", frames[:_SOURCE_FRAMES], labels[:_SOURCE_FRAMES])
    return {"source_recording": written(folder / "source", (clean,))}
