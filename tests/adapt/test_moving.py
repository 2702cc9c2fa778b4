"""Statistics that move: by the definition, and in the order of the frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.adapt.moving import Moving

ARRAYS = (("a.mean", 2), ("a.variance", 2), ("b.mean", 1), ("b.variance", 1))


def moved(statistics, seen, **keywords):
    out = np.zeros_like(statistics)
    Moving(**{"arrays": ARRAYS, **keywords})(statistics, seen, out)
    return out


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

    found = moved(np.array(old), np.array([new]), arrays=ARRAYS[2:], momentum=u)

    np.testing.assert_allclose(found, [mean, variance], atol=1e-5)


def test_frames_move_them_one_after_the_other():
    rng = np.random.default_rng(0)
    statistics, seen = rng.uniform(0.5, 2, 6).astype(np.float32), rng.uniform(0.5, 2, (3, 6)).astype(np.float32)

    one_by_one = statistics
    for frame in seen:
        one_by_one = moved(one_by_one, frame[None], momentum=0.2)

    np.testing.assert_array_equal(moved(statistics, seen, momentum=0.2), one_by_one)
    assert not np.array_equal(moved(statistics, seen[::-1], momentum=0.2), one_by_one)


def test_a_norm_may_have_a_momentum_of_its_own_and_none_at_all_moves_nothing():
    statistics, seen = np.ones(6, np.float32), np.full((1, 6), 3, np.float32)

    np.testing.assert_array_equal(moved(statistics, seen, momentum=0.01, momenta={"b": 1.0})[4:], [3, 3])
    np.testing.assert_array_equal(moved(statistics, seen, momentum=0.0, momenta={"b": 1.0}), statistics)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows_in_the_result(bad):
    seen = np.ones((2, 6), np.float32)
    seen[0, 3] = bad

    assert not np.isfinite(moved(np.ones(6, np.float32), seen, momentum=0.01)).all()
