import numpy as np
import pytest
import torch

from ecotta_rt.method.statistics import Statistics, batch_moments, frame_moments


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batch_moments_are_mean_and_biased_variance(layout):
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64).contiguous(memory_format=layout)

    mean, variance = batch_moments(x)

    by_hand = x.numpy().transpose(1, 0, 2, 3).reshape(4, -1)
    np.testing.assert_allclose(mean, by_hand.mean(1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(variance, by_hand.var(1), rtol=1e-10)


@pytest.mark.parametrize("frames", [1, 3])
def test_frame_moments_are_those_of_each_frame_by_itself(frames):
    x = torch.randn(frames, 4, 5, 6, dtype=torch.float64)

    mean, variance = frame_moments(x)

    assert mean.shape == variance.shape == ((4,) if frames == 1 else (3, 4))
    np.testing.assert_allclose(mean, x.numpy().mean((2, 3)).reshape(mean.shape), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(variance, x.numpy().var((2, 3)).reshape(mean.shape), rtol=1e-10)


KNOWN = {"bn": (torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0]))}


@pytest.mark.parametrize("mode", ["running", "source"])
def test_a_norm_is_normalised_by_the_statistics_that_are_given(mode):
    x = torch.randn(2, 3, 4, 4)
    statistics = Statistics(mode, KNOWN)

    y, mean, inverse = statistics.normalise("bn", x, None, None, 1e-5)

    by_hand = (x.numpy() - np.array([0, 1, 2])[:, None, None]) / np.sqrt(np.array([1, 2, 3]) + 1e-5)[:, None, None]
    np.testing.assert_allclose(y, by_hand, rtol=1e-5, atol=1e-6)
    assert torch.equal(mean, KNOWN["bn"][0])
    np.testing.assert_allclose(inverse, 1 / np.sqrt(np.array([1, 2, 3]) + 1e-5), rtol=1e-5)


def test_only_running_mode_tells_what_the_frames_have_and_not_of_norms_that_are_held():
    x = torch.randn(2, 3, 4, 4)
    for mode, keywords, tells in (
        ("batch", {}, False),
        ("source", {}, False),
        ("running", {}, True),
        ("running", {"telling": False}, False),
        ("running", {"momenta": {"bn": 0.0}}, False),
        ("running", {"momenta": {"bn": 0.5}}, True),
    ):
        statistics = Statistics(mode, KNOWN, **keywords)
        statistics.normalise("bn", x, None, None, 1e-5)

        assert statistics.seen.keys() == ({"bn"} if tells else set())
        if tells:
            assert all(torch.equal(a, b) for a, b in zip(statistics.seen["bn"], frame_moments(x), strict=True))


def test_a_held_norm_is_not_normalised_by_the_batch():
    statistics = Statistics("batch", KNOWN, {"bn": 0.0})

    assert torch.equal(statistics.normalise("bn", torch.randn(2, 3, 4, 4), None, None, 1e-5)[1], KNOWN["bn"][0])
    assert not statistics.used
