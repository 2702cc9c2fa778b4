"""LEEP: how well do the source's own answers foretell the target's labels?

    P(y, z) = mean over pictures of [label = y] answer(z),  P(y | z) = P(y, z) / P(z)
    LEEP = mean over pictures of log sum_z P(label | z) answer(z)

Source: Nguyen, Hassner, Seeger, Archambeau 2020, LEEP: A New Measure to Evaluate Transferability of Learned
Representations, arXiv 2002.12462, equations 1 and 2.
"""

import numpy as np

from ecotta_rt.student.similarity.probe import Probe

__all__ = ["leep"]


def leep(probe: Probe) -> float:
    """At most 0; minus the entropy of the labels where all answers are the same."""
    joint = probe.one_hot().T @ probe.answers / len(probe.labels)  # [target classes, source classes]
    marginal = joint.sum(0)
    given = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    expected = probe.answers @ given.T  # [N, target classes]
    right = expected[np.arange(len(expected)), np.unique(probe.labels, return_inverse=True)[1].reshape(-1)]
    return float(np.log(right).mean())
