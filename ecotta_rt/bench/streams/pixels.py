"""The pictures of a plan, written down as a recording that every method is played."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.recording import write_frames
from ecotta_rt.bench.streams.frame_plan import CLEAN, FramePlan, Kind
from ecotta_rt.data.image_sets import EMBEDDED, ImageSet, find_image_set

__all__ = ["add_garbage", "frames_of", "record_plan"]

_PIXEL_SEED = 0
"""Of the corruptions' own randomness, in every stream: which images are shown follows the stream's seed."""


def record_plan(plan: FramePlan, images: ImageSet, folder: Path, say: Callable[[str], None]) -> None:
    """Write the frames of a plan into an existing folder."""
    spans = [(span.corruption, span.stop - span.start) for span in plan.spans]
    write_frames(folder, frames_of(plan, images, say), plan.labels, spans)


def frames_of(plan: FramePlan, images: ImageSet, say: Callable[[str], None] = lambda line: None) -> NDArray[np.uint8]:
    """All frames of a plan, uint8 `[N, H, W, 3]`."""
    frames = np.empty((len(plan), *images.clean(plan.images[plan.valid][:1]).shape[1:]), np.uint8)
    looks = np.stack([plan.corruptions, plan.severities], axis=1)
    for number, severity in np.unique(looks[plan.valid], axis=0):
        shown = np.flatnonzero(plan.valid & (looks == (number, severity)).all(axis=1))
        name, places = plan.names[number], plan.images[shown]
        say(f"making the stream: {name} {severity}" if name != CLEAN else "making the stream: clean images")
        frames[shown] = (
            images.clean(places) if name == CLEAN else images.read(name, int(severity), places, _PIXEL_SEED)[0]
        )
    add_garbage(plan, images, frames)
    return frames


def add_garbage(plan: FramePlan, images: ImageSet, frames: NDArray[np.uint8]) -> None:
    """Put the garbage of a plan among its frames, uint8 `[N, H, W, 3]`."""
    frames[plan.kinds == Kind.BLACK] = 0
    noise = np.flatnonzero(plan.kinds == Kind.NOISE)
    generator = np.random.default_rng((plan.seed, Kind.NOISE))
    frames[noise] = generator.integers(0, 256, (len(noise), *frames.shape[1:]), np.uint8)
    other = np.flatnonzero(plan.kinds == Kind.OTHER)
    if len(other):
        pictures = _other_set(images, frames.shape[1])
        frames[other] = pictures[plan.images[other] % len(pictures)]


def _other_set(images: ImageSet, side: int) -> NDArray[np.uint8]:
    """Pictures of another set, `[M, side, side, 3]`: the embedded clothes; where those are the stream, frost."""
    if images.name != EMBEDDED:
        clothes = find_image_set(EMBEDDED)
        if clothes.clean(np.zeros(1, np.int64)).shape[1] == side:
            return clothes.clean(np.arange(clothes.count))
    from ecotta_rt.data.corruptions.frost_texture import frost_textures

    textures = frost_textures(side)
    corners = range(0, textures.shape[1] - side + 1, side)
    pieces = [texture[y : y + side, x : x + side] for texture in textures for y in corners for x in corners]
    return np.stack(pieces).astype(np.uint8)
