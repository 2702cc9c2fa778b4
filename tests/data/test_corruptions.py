"""What holds for all fifteen corruptions."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from scipy.ndimage import zoom

from ecotta_rt.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from ecotta_rt.data.corruptions.pixels import zoomed
from ecotta_rt.errors import BadFrames, UsageError

SEEDED = {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog"} | {
    "elastic_transform"
}


def test_frames_keep_their_shape_and_the_input_is_left_alone(fashion_frames):
    before = fashion_frames.copy()

    for corruption, severity in product(CORRUPTIONS, SEVERITIES):
        corrupted = corrupt(fashion_frames, corruption, severity=severity)

        assert corrupted.shape == fashion_frames.shape, corruption
        assert corrupted.dtype == np.uint8, corruption
        assert (corrupted != fashion_frames).any(), (corruption, severity)
        np.testing.assert_array_equal(fashion_frames, before, err_msg=corruption)


def test_a_frame_does_not_depend_on_the_frames_beside_it(fashion_frames):
    places = np.array([9, 2, 5])

    for corruption in CORRUPTIONS:
        whole = corrupt(fashion_frames, corruption, severity=4, seed=7)
        part = corrupt(fashion_frames[places], corruption, severity=4, seed=7, indices=places)

        np.testing.assert_array_equal(part, whole[places], err_msg=corruption)


def test_blocks_do_not_show(fashion_frames, monkeypatch):
    whole = {corruption: corrupt(fashion_frames, corruption) for corruption in CORRUPTIONS}
    monkeypatch.setattr("ecotta_rt.data.corruptions.BLOCK_BYTES", 5 * fashion_frames[0].size)

    for corruption in CORRUPTIONS:
        np.testing.assert_array_equal(corrupt(fashion_frames, corruption), whole[corruption], err_msg=corruption)


def test_the_seed_decides_what_is_random_and_nothing_else(fashion_frames):
    for corruption in CORRUPTIONS:
        first, again, other = (corrupt(fashion_frames, corruption, seed=seed) for seed in (0, 0, 1))

        np.testing.assert_array_equal(first, again, err_msg=corruption)
        assert (first != other).any() == (corruption in SEEDED), corruption


def test_twins_in_one_batch_are_corrupted_differently(fashion_frames):
    twins = np.repeat(fashion_frames[:1], 2, axis=0)

    for corruption in sorted(SEEDED):
        corrupted = corrupt(twins, corruption)

        assert (corrupted[0] != corrupted[1]).any(), corruption


@pytest.mark.parametrize("side", [8, 28, 33, 64])
def test_square_frames_of_other_sizes_are_corrupted_too(side):
    frames = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)

    for corruption, severity in product(CORRUPTIONS, (1, 5)):
        corrupted = corrupt(frames, corruption, severity=severity)

        assert corrupted.shape == frames.shape, corruption
        assert (corrupted != frames).any(), (corruption, severity)


@pytest.mark.parametrize("value", [0, 255])
def test_blank_frames_are_no_special_case(value):
    """Black has no hue, no contrast and no brightest pixel to divide by."""
    frames = np.full((2, 32, 32, 3), value, np.uint8)

    assert [name for name in CORRUPTIONS if corrupt(frames, name).shape != frames.shape] == []


def test_no_frames_give_no_frames():
    nothing = np.zeros((0, 32, 32, 3), np.uint8)

    assert corrupt(nothing, "fog").shape == nothing.shape


def test_zooming_is_what_scipy_does():
    """Computed twice: our matrices against cutting out, scipy's zoom and trimming, for even and odd sides."""
    generator = np.random.default_rng(3)
    for side, factor in [(32, 1.05), (32, 1.25), (32, 2.25), (33, 1.75), (28, 1.11), (64, 1.02)]:
        field = generator.random((side, side))
        cut = int(np.ceil(side / factor))
        first = (side - cut) // 2
        enlarged = zoom(field[first : first + cut, first : first + cut], factor, order=1)
        trim = (len(enlarged) - side) // 2

        ours = zoomed(field[None], factor)[0]

        # Two float64 interpolations with weights that differ in their last bits.
        np.testing.assert_allclose(ours, enlarged[trim : trim + side, trim : trim + side], rtol=0, atol=1e-12)


def test_arguments_that_cannot_be_meant_are_refused(fashion_frames, subtests):
    for wrong, message in [
        ({"corruption": "motoin_blur"}, "did you mean motion_blur"),
        ({"corruption": "qqq"}, "unknown corruption 'qqq'.* jpeg_compression"),
        ({"severity": 0}, "severity 0: it goes from 1"),
        ({"severity": 6}, "severity 6"),
        ({"seed": -1}, "seed -1"),
        ({"indices": np.array([0, 1])}, r"indices of shape \(2,\) for 12 frames"),
        ({"indices": np.arange(-1, 11)}, "none negative"),
    ]:
        with subtests.test(message), pytest.raises(UsageError, match=message):
            corrupt(fashion_frames, **{"corruption": "fog", **wrong})


def test_frames_of_another_kind_are_refused(subtests):
    for frames, message in [
        (np.zeros((2, 32, 32, 3), np.float32), "dtype float32"),
        (np.zeros((32, 32, 3), np.uint8), r"shape \(32, 32, 3\)"),
        (np.zeros((2, 32, 32, 1), np.uint8), "expected uint8"),
        (np.zeros((2, 32, 16, 3), np.uint8), "32x16 pixels: they must be square"),
        (np.zeros((2, 4, 4, 3), np.uint8), "at least 8"),
    ]:
        with subtests.test(message), pytest.raises(BadFrames, match=message):
            corrupt(frames, "fog")


def test_without_scipy_streams_can_be_imported_and_corrupting_names_the_extra():
    script = """
import sys
sys.modules["scipy"] = sys.modules["PIL"] = None
import numpy as np
from ecotta_rt.data.corruptions import corrupt
from ecotta_rt.errors import Unavailable
try:
    corrupt(np.zeros((1, 32, 32, 3), np.uint8), "fog")
except Unavailable as error:
    print(error.exit_code, error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert run.stdout.startswith("69 corrupting frames needs scipy and Pillow"), run.stderr
    assert "pip install '.[bench]'" in run.stdout
