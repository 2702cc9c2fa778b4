"""The four digital corruptions: contrast, elastic, pixelate and JPEG. Constants of CIFAR-10-C, severities 1 to 5.

Source:
    Hendrycks, Dietterich 2019 and the authors' `make_cifar_c.py`.
"""

from io import BytesIO

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from ecotta_rt.data.corruptions.draws import Draws
from ecotta_rt.data.corruptions.pixels import Floats, Frames, to_bytes, to_unit

__all__ = ["contrast", "elastic_transform", "jpeg_compression", "pixelate"]

CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
# As shares of the side: strength of the local displacement, its smoothing, and how far the corners of the affine move.
ELASTIC = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
JPEG_QUALITY = (80, 65, 58, 50, 40)


def contrast(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Every channel drawn towards its mean over the frame. Nothing random."""
    unit = to_unit(frames)
    means = unit.mean(axis=(1, 2), keepdims=True)
    return to_bytes((unit - means) * CONTRAST[severity - 1] + means)


def elastic_transform(frames: Frames, severity: int, draws: Draws) -> Frames:
    """A random affine map, then a smooth random displacement of every pixel."""
    side = frames.shape[1]
    strength, smoothing, reach = (side * share for share in ELASTIC[severity - 1])
    rows, columns = _affine_places(draws, side, reach)
    warped = _sampled(to_unit(frames), _mirrored(rows, side), _mirrored(columns, side))
    shifts = gaussian_filter(
        draws.uniform((2, side, side), -1, 1), (0, 0, smoothing, smoothing), mode="reflect", truncate=3
    )
    line = np.arange(side)
    # Sampled with the half pixel at the border repeated, as map_coordinates' "reflect" does: within reach of a border
    # that is the border's own value.
    down = _reflected(line[:, None] + strength * shifts[:, 1], side)
    right = _reflected(line + strength * shifts[:, 0], side)
    return to_bytes(_sampled(warped, down, right))


def _affine_places(draws: Draws, side: int, reach: float) -> tuple[Floats, Floats]:
    """Rows and columns `[N, S, S]` that pixels come from when three corners of the middle move by up to `reach`."""
    middle, half = side // 2, side // 3
    corners = middle + half * np.array([(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])  # [3, (x, y)]
    moved = corners + draws.uniform((3, 2), -reach, reach)
    here = np.concatenate([moved, np.ones((*moved.shape[:2], 1))], axis=2)  # [N, 3, (x, y, 1)]
    back = np.linalg.solve(here, np.broadcast_to(corners, moved.shape))  # [N, 3, (x, y)]
    grid = np.stack(np.broadcast_arrays(np.arange(side)[None, :], np.arange(side)[:, None], 1.0), axis=-1)
    places = np.einsum("hwk,nkc->nchw", grid, back)
    return places[:, 1], places[:, 0]


def _mirrored(places: Floats, side: int) -> Floats:
    """Places outside the frame mirrored at the middle of the border pixel."""
    folded: Floats = (side - 1) - np.abs((side - 1) - np.abs(places) % (2 * side - 2))
    return folded


def _reflected(places: Floats, side: int) -> Floats:
    """Places outside the frame mirrored at the outer edge of the border pixel."""
    folded: Floats = side - np.abs(side - (np.abs(places + 0.5) % (2 * side)))
    return np.clip(folded - 0.5, 0, side - 1)


def _sampled(unit: Floats, rows: Floats, columns: Floats) -> Floats:
    """Bilinear samples of frames `[N, S, S, C]` at places `[N, S, S]` inside them."""
    last = unit.shape[1] - 2
    top, left = np.minimum(rows.astype(int), last), np.minimum(columns.astype(int), last)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    image = np.arange(len(unit))[:, None, None]
    upper = unit[image, top, left] * (1 - right) + unit[image, top, left + 1] * right
    lower = unit[image, top + 1, left] * (1 - right) + unit[image, top + 1, left + 1] * right
    between: Floats = upper * (1 - down) + lower * down
    return between


def pixelate(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Made smaller and larger again with a box filter. Nothing random."""
    side = frames.shape[1]
    fewer = int(side * PIXELATE[severity - 1])

    def apply(frame: Frames) -> Frames:
        small = Image.fromarray(frame).resize((fewer, fewer), Image.Resampling.BOX)
        return np.asarray(small.resize((side, side), Image.Resampling.BOX))

    return np.stack([apply(frame) for frame in frames])


def jpeg_compression(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Stored as JPEG and read back. Nothing random, but the bytes depend on the JPEG library."""

    def apply(frame: Frames) -> Frames:
        file = BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=JPEG_QUALITY[severity - 1])
        return np.asarray(Image.open(file))

    return np.stack([apply(frame) for frame in frames])
