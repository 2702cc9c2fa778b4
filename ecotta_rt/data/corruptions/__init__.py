"""The 15 corruptions of CIFAR-10-C at 5 severities, for any set of colour frames.

    corrupt(frames, "fog", severity=5, seed=0)

One family a file: noise, blur, weather, digital. Each corruption is a function (frames, severity, draws) -> frames over
a whole batch; the constants stand on top of each file. All of them follow the authors' `make_cifar_c.py`, except that
frost blends in textures which we generate (see `frost`), because the authors' photographs are not ours to ship.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data.corruptions.draws import Draws
from ecotta_rt.errors import BadFrames, Unavailable, UsageError
from ecotta_rt.extras import how_to_install

__all__ = ["CORRUPTIONS", "SEVERITIES", "check_corruption", "corrupt", "require_packages"]

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 corruptions in the official order, which is the order a continual stream plays them in."""

SEVERITIES = (1, 2, 3, 4, 5)

SMALLEST_SIDE = 8  # pixels; below it the blurs of the benchmark have no room
BLOCK_BYTES = 2**20  # of frames at a time: in float64 with a few temporaries some 50 MiB

Frames = NDArray[np.uint8]
Corruption = Callable[[Frames, int, Draws], Frames]


def corrupt(
    frames: Frames, corruption: str, *, severity: int = 5, seed: int = 0, indices: NDArray[np.int64] | None = None
) -> Frames:
    """Corrupt frames as CIFAR-10-C corrupts its test images.

    Args:
        frames: uint8 `[N, H, W, 3]`, RGB. Square, at least 8 pixels wide.
        corruption: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of all random choices, not negative.
        indices: int `[N]`, the place of each frame in its set, by default 0 to N-1. An image's random choices depend on
            it (and on seed, corruption and severity) and on nothing else, so a part of a set is corrupted as the whole
            is.

    Returns:
        uint8 of the same shape; the input is left alone.

    Raises:
        UsageError: Unknown corruption, severity or seed.
        BadFrames: Frames of another dtype or shape.
        Unavailable: scipy or Pillow is not installed.

    Source:
        Hendrycks, Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations.
    """
    check_corruption(corruption)
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity!r}: it goes from 1 (slight) to 5 (severe)")
    if seed < 0:
        raise UsageError(f"seed {seed}: it must not be negative")
    _check_frames(frames)
    places = np.arange(len(frames)) if indices is None else np.asarray(indices, np.int64)
    if places.shape != (len(frames),) or (places < 0).any():
        raise UsageError(f"indices of shape {places.shape} for {len(frames)} frames: one index a frame, none negative")
    if len(frames) == 0:
        return frames.copy()
    apply, key = _table()[corruption], (seed, CORRUPTIONS.index(corruption), severity)
    block = max(1, BLOCK_BYTES // frames[0].size)
    starts = range(0, len(frames), block)
    return np.concatenate(
        [apply(frames[at : at + block], severity, Draws(key, places[at : at + block])) for at in starts]
    )


def check_corruption(name: str) -> None:
    """Raise UsageError with the known names, and the nearest, unless `name` is one of `CORRUPTIONS`."""
    if name not in CORRUPTIONS:
        nearest = get_close_matches(name, CORRUPTIONS, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"unknown corruption {name!r}{hint} Known: {', '.join(CORRUPTIONS)}")


def _check_frames(frames: Frames) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise BadFrames(f"frames of dtype {frames.dtype} and shape {frames.shape}: expected uint8 [N, H, W, 3]")
    if frames.shape[1] != frames.shape[2] or frames.shape[1] < SMALLEST_SIDE:
        raise BadFrames(
            f"frames of {frames.shape[1]}x{frames.shape[2]} pixels: they must be square, at least {SMALLEST_SIDE} wide"
        )


def require_packages() -> None:
    """Raise Unavailable, with what to install, unless scipy and Pillow are there."""
    _table()


@cache
def _table() -> Mapping[str, Corruption]:
    try:
        from ecotta_rt.data.corruptions import blur, digital, noise, weather
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise Unavailable(
            f"corrupting frames needs scipy and Pillow, and {package} is missing; {how_to_install('bench')}"
        ) from error
    functions = [getattr(family, name) for family in (noise, blur, weather, digital) for name in family.__all__]
    by_name: dict[str, Corruption] = {function.__name__: function for function in functions}
    return {name: by_name[name] for name in CORRUPTIONS}
