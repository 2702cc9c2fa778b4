"""`benchmarks/other_corruptions.py`: what recipes are chosen by."""

import numpy as np
from numpy.testing import assert_array_equal

from ecotta_rt.data.corruptions import CORRUPTIONS
from other_corruptions import OTHER_CORRUPTIONS, corrupt_otherwise


def test_none_of_them_is_one_of_the_test():
    assert not OTHER_CORRUPTIONS.keys() & set(CORRUPTIONS)


def test_each_keeps_the_shape_repeats_with_its_seed_and_changes_every_frame(subtests):
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    for name in OTHER_CORRUPTIONS:
        with subtests.test(name):
            changed = corrupt_otherwise(frames, name, 1)
            assert changed.shape == frames.shape
            assert changed.dtype == np.uint8
            assert (changed != frames).any((1, 2, 3)).all()
            assert_array_equal(corrupt_otherwise(frames, name, 1), changed)


def test_blur_and_saturation_by_hand():
    point = np.zeros((1, 33, 33, 3), np.uint8)
    point[0, 16, 16] = 255
    blurred = corrupt_otherwise(point, "gaussian_blur", 0)[0, :, :, 0].astype(float)
    assert abs(blurred[16, 17] / blurred[16, 16] - np.exp(-0.5)) < 0.02
    assert abs(blurred.sum() - 255) < 8

    grey = np.full((1, 32, 32, 3), 100, np.uint8)
    assert_array_equal(np.unique(corrupt_otherwise(grey, "saturate", 0)), [113])  # 100 + 0.05 of full scale
