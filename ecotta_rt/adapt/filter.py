"""The filter of answers: a class that has been there is likely to be there still, as far as this stream shows it.

An on-line hidden Markov model of two modes a frame: with trust lambda the class is the one before, else any class. With
p the network's probabilities and q the filter's belief:

    a = lambda q + (1 - lambda) / K          what is expected before the frame is seen
    z = sum a p                              how well the frame fits to that
    h = lambda (sum q p) / z                 the probability that the class has stayed
    q <- a p / z
    lambda <- clip(lambda + rate (h - lambda), 0.001, most_trust)

On frames in random order lambda goes to 0.001 and q to p: it costs next to nothing there. The cap on lambda leaves
every class at least (1 - most_trust) / K of expectation; without it errors confirm themselves.

How far p can be believed differs from network to network, and no labels are there to tell. So two such filters run side
by side, one with p as it is and one with p of temperature 2, p^(1/2) / sum p^(1/2), as a network that is too sure of
itself needs it. The stream tells which is right: the one that foresees the frames better, by its evidence

    E <- 0.995 E + ln(K z)

The answer is their mean, weighted by e^E (Bayesian model averaging), with two nats more for p as it is, always. On
random frames neither foresees anything, E stays near 0, and both name the same class.

Where frames come in batches, a frame is answered by the later ones of its batch too, which takes away most of the lag
after a change of class (the backward pass of Rabiner 1989, A tutorial on hidden Markov models, section III):

    b_N = 1,   b_n = lambda p_n+1 b_n+1 + (1 - lambda) / K sum p_n+1 b_n+1,   answer ~ q_n b_n

Source:
    Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599), for the temperature; that its size can
    be read from the evidence of a stream is our own.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError

__all__ = ["AnswerFilter"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_TEMPERATURES = (1.0, 2.0)
_PRIOR = 2.0  # nats, of the first temperature
_LEAST_TRUST = 0.001
_FIRST_TRUST = 0.5
_MEMORY = 0.995  # of the evidence: 200 frames
_LEAST_PROBABILITY = 1e-30
_MOST_SURPRISE = 20.0  # nats a frame beyond ln K: one tells ln(1 - lambda) at least, and lambda is a float32


class AnswerFilter:
    """Filters the answers to one stream; frames in their order, each batch after the one before.

    Computed in float64; what stays from frame to frame is float32, so that a saved filter goes on bit for bit.

    Args:
        classes: K, at least 2.
        rate: How fast trust is learned, in [0, 1].
        most_trust: Its cap, in [0, 1).
        temperatures: Those that run side by side; the first counts two nats more.

    Attributes:
        beliefs: float32 `[M, K]`, a distribution for each of the M temperatures.
        trusts: float32 `[M]`, lambda of each, in [0.001, most_trust].
        evidence: float32 `[M]`, E of each, in nats.

    Raises:
        UsageError: Fewer than 2 classes.

    >>> answers = AnswerFilter(2)
    >>> answers(np.array([[0.9, 0.1], [0.4, 0.6]])).argmax(axis=1).tolist()
    [0, 0]
    """

    def __init__(
        self,
        classes: int,
        rate: float = 0.1,
        most_trust: float = 0.8,
        temperatures: Sequence[float] = _TEMPERATURES,
    ) -> None:
        if classes < 2:
            raise UsageError(f"{classes} classes: a filter needs at least 2 to tell apart")
        self._rate, self._most_trust = rate, most_trust
        self._temperatures, count = np.array(temperatures), len(temperatures)
        self._prior = np.array([_PRIOR, *[0.0] * (count - 1)])
        self.beliefs = np.full((count, classes), 1 / classes, np.float32)
        self.trusts = np.full(count, min(_FIRST_TRUST, most_trust), np.float32)
        self.evidence = np.zeros(count, np.float32)

    def __call__(self, probabilities: NDArray[np.floating]) -> Floats:
        """The filtered probabilities of the frames of a batch; within it, frames hear of later ones too.

        Args:
            probabilities: `[N, K]`, each row a distribution. A row that is none (not finite, negative, all zeros) tells
                nothing: it is given back as it is and moves nothing.

        Returns:
            float32 `[N, K]`.

        Raises:
            UsageError: Another number of classes.
        """
        classes = self.beliefs.shape[1]
        if probabilities.ndim != 2 or probabilities.shape[1] != classes:
            raise UsageError(f"probabilities {list(probabilities.shape)}: this filter is for [N, {classes}]")
        frames = probabilities.astype(np.float64)
        with np.errstate(invalid="ignore"):
            totals = frames.sum(axis=1)
        usable = (totals > 0) & (totals < np.inf) & (frames.min(axis=1, initial=0) >= 0)
        filtered = np.array(probabilities, np.float32)
        if usable.any():
            filtered[usable] = self._smoothed(self._at_temperatures(frames[usable] / totals[usable, None]))
        return filtered

    def _smoothed(self, frames: Doubles) -> Floats:
        """From `[N, M, K]`: the mean of the M filters, `[N, K]`."""
        trusts, beliefs = np.empty((len(frames), frames.shape[1], 1)), np.empty_like(frames)
        for row, frame in enumerate(frames):
            trusts[row, :, 0] = self.trusts
            beliefs[row] = self._take(frame)
        later = np.ones(frames.shape[1:])
        for row in range(len(frames) - 1, 0, -1):
            fit = frames[row] * later
            later = trusts[row] * fit + (1 - trusts[row]) * fit.mean(axis=1, keepdims=True)
            later /= later.sum(axis=1, keepdims=True)
            beliefs[row - 1] *= later
            beliefs[row - 1] /= beliefs[row - 1].sum(axis=1, keepdims=True)
        answers: Doubles = np.tensordot(self.weights, beliefs, (0, 1))
        return answers.astype(np.float32)

    @property
    def weights(self) -> Doubles:
        """How much each temperature counts now, float64 `[M]`, a distribution."""
        evidence = self.evidence + self._prior
        weights: Doubles = np.exp(evidence - evidence.max())
        weights /= weights.sum()
        return weights

    def _take(self, frame: Doubles) -> Floats:
        """Move by one frame, `[M, K]`; returns the beliefs after it."""
        beliefs, trusts = self.beliefs.astype(np.float64), self.trusts.astype(np.float64)[:, None]
        stayed = trusts * beliefs * frame
        joint = stayed + (1 - trusts) / frame.shape[1] * frame
        fit = joint.sum(axis=1)
        self.beliefs = (joint / fit[:, None]).astype(np.float32)
        moved = trusts[:, 0] + self._rate * (stayed.sum(axis=1) / fit - trusts[:, 0])
        self.trusts = np.clip(moved, _LEAST_TRUST, self._most_trust).astype(np.float32)
        evidence = _MEMORY * self.evidence.astype(np.float64) + np.log(frame.shape[1] * fit)
        self.evidence = evidence.astype(np.float32)
        return self.beliefs

    def _at_temperatures(self, frames: Doubles) -> Doubles:
        """`[N, K]` -> `[N, M, K]`."""
        logarithms = np.log(np.maximum(frames, _LEAST_PROBABILITY))
        heated = np.exp(logarithms[:, None, :] / self._temperatures[:, None])
        heated[:, self._temperatures == 1] = frames[:, None]  # as they are, zeros included
        cooled: Doubles = heated / heated.sum(axis=2, keepdims=True)
        return cooled

    def arrays(self) -> dict[str, Floats]:
        """What stays from frame to frame."""
        return {
            "beliefs": self.beliefs.copy(),
            "trusts": self.trusts.copy(),
            "evidence": self.evidence.copy(),
        }

    def restore(self, arrays: Mapping[str, Floats]) -> None:
        """Go on from what `arrays` gave.

        Raises:
            UsageError: It is of another number of classes, or no distributions, trusts and evidence.
        """
        beliefs, trusts, evidence = (arrays[name] for name in ("beliefs", "trusts", "evidence"))
        if beliefs.shape != self.beliefs.shape or not trusts.shape == evidence.shape == self.trusts.shape:
            sizes = f"{list(beliefs.shape)}, {list(trusts.shape)} and {list(evidence.shape)}"
            raise UsageError(f"beliefs, trusts and evidence are {sizes}, expected {list(self.beliefs.shape)} and so on")
        if not (beliefs >= 0).all() or not (abs(beliefs.sum(axis=1, dtype=np.float64) - 1) < 1e-3).all():
            raise UsageError("a belief of the filter is no distribution: expected numbers from 0 that sum to 1")
        if not ((trusts >= 0) & (trusts < 1)).all():
            raise UsageError(f"the filter's trusts are {trusts.tolist()}, expected 0 to 1")
        most = (np.log(beliefs.shape[1]) + _MOST_SURPRISE) / (1 - _MEMORY)
        if not (abs(evidence) <= most).all():  # NaN is not, either
            raise UsageError(f"the filter's evidence is {evidence.tolist()}, expected -{most:.0f} to {most:.0f}")
        self.beliefs, self.evidence = beliefs.astype(np.float32), evidence.astype(np.float32)
        self.trusts = np.minimum(trusts, np.float32(self._most_trust)).astype(np.float32)
