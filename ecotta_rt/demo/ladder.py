"""Play one stream to one network in four ways, each with one thing more than the last.

    as it came    the trained network alone
    warmed up     and the meta groups, warmed up on corrupted training images; nothing moves
    statistics    and the norms' statistics follow the stream
    learning      and the groups learn from each frame, without its label

Two runtimes play them: one of the graph that moves nothing, and one that answers and learns. What makes a way is the
state that it goes on from and what is done with a frame.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import read_bundle
from ecotta_rt.demo.shipped import HELD, Stream
from ecotta_rt.machine.process_memory import peak_resident_bytes
from ecotta_rt.options import SessionOptions
from ecotta_rt.records import Prediction
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.state import AdaptState

__all__ = ["WAYS", "Outcome", "Watcher", "climb"]

WAYS = ("as it came", "warmed up", "statistics", "learning")

Answer = Callable[[NDArray[np.uint8]], Prediction]

Watcher = Callable[[str, Mapping[str, NDArray[np.bool_]], bool], None]
"""Called from time to time: a corruption, way -> bool `[frames so far]` (wrong answers), and whether it is done."""

_TELL_EVERY = 8  # frames


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of the four ways.

    Attributes:
        wrong: Way -> bool `[corruptions, n]`, answered wrongly.
        ms_per_frame: Way -> median wall time a frame.
        learned: Frames that were learned from: certain enough, and the update was finite.
        peak_bytes: The most memory the process had, its interpreter and libraries included; None where unknown.
        network: Name of the architecture.
    """

    wrong: Mapping[str, NDArray[np.bool_]]
    ms_per_frame: Mapping[str, float]
    learned: int
    peak_bytes: int | None
    network: str


def climb(bundle: Path, stream: Stream, watch: Watcher, threads: int = 1) -> Outcome:
    """Play `stream` in all four ways, corruption by corruption, to the shipped bundle, unpacked."""
    ways = _ways(bundle, stream, SessionOptions(threads))
    states = {way: runtime.state for way, (runtime, _) in ways.items()} | {WAYS[0]: _as_it_came(bundle, stream)}
    for _, answer in ways.values():  # the first run of a graph takes longer: it makes its buffers
        answer(stream.frames[0, :1])
    wrong: dict[str, list[NDArray[np.bool_]]] = {way: [] for way in WAYS}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    learned = 0
    for corruption, frames, labels in zip(stream.corruptions, stream.frames, stream.labels, strict=True):
        row: dict[str, NDArray[np.bool_]] = {}
        for way in WAYS:
            runtime, answer = ways[way]
            runtime.restore(states[way])
            row[way] = np.zeros(0, np.bool_)
            for place in range(len(frames)):
                start = time.perf_counter()
                prediction = answer(frames[place : place + 1])
                times[way].append(time.perf_counter() - start)
                learned += prediction.adapted
                row[way] = np.append(row[way], prediction.labels != labels[place])
                if place % _TELL_EVERY == 0:
                    watch(corruption, row, False)
            states[way] = runtime.state
            wrong[way].append(row[way])
        watch(corruption, row, True)
    return Outcome(
        {way: np.stack(rows) for way, rows in wrong.items()},
        {way: 1e3 * float(np.median(seconds)) for way, seconds in times.items()},
        learned,
        _peak(),
        read_bundle(bundle, verify=False).manifest.model,
    )


def _ways(path: Path, stream: Stream, options: SessionOptions) -> dict[str, tuple[Runtime, Answer]]:
    held = read_bundle(path, verify=False)
    held.manifest = replace(held.manifest, graphs=tuple(g for g in held.manifest.graphs if g.name == HELD))
    still = Runtime(held, batch=1, adapt=False, options=options)
    moving = Runtime(read_bundle(path), batch=1, options=options)
    players = (still, still.predict), (still, still.predict), (moving, moving.predict), (moving, moving)
    return dict(zip(WAYS, players, strict=True))


def _as_it_came(bundle: Path, stream: Stream) -> AdaptState:
    manifest = read_bundle(bundle, verify=False).manifest
    parameters, statistics = stream.as_it_came
    return manifest.layout.unpack(parameters, np.zeros_like(parameters), statistics, manifest.network_digest)


def _peak() -> int | None:
    from ecotta_rt.errors import Unavailable

    try:
        return peak_resident_bytes()
    except Unavailable:
        return None
