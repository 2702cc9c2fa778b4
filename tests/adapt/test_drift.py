"""When a scene counts as changed: on keys made by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecotta_rt.adapt.drift import DRIFT_LIMIT, DriftDetector
from ecotta_rt.errors import UsageError

NUMBERS, WINDOW, SETTLED = 32, 32, 20
FIRST = WINDOW + SETTLED


def keys(frames, seed=0, numbers=NUMBERS):
    """Of one scene, as whitening leaves them."""
    return np.random.default_rng(seed).normal(size=(frames, numbers)).astype(np.float32)


def noticed(frames, limit=DRIFT_LIMIT):
    """At which frames, from 0."""
    detector = DriftDetector(frames.shape[1], limit)
    return [place for place, key in enumerate(frames) if detector.take(key) is not None]


def reference(frames):
    """The sizes after each frame by the definition, as long as nothing is noticed and no memory is full."""
    sizes, mean, variance, scatter, level = [], None, np.ones(frames.shape[1]), 0.3, 0.0

    def x_of(key):
        return np.log(np.mean(np.clip((key - mean) / np.sqrt(variance), -5, 5) ** 2) + 1e-3)

    for place in range(len(frames)):
        settled = max(0, place + 1 - WINDOW)
        if settled:
            key = frames[settled - 1].astype(np.float64)
            if settled == 1:
                first = frames[:WINDOW].astype(np.float64)
                mean = np.median(first, axis=0)
                variance = (1 + (1.4826 * np.median(abs(first - mean), axis=0)) ** 2) / 2
            step, most = x_of(key) - level, 3 * np.sqrt(scatter)
            if settled > 1:
                far = 3 * np.sqrt(variance)
                before = np.clip(key - mean, -far, far)
                mean = mean + before / settled
                after = np.clip(key - mean, -far, far)
                variance = np.maximum(variance + (before * after - variance) / (30 + settled), 0.05)
                step = np.clip(step, -most, most)
                scatter += (step**2 - scatter) / (30 + settled)
            level += step / settled
        if settled < SETTLED:
            sizes.append(0.0)
            continue
        window = frames[settled : settled + WINDOW].astype(np.float64)
        shift = np.clip((window - mean) / np.sqrt(variance), -3, 3).mean(axis=0)
        spread = np.mean([np.clip((x_of(key) - level) / np.sqrt(scatter), -3, 3) for key in window])
        sizes.append(max(np.mean(shift**2), spread**2 / 4) / (1 / WINDOW + 1 / settled + 0.03))
    return sizes


def test_sizes_are_those_of_the_definition():
    frames = np.concatenate([keys(100, numbers=5), 3 + keys(40, seed=1, numbers=5)])
    detector, sizes = DriftDetector(5, limit=1e9), []

    for key in frames:
        detector.take(key)
        sizes.append(detector.size)

    np.testing.assert_allclose(sizes, reference(frames), rtol=1e-9)


def test_a_steady_scene_has_not_changed():
    assert noticed(keys(2000)) == []


@pytest.mark.parametrize(
    "after", [keys(100, 1) + 1, keys(100, 1) / 3, keys(100, 1) * 2], ids=["elsewhere", "calmer", "wilder"]
)
def test_a_change_is_noticed_once_and_soon(after):
    (place,) = noticed(np.concatenate([keys(200), after]))

    assert 200 < place < 200 + WINDOW


def test_garbage_among_the_frames_is_no_change():
    frames, garbage = keys(1000), np.random.default_rng(2).random(1000) < 0.1
    frames[garbage] *= 50

    assert noticed(frames) == []


def test_a_slow_change_is_followed():
    frames = keys(3000)

    assert noticed(frames + np.linspace(0, 2, 3000, dtype=np.float32)[:, None]) == []


@settings(deadline=None)
@given(arrays(np.float32, (70, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_any_finite_keys_have_a_size_and_none_comes_too_soon(frames):
    detector, last = DriftDetector(3, limit=0.0), -1

    for place, key in enumerate(frames):
        size = detector.take(key)
        assert np.isfinite(detector.size) and detector.size >= 0
        if size is not None:
            assert np.isfinite(size) and size > 0 and place - last >= FIRST
            last = place


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_limit_below_zero_is_refused(limit):
    with pytest.raises(UsageError, match="give 0 or more"):
        DriftDetector(3, limit)
