"""Refuse frames that no step can use, with what to do about the commonest mistakes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import BadFrames

__all__ = ["require_frames"]

_ROUNDING = 1e-3  # what resizing and half precision may leave outside [0, 1]


def require_frames(frames: Any, batch: int, frame: FrameSpec) -> None:
    """Take uint8 `[N, H, W, C]`, for grey frames `[N, H, W]` too, or float32 `[N, C, H, W]` in [0, 1]; N is `batch`.

    Raises:
        BadFrames: Anything else, NaN or infinity.
    """
    channels, height, width = frame.channels, frame.height, frame.width
    if not isinstance(frames, np.ndarray) or frames.dtype not in (np.uint8, np.float32):
        kind = getattr(frames, "dtype", type(frames).__name__)
        raise BadFrames(
            f"frames are {kind}: give uint8 [N, H, W, {channels}], or float32 [N, {channels}, H, W] in [0, 1]"
            f"{_advice(frames, batch, channels)}"
        )
    one = (height, width, channels) if frames.dtype == np.uint8 else (channels, height, width)
    grey = frames.dtype == np.uint8 and channels == 1
    if frames.shape != (batch, *one) and not (grey and frames.shape == (batch, height, width)):
        raise BadFrames(
            f"frames are {frames.dtype} {list(frames.shape)}, expected {[batch, *one]}: the bundle's frames are "
            f"{height}x{width}, and this runtime takes {batch} at a time{_advice(frames, batch, channels)}"
        )
    if frames.dtype == np.float32:
        _require_unit_range(frames)


def _require_unit_range(frames: NDArray[np.float32]) -> None:
    low, high = float(frames.min()), float(frames.max())
    if not np.isfinite([low, high]).all():
        count = int((~np.isfinite(frames)).sum())
        raise BadFrames(f"{count} values are NaN or infinite; the state was left as it was")
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise BadFrames(
            f"float32 values from {low:.4g} to {high:.4g}, expected [0, 1]: divide values of 0 to 255 by 255, or give "
            "them as uint8; leave out your own mean and std, which the graph applies"
        )


def _advice(frames: Any, batch: int, channels: int) -> str:
    """What somebody who gave this most likely has to do; the network takes `batch` frames of `channels`."""
    if hasattr(frames, "getbands"):  # a picture of Pillow, which we do not load to ask
        return "; make one of a picture with runtime.preprocess(numpy.asarray(picture.convert('RGB')))[None]"
    shape: tuple[int, ...] = getattr(frames, "shape", ())
    if not isinstance(frames, np.ndarray):
        return "; numpy.asarray makes an array of a tensor" if shape else ""
    if frames.dtype == np.float64:
        return "; frames.astype(numpy.float32) is one"
    if frames.dtype == np.uint8 and len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        return "; these are [N, C, H, W]: frames.transpose(0, 2, 3, 1) puts the colours last"
    if frames.dtype == np.float32 and len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3):
        return "; these are [N, H, W, C]: frames.transpose(0, 3, 1, 2) puts the colours first"
    if frames.dtype == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))):
        several = "" if batch == 1 else f", and {batch} of those, stacked, a call"
        return f"; one picture becomes a batch of one with runtime.preprocess(picture)[None]{several}"
    if frames.dtype == np.uint8 and len(shape) == 4 and shape[3] != channels and shape[3] in (1, 3):
        return "; runtime.preprocess gives a picture the colours that the network takes"
    return ""
