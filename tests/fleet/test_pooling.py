"""Pooled moments against the samples themselves."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.fleet.pooling import PooledMoments, WeightedMean


def test_pooled_statistics_are_the_moments_of_all_samples_taken_together():
    """To 1e-6, whatever the samples' mean is beside their deviation, and however unequal the shards."""
    rng = np.random.default_rng(0)
    samples = rng.normal(rng.normal(0, 100, 5), rng.uniform(0.1, 5, 5), (3000, 5))
    pool = PooledMoments(5)

    for shard in np.split(samples, [7, 500, 1900]):
        pool.add(shard.mean(0), shard.var(0), len(shard))

    np.testing.assert_allclose(pool.means, samples.mean(0), rtol=1e-6)
    np.testing.assert_allclose(pool.variances, samples.var(0), rtol=1e-6)


@settings(max_examples=40)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.integers(0, 100), st.floats(-1e4, 1e4))
def test_pooling_shards_of_any_sizes_gives_the_moments_of_the_whole(sizes, seed, centre):
    samples = np.random.default_rng(seed).normal(centre, 1.0, (sum(sizes), 3))
    pool = PooledMoments(3)

    for shard in np.split(samples, np.cumsum(sizes)[:-1]):
        pool.add(shard.mean(0), shard.var(0), len(shard))

    np.testing.assert_allclose(pool.means, samples.mean(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(pool.variances, samples.var(0), rtol=1e-6)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(any), st.integers(0, 100))
def test_a_weighted_mean_is_that_of_long_doubles(weights, seed):
    vectors = np.random.default_rng(seed).normal(size=(len(weights), 4)).astype(np.float32)
    mean = WeightedMean(4)

    for vector, weight in zip(vectors, weights, strict=True):
        mean.add(vector, weight)

    wide = np.array(weights, np.longdouble)
    expected = (wide[:, None] * vectors).sum(0) / wide.sum()
    np.testing.assert_allclose(mean.value, expected.astype(float), rtol=1e-12, atol=1e-14)
