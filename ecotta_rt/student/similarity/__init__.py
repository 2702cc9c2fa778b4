"""How much a source network knows that a target task needs, from its features and answers on a few labelled pictures.

    Probe(features, answers, labels)  ->  MEASURES["parc"].score(probe)  ->  a number, higher is nearer

One file a measure. Nothing is trained, no picture of the source is needed, and its classes may be any.

| measure | from | range | chance |
| --- | --- | --- | --- |
| `parc` | features | -100 to 100 | 0 |
| `cka` | features | 0 to 1 | above 0, the more so the fewer pictures |
| `h-score` | features | 0 to (classes - 1) | above 0, the same |
| `logme` | features | any | - |
| `leep` | answers | up to 0 | minus the entropy of the labels, where all answers are the same |
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ecotta_rt.student.similarity.cka import cka
from ecotta_rt.student.similarity.h_score import h_score
from ecotta_rt.student.similarity.leep import leep
from ecotta_rt.student.similarity.logme import logme
from ecotta_rt.student.similarity.parc import parc
from ecotta_rt.student.similarity.probe import LEAST_PICTURES, Probe

__all__ = ["LEAST_PICTURES", "MEASURES", "Measure", "Probe"]


class Measure(NamedTuple):
    """A measure, and how its numbers become the `e_s >= 0` that sources are weighted by.

    Attributes:
        score: From a probe to the number.
        is_logarithm: The number is a logarithm of a likelihood: e_s is its exponential.
    """

    score: Callable[[Probe], float]
    is_logarithm: bool

    def evidence(self, score: float) -> float:
        """e_s for `source_weights`: the score itself, or of a logarithm its exponential."""
        return float(np.exp(score)) if self.is_logarithm else score


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "parc": Measure(parc, False),
        "cka": Measure(cka, False),
        "h-score": Measure(h_score, False),
        "logme": Measure(logme, True),
        "leep": Measure(leep, True),
    }
)
"""By name. The published choice for weighting sources is `parc`; with few labels `logme` is steadier."""
