"""The filter of answers: a class that has been there is likely to be there still, as far as this stream shows it.

An on-line hidden Markov model of two modes a frame: with trust lambda the class is the one before, else any class. With
p the network's probabilities and q the filter's belief:

    a = lambda q + (1 - lambda) / K          what is expected before the frame is seen
    z = sum a p                              how well the frame fits to that
    h = lambda (sum q p) / z                 the probability that the class has stayed
    q <- a p / z
    lambda <- clip(lambda + rate (h - lambda), 0.001, most_trust)

On frames in random order lambda goes to 0 and q to p: it costs nothing there. The cap on lambda leaves every class at
least (1 - most_trust) / K of expectation; without it errors confirm themselves.

Where frames come in batches, a frame is answered by the later ones of its batch too, which takes away most of the lag
after a change of class (the backward pass of Rabiner 1989, A tutorial on hidden Markov models, section III):

    b_N = 1,   b_n = lambda p_n+1 b_n+1 + (1 - lambda) / K sum p_n+1 b_n+1,   answer ~ q_n b_n
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError

__all__ = ["AnswerFilter"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_LEAST_TRUST = 0.001
_FIRST_TRUST = 0.5


class AnswerFilter:
    """Filters the answers to one stream; frames in their order, each batch after the one before.

    Computed in float64; what stays from frame to frame is float32, so that a saved filter goes on bit for bit.

    Args:
        classes: K, at least 2.
        rate: How fast trust is learned, in [0, 1].
        most_trust: Its cap, in [0, 1).

    Attributes:
        belief: float32 `[K]`, a distribution.
        trust: lambda, in [0.001, most_trust].

    Raises:
        UsageError: Fewer than 2 classes.

    >>> answers = AnswerFilter(2)
    >>> answers(np.array([[0.9, 0.1], [0.4, 0.6]])).argmax(axis=1).tolist()
    [0, 0]
    """

    def __init__(self, classes: int, rate: float = 0.03, most_trust: float = 0.8) -> None:
        if classes < 2:
            raise UsageError(f"{classes} classes: a filter needs at least 2 to tell apart")
        self._rate, self._most_trust = rate, most_trust
        self.belief = np.full(classes, 1 / classes, np.float32)
        self.trust = np.float32(min(_FIRST_TRUST, most_trust))

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
        classes = len(self.belief)
        if probabilities.ndim != 2 or probabilities.shape[1] != classes:
            raise UsageError(f"probabilities {list(probabilities.shape)}: this filter is for [N, {classes}]")
        frames = probabilities.astype(np.float64)
        totals = frames.sum(axis=1)
        usable = (totals > 0) & (totals < np.inf) & (frames.min(axis=1, initial=0) >= 0)
        filtered = np.array(probabilities, np.float32)
        filtered[usable] = self._smoothed(frames[usable] / totals[usable, None])
        return filtered

    def _smoothed(self, frames: Doubles) -> Floats:
        trusts, beliefs = np.empty(len(frames)), np.empty_like(frames)
        for row, frame in enumerate(frames):
            trusts[row] = self.trust
            beliefs[row] = self._take(frame)
        later = np.ones(frames.shape[1])
        for row in range(len(frames) - 1, 0, -1):
            fit = frames[row] * later
            later = trusts[row] * fit + (1 - trusts[row]) * fit.mean()
            later /= later.sum()
            beliefs[row - 1] *= later
            beliefs[row - 1] /= beliefs[row - 1].sum()
        return beliefs.astype(np.float32)

    def _take(self, frame: Doubles) -> Floats:
        """Move by one frame; returns the belief after it."""
        belief, trust = self.belief.astype(np.float64), float(self.trust)
        stayed = trust * belief * frame
        joint = stayed + (1 - trust) / len(belief) * frame
        fit = joint.sum()
        self.belief = (joint / fit).astype(np.float32)
        moved = trust + self._rate * (stayed.sum() / fit - trust)
        self.trust = np.float32(min(max(moved, _LEAST_TRUST), self._most_trust))
        return self.belief

    def arrays(self) -> dict[str, Floats]:
        """What stays from frame to frame."""
        return {"belief": self.belief.copy(), "trust": np.array([self.trust], np.float32)}

    def restore(self, arrays: Mapping[str, Floats]) -> None:
        """Go on from what `arrays` gave.

        Raises:
            UsageError: It is of another number of classes, or no distribution and trust.
        """
        belief, trust = arrays["belief"], arrays["trust"]
        if belief.shape != self.belief.shape or trust.shape != (1,):
            raise UsageError(f"the filter's belief is over {list(belief.shape)}, expected {list(self.belief.shape)}")
        if not (belief >= 0).all() or not abs(belief.sum(dtype=np.float64) - 1) < 1e-3:
            raise UsageError("the filter's belief is no distribution: expected numbers from 0 that sum to 1")
        if not 0 <= trust[0] < 1:
            raise UsageError(f"the filter's trust is {trust[0]:g}, expected 0 to 1")
        self.belief = belief.astype(np.float32)
        self.trust = np.float32(min(trust[0], self._most_trust))
