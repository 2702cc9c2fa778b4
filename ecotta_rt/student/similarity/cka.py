"""Linear CKA between features and labels: how alike are the two matrices of inner products between pictures?

    CKA = |Y'X|^2 / (|X'X| |Y'Y|),  Frobenius norms, columns of X (features) and Y (one-hot labels) centred

Source: Kornblith, Norouzi, Lee, Hinton 2019, Similarity of Neural Network Representations Revisited, arXiv 1905.00414,
section 3. With labels on one side it is the kernel-target alignment of Cristianini et al. 2001, centred.
"""

import numpy as np

from ecotta_rt.student.similarity.probe import Probe

__all__ = ["cka"]


def cka(probe: Probe) -> float:
    """From 0 to 1; 0 where the features are all the same."""
    x = probe.features - probe.features.mean(0)
    y = probe.one_hot()
    y -= y.mean(0)
    largest = np.abs(x).max()
    if largest <= 1e-12 * np.abs(probe.features).max():
        return 0.0
    x /= largest
    return float(np.square(y.T @ x).sum() / (np.linalg.norm(x @ x.T) * np.linalg.norm(y @ y.T)))
