"""What every method of the benchmark shares, ours and the peers alike: a network that answers, and may learn from it.

The logits come from before the update, so a method never profits from having seen the batch it is judged on. Frames are
checked before any arithmetic, which costs one pass over them. Without that a grey frame `[N, 1, H, W]` is broadcast to
three channels by the normalisation layer, and one NaN pixel ends in the batch statistics of every other frame, then in
the weights.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecotta_rt.errors import BadFrames, NetworkError, UsageError

__all__ = ["LabelledPeer", "Peer", "affine_parameters", "require_classes", "use_batch_statistics"]


class Peer(ABC):
    """A method around a copy of a network.

    Args:
        network: Takes frames `[N, C, H, W]` in [0, 1], returns logits. Copied; the caller's stays untouched.
        name: The id under which results are reported.
        single_frames: Take a batch of one frame too, so that its step can be timed. Its own statistics then stand for
            the batch's, and predictions collapse.

    Attributes:
        network: The copy.
        name: As given.
        normalisation: Where the norms take their statistics from: `batch`, `running` or `source`.
        trainable_parameters: How many parameters the method changes: elements, not tensors.
        update_every: Frames from one update to the next; 1 where every call is an update.
        views: 1, or 2 to answer with the mean of the probabilities of a frame and its mirror image. The mirrored frames
            get an answer and nothing else: what the method learns from, and how, is as with 1.
    """

    normalisation: str = "batch"
    trainable_parameters: int = 0
    update_every: int = 1
    views: int = 1

    def __init__(self, network: nn.Module, name: str, *, single_frames: bool = False) -> None:
        self.name = name
        self.network = copy.deepcopy(network)
        self._single_frames = single_frames
        convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
        self._channels = next((first.in_channels for first in convolutions), None)

    def __call__(self, frames: Tensor) -> Tensor:
        """Predict, then adapt.

        Args:
            frames: float32 `[N, C, H, W]` in [0, 1].

        Returns:
            Logits `[N, classes]` from the forward before the update, detached; with 2 views log probabilities.

        Raises:
            BadFrames: Not float32, not four axes, no frame at all, another channel count, NaN or infinity in them,
                or one frame only where the method normalises with the statistics of the batch.
            UsageError: The network has one class, and the method minimises an entropy.
        """
        self._require(frames)
        if self.views == 1:
            return self._answer(frames)
        mirrored = self._predict(frames.flip(3))  # first: after the answer comes the update
        return _mean_answer(self._answer(frames), mirrored)

    @abstractmethod
    def _answer(self, frames: Tensor) -> Tensor:
        """Predict, then adapt, on frames that have been checked."""

    @torch.no_grad()
    def _predict(self, frames: Tensor) -> Tensor:
        """The logits that `_answer` would give; nothing is learnt, and no statistics follow."""
        logits: Tensor = self.network(frames)
        return logits

    def begin_corruption(self, corruption: str) -> None:  # noqa: B027  (most methods do not react)
        """Hear that the stream changes corruption; only episodic methods react."""

    def reset(self) -> None:  # noqa: B027  (some have nothing to return from)
        """Return exactly to the state at construction, random numbers included."""

    def _require(self, frames: Tensor) -> None:
        if not isinstance(frames, Tensor):
            raise BadFrames(
                f"frames must be a torch tensor, got {type(frames).__name__}; convert with torch.from_numpy"
            )
        if frames.dtype != torch.float32:
            raise BadFrames(f"frames must be float32 in [0, 1], got {frames.dtype}; for uint8 use frames.float() / 255")
        shape, channels = list(frames.shape), self._channels
        if frames.ndim != 4:
            raise BadFrames(f"frames must be [N, C, H, W], got shape {shape}; a single frame needs frames[None]")
        if 0 in shape:
            raise BadFrames(f"frames must hold at least one frame and one pixel, got shape {shape}")
        if channels is not None and shape[1] != channels:
            raise BadFrames(f"the network reads {channels} channels, got shape {shape}; expected [N, {channels}, H, W]")
        if not bool(torch.isfinite(frames).all()):
            broken = [index for index, frame in enumerate(frames) if not bool(torch.isfinite(frame).all())]
            raise BadFrames(
                f"NaN or infinity in {len(broken)} of {len(frames)} frames, first at index {broken[0]}; drop these"
            )
        if len(frames) == 1 and self.normalisation == "batch" and not self._single_frames:
            raise BadFrames(
                "batch statistics need at least 2 frames in a batch, got 1; send larger batches, "
                "use the method `source`, or EcoTTA with `running` normalisation, which takes one frame at a time"
            )


class LabelledPeer(Peer):
    """A method that learns from the true labels: no peer, but a bound on what learning can bring.

    This is the one door for labels. `__call__` answers and learns nothing; `teach` follows it.
    """

    @abstractmethod
    def teach(self, labels: Tensor) -> None:
        """Learn from the frames of the last call.

        Args:
            labels: int64 `[N]`; below 0 where a frame has none.
        """


def require_classes(classes: int) -> None:
    """Refuse a network that has nothing to choose between.

    Raises:
        UsageError: Fewer than 2 classes: the entropy of the prediction is always 0, and nothing can be learnt from it.
    """
    if classes < 2:
        raise UsageError(f"adaptation needs at least 2 classes, got {classes}: the entropy of one class is always 0")


def use_batch_statistics(network: nn.Module) -> None:
    """Make every batch norm normalise with the current batch, and forget the source statistics.

    The network is in evaluation mode afterwards: without running statistics a norm uses the batch's in either mode,
    and dropout, where a network has some, stays off. The authors of TENT put the whole network in training mode; on
    networks without dropout that is the same.

    Raises:
        NetworkError: The network has no batch norm, so that nothing would adapt.
    """
    network.eval()
    norms = [norm for _, norm in _named_norms(network)]
    if not norms:
        raise NetworkError(
            f"{type(network).__name__} has no BatchNorm layer and this method adapts nothing else; try `source`"
        )
    for norm in norms:
        norm.track_running_stats = False
        norm.running_mean = None
        norm.running_var = None
        norm.num_batches_tracked = None


def affine_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Scale and shift of every batch norm, by name; they alone require a gradient afterwards.

    Raises:
        NetworkError: No batch norm of the network has scale and shift.
    """
    network.requires_grad_(False)
    affine = {
        f"{layer}.{name}".lstrip("."): parameter
        for layer, norm in _named_norms(network)
        for name, parameter in norm.named_parameters(recurse=False)
    }
    if not affine:
        raise NetworkError(
            f"no BatchNorm of {type(network).__name__} has scale and shift (affine=False), so nothing can be trained"
        )
    for parameter in affine.values():
        parameter.requires_grad_(True)
    return affine


def _mean_answer(logits: Tensor, others: Tensor) -> Tensor:
    """Log of the mean of two softmaxes."""
    both = torch.stack([logits.log_softmax(1), others.log_softmax(1)])
    return both.logsumexp(0) - math.log(2)


def _named_norms(network: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    return ((name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm))
