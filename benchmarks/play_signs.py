"""Play streams to a bundle, and write down what signs are made of; for measure_signs.py, which names the streams.

A recording is a .npz file with, for each of N frames:

    unfiltered, filtered   [N, C], the answers
    frozen                 [N, C], what the frozen network says of each tenth frame, of each 50th where the stream is
                           steady; NaN elsewhere
    distances              [N, norms], of the statistics before the frame
    keys                   [N, D], of the memory of places
    changes, known         [N], changes of place noticed so far, and of these the recalls
    labels                 [N], -1 where a frame is garbage
    places                 [N], number of the corruption
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from ecotta_rt.adapt.channels import Moments
from ecotta_rt.adapt.signs import Source
from ecotta_rt.bench.streams.frame_plan import CLEAN, FramePlan
from ecotta_rt.bench.streams.pixels import frames_of
from ecotta_rt.bench.streams.protocols import plan_stream
from ecotta_rt.bundle import Bundle, read_bundle
from ecotta_rt.data.corrupted import corrupted_frames
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.image_sets import ImageSet
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.state import AdaptState
from other_corruptions import OTHER_CORRUPTIONS, corrupt_otherwise

PROTOCOLS = ("continual", "practical", "sorted", "one-class", "recurring", "sudden", "garbage", "clean")
ORDERS = {"shuffled": "continual", "in runs": "practical"}
"""Of a steady stream: the protocol whose order of classes it has."""

FRAMES, STEADY_FRAMES = 100, 1500
TRAINING_FRAMES, OTHER_FRAMES = 60, 300
TRAINING_SEED, OTHER_SEED = 7, 7
KEY_FRAMES, OTHER_KEY_FRAMES, KEY_IMAGES = 5625, 5000, 2000
FROZEN_EVERY, STEADY_FROZEN_EVERY = 10, 50
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


class OtherImages(TrainingImages):
    """Training images under corruptions that are none of the 15, which stand in for the first of these."""

    corruptions = CORRUPTIONS[: len(OTHER_CORRUPTIONS)]

    def read(self, corruption: str, severity: int, places: NDArray[np.int64], seed: int) -> Any:
        name = list(OTHER_CORRUPTIONS)[self.corruptions.index(corruption)]
        return corrupt_otherwise(self._frames[places], name, seed), self.labels[places]


class _FirstImages:
    """Some of a set, so that long streams need not corrupt all."""

    def __init__(self, images: Any) -> None:
        self.labels, self.name = images.labels[:KEY_IMAGES], images.name
        self.clean, self.read = images.clean, images.read


class Stream(NamedTuple):
    """One to be recorded.

    Attributes:
        name: Of its recording.
        images: What it shows.
        plan: Makes what is shown when.
        frozen_every: One frame in so many is shown to the frozen network, too.
    """

    name: str
    images: Any
    plan: Callable[[], FramePlan]
    frozen_every: int = FROZEN_EVERY


def streams_of(
    images: ImageSet, cache: Path | None, protocols: Sequence[str], seeds: Sequence[int]
) -> Iterator[Stream]:
    """What a temperature is fitted to, what limits are chosen by, and what is measured."""
    training, others = TrainingImages(images, cache), OtherImages(images, cache)
    yield Stream("training-continual", training, lambda: plan_of(training, "continual", TRAINING_SEED, TRAINING_FRAMES))
    shown = others.corruptions
    yield from _varied("others-", others, protocols, shown, OTHER_SEED, OTHER_FRAMES)
    for seed in seeds:
        yield from _varied("", images, protocols, CORRUPTIONS, seed, FRAMES)
    yield from _steady("", images, CORRUPTIONS, STEADY_FRAMES)


def steady_streams(images: ImageSet, cache: Path | None) -> Iterator[Stream]:
    """Those of which only keys are recorded: training images under the other corruptions, and test images."""
    others = OtherImages(images, cache)
    yield from _steady("others-", _FirstImages(others), others.corruptions, OTHER_KEY_FRAMES)
    yield from _steady("", _FirstImages(images), CORRUPTIONS, KEY_FRAMES)


def _varied(
    prefix: str, images: Any, protocols: Sequence[str], corruptions: Sequence[str], seed: int, frames: int
) -> Iterator[Stream]:
    for protocol in protocols:

        def plan(protocol: str = protocol) -> FramePlan:
            return plan_of(images, protocol, seed, frames, corruptions)

        yield Stream(f"{prefix}{protocol}-seed-{seed}", images, plan)


def _steady(prefix: str, images: Any, corruptions: Sequence[str], frames: int) -> Iterator[Stream]:
    for name in (CLEAN, *corruptions):
        for order in ORDERS:

            def plan(name: str = name, order: str = order) -> FramePlan:
                return steady_plan(images, name, order, frames)

            yield Stream(f"{prefix}steady-{order.replace(' ', '-')}-{name}", images, plan, STEADY_FROZEN_EVERY)


def plan_of(images: Any, protocol: str, seed: int, frames: int, corruptions: Sequence[str] = CORRUPTIONS) -> FramePlan:
    """A stream of all these corruptions at severity 5, unless the protocol has its own."""
    return plan_stream(protocol, images.labels, corruptions, frames, severity=5, seed=seed)


def steady_plan(images: Any, corruption: str, order: str, frames: int) -> FramePlan:
    """A stream of one corruption, or of clean frames, that never changes but for the classes."""
    if corruption != CLEAN:
        return plan_of(images, ORDERS[order], 0, frames, [corruption])
    plan = plan_of(images, ORDERS[order], 0, frames, CORRUPTIONS[:1])
    return replace(plan, corruptions=np.full_like(plan.corruptions, 1), severities=np.zeros_like(plan.severities))


def record(bundle: Path, stream: Stream, path: Path) -> None:
    """Play a stream, and write its recording."""
    plan = stream.plan()
    write_recording(path, played(bundle, frames_of(plan, stream.images), plan, stream.frozen_every))


def played(bundle: Path, frames: NDArray[np.uint8], plan: FramePlan, frozen_every: int) -> dict[str, NDArray[Any]]:
    """The arrays of a recording."""
    runtime, frozen = (Runtime.load(bundle, threads=1, adapt=False) for _ in range(2))
    source = runtime.signs_recipe.source
    assert source is not None
    places_seen = runtime.adaptation._places
    assert places_seen is not None
    names = ("unfiltered", "filtered", "frozen", "distances", "keys", "changes", "known")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    changes = known = 0
    for place, frame in enumerate(frames):
        rows["distances"].append(by_norm(source, runtime.adaptation.statistics))
        nothing = np.full(len(runtime.class_names), np.nan, np.float32)
        asked = place % frozen_every == 0
        rows["frozen"].append(frozen.predict(frame[None], hold_statistics=True).unfiltered[0] if asked else nothing)
        prediction = runtime.predict(frame[None])
        rows["unfiltered"].append(prediction.unfiltered[0])
        rows["filtered"].append(prediction.filtered[0])
        rows["keys"].append(places_seen._recent[-1].copy())
        change = runtime.adaptation.take_change()
        changes, known = changes + (change is not None), known + (change is not None and change.known)
        rows["changes"].append(changes)
        rows["known"].append(known)
    return {**{name: np.array(each) for name, each in rows.items()}, "labels": plan.labels, "places": plan.corruptions}


def played_keys(bundle: Path, frames: NDArray[np.uint8], plan: FramePlan) -> dict[str, NDArray[Any]]:
    """Only `keys`, `labels` and `places`: what is before the first norm hangs on the frame alone, and is soon had."""
    opened = read_bundle(bundle)
    followed = Runtime.load(bundle, threads=1, adapt=False).adaptation.recipe.followed
    assert followed is not None and followed.key is not None
    session = InferenceSession(_up_to_first_norm(opened), providers=["CPUExecutionProvider"])
    keys = []
    for frame in frames:
        (seen,) = session.run(None, {"frames": frame.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)})
        keys.append(followed.key.of(Moments(seen[0].mean(axis=(1, 2)), seen[0].var(axis=(1, 2)))))
    return {"keys": np.array(keys), "labels": plan.labels, "places": plan.corruptions}


def _up_to_first_norm(bundle: Bundle) -> bytes:
    """The graph of the frames as the first norm gets them, weights and all."""
    model, stored = onnx.load_model_from_string(bundle.graph("predict-1")), bundle.weights()
    graph = model.graph
    end = next(node.input[0] for node in graph.node if node.op_type == "BatchNormalization")
    needed, kept = {end}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    weights = [onnx.numpy_helper.from_array(np.array(a), name) for name, a in stored.items() if name in needed]
    constants = [each for each in graph.initializer if each.name in needed and each.name not in stored]
    inputs = [each for each in graph.input if each.name in needed]
    output = onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, None)
    cut = onnx.helper.make_graph(kept[::-1], "first", inputs, [output], [*constants, *weights])
    made = onnx.helper.make_model(cut, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made.SerializeToString()


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
