"""What a method accepts, checked in one place before any arithmetic.

The checks cost one pass over the input. Without them a grey frame `[N, 1, H, W]` is broadcast to three channels by the
normalisation layer, and one NaN pixel ends in the batch statistics of every other frame, then in the weights.
"""

import torch
from torch import Tensor, nn

from ecotta_rt.errors import BadFrames, UsageError

__all__ = ["input_channels", "require_batch", "require_classes", "require_frames"]


def input_channels(network: nn.Module) -> int | None:
    """Channels that the network's first convolution reads; None when it has no convolution."""
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    return None if first is None else first.in_channels


def require_frames(frames: Tensor, channels: int | None) -> None:
    """Refuse what no method can use.

    Args:
        frames: Should be float32 `[N, C, H, W]`, finite, N at least 1.
        channels: C that the network reads; None checks the other points only.

    Raises:
        BadFrames: One of these does not hold.
    """
    if not isinstance(frames, Tensor):
        raise BadFrames(f"frames must be a torch tensor, got {type(frames).__name__}; convert with torch.from_numpy")
    if frames.dtype != torch.float32:
        raise BadFrames(f"frames must be float32 in [0, 1], got {frames.dtype}; for uint8 use frames.float() / 255")
    if frames.ndim != 4:
        raise BadFrames(
            f"frames must be [N, C, H, W], got shape {list(frames.shape)}; a single frame needs frames[None]"
        )
    if 0 in frames.shape:
        raise BadFrames(f"frames must hold at least one frame and one pixel, got shape {list(frames.shape)}")
    if channels is not None and frames.shape[1] != channels:
        raise BadFrames(
            f"the network reads {channels} channels, got shape {list(frames.shape)}; expected [N, {channels}, H, W]"
        )
    if not bool(torch.isfinite(frames).all()):
        broken = [index for index, frame in enumerate(frames) if not bool(torch.isfinite(frame).all())]
        raise BadFrames(
            f"NaN or infinity in {len(broken)} of {len(frames)} frames, first at index {broken[0]}; drop these frames"
        )


def require_batch(frames: Tensor, channels: int | None) -> None:
    """`require_frames`, for methods that normalise with the statistics of the batch.

    Raises:
        BadFrames: As `require_frames`; or one frame only: its own statistics would replace the batch's, and predictions
            collapse.
    """
    require_frames(frames, channels)
    if len(frames) == 1:
        raise BadFrames(
            "batch statistics need at least 2 frames in a batch, got 1; send larger batches, "
            "use the method `source`, or EcoTTA with `running` normalisation, which takes one frame at a time"
        )


def require_classes(classes: int) -> None:
    """Refuse a network that has nothing to choose between.

    Raises:
        UsageError: Fewer than 2 classes: the entropy of the prediction is always 0, and nothing can be learnt from it.
    """
    if classes < 2:
        raise UsageError(f"adaptation needs at least 2 classes, got {classes}: the entropy of one class is always 0")
