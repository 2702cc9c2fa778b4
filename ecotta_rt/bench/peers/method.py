"""What every method of the benchmark looks like, ours and the peers alike.

A method is called with a batch and answers with logits; that it also learns from the batch is its own affair.
The logits always come from before the update, so a method never profits from having seen the batch it is judged on.
"""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:  # `ecotta_rt.bench.peers` lists the methods without importing torch
    from torch import Tensor

__all__ = ["Method"]


@runtime_checkable
class Method(Protocol):
    """A network that is called batch by batch and may adapt as a side effect."""

    @property
    def name(self) -> str:
        """The id under which results are reported."""

    @property
    def normalisation(self) -> str:
        """Where the norms take their statistics from: `batch`, `running` or `source`."""

    @property
    def trainable_parameters(self) -> int:
        """How many parameters the method changes: elements, not tensors."""

    def __call__(self, frames: "Tensor") -> "Tensor":
        """Predict, then adapt.

        Args:
            frames: float32 `[N, C, H, W]` in [0, 1].

        Returns:
            Logits `[N, classes]` from the forward before the update, detached.

        Raises:
            BadFrames: Not float32, not four axes, no frame at all, another channel count, NaN or infinity in them,
                or one frame only where the method normalises with the statistics of the batch.
            UsageError: The network has one class, and the method minimises an entropy.
        """

    def begin_corruption(self, corruption: str) -> None:
        """Hear that the stream changes corruption; only episodic methods react."""

    def reset(self) -> None:
        """Return exactly to the state at construction, random numbers included."""
