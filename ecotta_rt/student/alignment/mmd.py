"""Maximum mean discrepancy: how far apart the features of two domains are, seen through Gaussian kernels.

    MMD^2 = mean k(s, s') + mean k(t, t') - 2 mean k(s, t),   k(a, b) = sum over i of exp(-|a - b|^2 / (b_0 2^i))

Sources: Gretton et al. 2012, A Kernel Two-Sample Test, JMLR 13, equation 5 (biased) and lemma 14 (in linear time);
bandwidths as Long et al. 2015, arXiv 1502.02791, and the public code of arXiv 2005.07839.
"""

import torch
from torch import Tensor, nn

__all__ = ["Discrepancy", "mmd"]

_KERNELS, _FACTOR = 5, 2.0


def mmd(source: Tensor, target: Tensor, *, linear: bool = False) -> Tensor:
    """The squared discrepancy of two samples.

    Args:
        source: `[N, F]`.
        target: `[M, F]`; for `linear` as many as `source`.
        linear: Estimate it from N neighbouring quadruples instead of all pairs: O(N), noisier, and it may be negative.

    Returns:
        A scalar. The bandwidths come from the samples and let no gradient through.
    """
    joint = torch.cat([source, target])
    distances = (joint[:, None] - joint[None]).square().sum(2)
    count, first = len(joint), len(source)
    mean = distances.detach().sum() / (count * count - count)
    base = mean.clamp_min(torch.finfo(mean.dtype).tiny) / _FACTOR ** (_KERNELS // 2)
    kernel = torch.stack([torch.exp(-distances / (base * _FACTOR**power)) for power in range(_KERNELS)]).sum(0)
    if not linear:
        within = kernel[:first, :first].mean() + kernel[first:, first:].mean()
        return within - 2 * kernel[:first, first:].mean()
    here = torch.arange(first)
    after = (here + 1) % first
    within = kernel[here, after] + kernel[first + here, first + after]
    return (within - kernel[here, first + after] - kernel[after, first + here]).mean()


class Discrepancy(nn.Module):
    """MMD on features, as an alignment; has no parameters.

    Args:
        features: Width of the features; not used here.
        classes: Of the network; not used here.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()

    def forward(self, source: Tensor, target: Tensor, labels: Tensor, done: float) -> Tensor:
        """See `mmd`; labels and progress are not used."""
        return mmd(source, target)
