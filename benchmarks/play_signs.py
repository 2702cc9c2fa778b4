"""Play streams to a bundle, and write down what signs are made of; for measure_signs.py, which names the streams.

A recording is a .npz file with, for each of N frames:

    unfiltered, filtered   [N, C], the answers
    frozen                 [N, C], what the frozen network says of each fourth frame; NaN elsewhere
    distances              [N, norms], of the statistics before the frame
    changes, known         [N], changes of place noticed so far, and of these the recalls
    labels                 [N], -1 where a frame is garbage
    places                 [N], number of the corruption
"""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.signs import Source
from ecotta_rt.bench.streams.frame_plan import FramePlan
from ecotta_rt.bench.streams.pixels import frames_of
from ecotta_rt.bench.streams.protocols import plan_stream
from ecotta_rt.data.corrupted import corrupted_frames
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.image_sets import ImageSet
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.state import AdaptState

FROZEN_EVERY = 4
_TRAINING_IMAGES, _TRAINING_SEED = 2500, 99


class TrainingImages:
    """Training images in the place of test images: for what is fitted."""

    def __init__(self, images: ImageSet, cache: Path | None) -> None:
        frames, labels = images.training()
        chosen = np.random.default_rng(_TRAINING_SEED).permutation(len(labels))[:_TRAINING_IMAGES]
        self._frames, self.labels, self._cache = frames[chosen], labels[chosen], cache
        self.name, self.classes, self.count = images.name, images.classes, len(chosen)

    def clean(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._frames[places]

    def read(self, corruption: str, severity: int, places: NDArray[np.int64], seed: int) -> Any:
        frames = corrupted_frames(self._frames, corruption, severity, seed, places, self._cache)
        return frames, self.labels[places]


def plan_of(images: Any, protocol: str, seed: int, frames: int) -> FramePlan:
    """A stream of all 15 corruptions at severity 5, unless the protocol has its own."""
    return plan_stream(protocol, images.labels, CORRUPTIONS, frames, severity=5, seed=seed)


def record(bundle: Path, images: Any, plan: FramePlan, path: Path) -> None:
    """Play a stream, and write its recording."""
    write_recording(path, played(bundle, frames_of(plan, images), plan))


def played(bundle: Path, frames: NDArray[np.uint8], plan: FramePlan) -> dict[str, NDArray[Any]]:
    """The arrays of a recording."""
    runtime, frozen = (Runtime.load(bundle, threads=1, adapt=False) for _ in range(2))
    source = runtime.signs_recipe.source
    assert source is not None
    rows: dict[str, list[Any]] = {name: [] for name in ("unfiltered", "filtered", "frozen", "distances")}
    rows |= {name: [] for name in ("changes", "known")}
    changes = known = 0
    for place, frame in enumerate(frames):
        rows["distances"].append(by_norm(source, runtime.adaptation.statistics))
        nothing = np.full(len(runtime.class_names), np.nan, np.float32)
        asked = place % FROZEN_EVERY == 0
        rows["frozen"].append(frozen.predict(frame[None], hold_statistics=True).unfiltered[0] if asked else nothing)
        prediction = runtime.predict(frame[None])
        rows["unfiltered"].append(prediction.unfiltered[0])
        rows["filtered"].append(prediction.filtered[0])
        change = runtime.adaptation.take_change()
        changes, known = changes + (change is not None), known + (change is not None and change.known)
        rows["changes"].append(changes)
        rows["known"].append(known)
    return {**{name: np.array(each) for name, each in rows.items()}, "labels": plan.labels, "places": plan.corruptions}


def by_norm(source: Source, statistics: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The distance of each norm, where `Source.distance` has their mean."""
    assert statistics is not None
    now, then = source.channels.moments(statistics), source.channels.moments(source.statistics)
    squares = (now.means - then.means) ** 2 / np.maximum(then.variances, 1e-8)
    starts = np.cumsum((0, *source.channels.sizes[:-1]))
    return np.asarray(np.sqrt(np.add.reduceat(squares, starts) / source.channels.sizes), np.float32)


def write_recording(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content.getvalue())


def far_too_fast(runtime: Runtime, frame: NDArray[np.uint8], factor: float) -> Any:
    """Learn from a frame with a step `factor` times as long as the bundle's own."""
    before = {name: array.copy() for name, array in runtime.state.parameters.items()}
    prediction = runtime(frame[None])
    after: AdaptState = runtime.state
    longer = {name: before[name] + factor * (array - before[name]) for name, array in after.parameters.items()}
    runtime.restore(replace(after, parameters=longer))
    return prediction
