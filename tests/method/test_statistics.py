import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.method.statistics import Statistics, batch_moments, move


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batch_moments_are_mean_and_biased_variance(layout):
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64).contiguous(memory_format=layout)

    mean, variance = batch_moments(x)

    by_hand = x.numpy().transpose(1, 0, 2, 3).reshape(4, -1)
    np.testing.assert_allclose(mean, by_hand.mean(1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(variance, by_hand.var(1), rtol=1e-10)


@given(
    u=st.floats(0, 1),
    old=st.tuples(st.floats(-3, 3), st.floats(0, 4)),
    new=st.tuples(st.floats(-3, 3), st.floats(0, 4)),
)
def test_moving_gives_the_moments_of_the_mixture(u, old, new):
    """(1 - u) of the old distribution and u of the new one, taken together: the definition, not the update rule."""
    (m, v), (b, bv) = old, new
    mean = (1 - u) * m + u * b
    variance = (1 - u) * (v + m * m) + u * (bv + b * b) - mean * mean

    moved = move(*((torch.tensor([a]).double(), torch.tensor([c]).double()) for a, c in (old, new)), u)

    np.testing.assert_allclose(moved[0], [mean], atol=1e-9)
    np.testing.assert_allclose(moved[1], [variance], atol=1e-9)


def test_a_norm_asked_twice_gives_the_very_same_moments():
    """A recomputed segment must see what its first run saw, though the statistics have moved in between."""
    x = torch.randn(2, 3, 4, 4)
    known = {"bn": (torch.zeros(3), torch.ones(3))}
    statistics = Statistics("running", known, 0.1)

    first, second = (statistics.normalise("bn", x, None, None, 1e-5) for _ in range(2))

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[1], known["bn"][0])


def test_only_running_mode_leaves_other_statistics_behind():
    x, known = torch.randn(2, 3, 4, 4), {"bn": (torch.zeros(3), torch.ones(3))}
    for mode, moves in (("batch", False), ("running", True), ("source", False)):
        statistics = Statistics(mode, known, 0.5)
        statistics.normalise("bn", x, None, None, 1e-5)

        assert (not torch.equal(statistics.after()["bn"][0], known["bn"][0])) == moves
