"""The frames of a student: no larger than its file may say."""

from ecotta_rt.bundle import FrameSpec, Resize
from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.narrowed import LARGEST_SIDE

__all__ = ["student_frame"]


def student_frame(size: tuple[int, int], channels: int = 3, resize: Resize = "cover") -> FrameSpec:
    """Frames of a height and width; UsageError above `LARGEST_SIDE`, since to try a network takes memory for them."""
    if max(size) > LARGEST_SIDE:
        raise UsageError(f"frames of {size[0]}x{size[1]}: at most {LARGEST_SIDE} a side; give a smaller size")
    return FrameSpec(channels, *size, resize)
