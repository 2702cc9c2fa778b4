import numpy as np
import pytest
import torch

from ecotta_rt.student.alignment.mmd import Discrepancy, mmd


def kernel(a, b, joint):
    """Five Gaussians around the mean squared distance of two different points."""
    distances = [((x - y) ** 2).sum() for i, x in enumerate(joint) for j, y in enumerate(joint) if i != j]
    base = np.mean(distances) / 2 ** (5 // 2)
    return sum(np.exp(-((a - b) ** 2).sum() / (base * 2**power)) for power in range(5))


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return rng.normal(0, 1, (6, 3)), rng.normal(0.5, 2, (6, 3))


def test_all_pairs_are_those_of_the_definition(samples):
    source, target = samples
    target = target[:4]  # sizes may differ
    joint = np.concatenate([source, target])

    def mean(left, right):
        return np.mean([[kernel(a, b, joint) for b in right] for a in left])

    expected = mean(source, source) + mean(target, target) - 2 * mean(source, target)
    assert mmd(torch.from_numpy(source), torch.from_numpy(target)).item() == pytest.approx(expected)


def test_the_linear_estimate_is_that_of_the_definition(samples):
    source, target = samples
    joint, count = np.concatenate(samples), len(source)

    def h(i, j):
        k = [kernel(source[i], source[j], joint), kernel(target[i], target[j], joint)]
        return sum(k) - kernel(source[i], target[j], joint) - kernel(source[j], target[i], joint)

    expected = np.mean([h(i, (i + 1) % count) for i in range(count)])
    found = mmd(torch.from_numpy(source), torch.from_numpy(target), linear=True)
    assert found.item() == pytest.approx(expected)


def test_equal_samples_have_no_discrepancy_and_others_have(samples):
    source, target = map(torch.from_numpy, samples)

    assert mmd(source, source).item() == pytest.approx(0.0, abs=1e-12)
    assert mmd(source, target + 5).item() > mmd(source, target).item() > 0
    assert mmd(torch.zeros(3, 2), torch.zeros(3, 2)).item() == 0.0  # no distance at all, and no division by it


def test_the_gradient_leaves_the_bandwidths_alone(samples):
    source, target = (torch.from_numpy(sample).requires_grad_() for sample in samples)
    (gradient,) = torch.autograd.grad(Discrepancy(3, 2)(source, target, torch.zeros(6), 0.5), source)

    step = 1e-6
    joint = np.concatenate(samples)
    for place in ((0, 0), (3, 2)):
        moved = samples[0].copy()
        moved[place] += step

        def value(first):
            pairs = [(first, first, 1), (samples[1], samples[1], 1), (first, samples[1], -2)]
            return sum(w * np.mean([[kernel(a, b, joint) for b in y] for a in x]) for x, y, w in pairs)

        assert gradient[place].item() == pytest.approx((value(moved) - value(samples[0])) / step, rel=1e-3)
