import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.bundle import RESIZES, FrameSpec
from ecotta_rt.errors import BadFrames
from ecotta_rt.runtime.preprocess import preprocess

SIDES = st.integers(1, 40)
EVERY_RESIZE = pytest.mark.parametrize("resize", RESIZES)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def row(*values):
    """One line of grey pixels, `[1, W, 3]`."""
    return np.repeat(np.array(values, np.uint8)[None, :, None], 3, axis=2)


def fitted(pixels, size, resize="cover"):
    return preprocess(pixels, FrameSpec(3, *size, resize))


def by_hand(pixels, size):
    """The definition, pixel by pixel, in float64: area means where an axis shrinks, linear where it grows."""
    for axis, target in ((0, size[0]), (1, size[1])):
        lines = np.moveaxis(pixels.astype(np.float64), axis, 0)
        source = len(lines)
        out = []
        for i in range(target):
            if source > target:
                low, high = i * source / target, (i + 1) * source / target
                weights = [max(0.0, min(high, j + 1) - max(low, j)) for j in range(source)]
            else:
                centre = min(max((i + 0.5) * source / target - 0.5, 0), source - 1)
                weights = [max(0.0, 1 - abs(centre - j)) for j in range(source)]
            out.append(np.tensordot(np.array(weights) / sum(weights), lines, axes=1))
        pixels = np.moveaxis(np.array(out), 0, axis)
    return pixels


@EVERY_RESIZE
def test_a_frame_of_the_right_size_is_handed_on_untouched(resize):
    frame = noise(32, 32)

    assert fitted(frame, (32, 32), resize) is frame


@EVERY_RESIZE
@given(height=SIDES, width=SIDES, to_height=SIDES, to_width=SIDES, colour=st.tuples(*3 * [st.integers(0, 255)]))
def test_a_frame_of_one_colour_stays_so_at_every_size(resize, height, width, to_height, to_width, colour):
    frame = np.full((height, width, 3), colour, np.uint8)

    resized = fitted(frame, (to_height, to_width), resize)

    assert resized.dtype == np.uint8
    assert resized.shape == (to_height, to_width, 3)
    assert (resized == np.array(colour, np.uint8)).all()


@given(height=SIDES, width=SIDES, to_height=SIDES, to_width=SIDES, seed=st.integers(0, 9))
def test_stretching_agrees_with_the_definition_in_float64(height, width, to_height, to_width, seed):
    frame = noise(height, width, seed)

    resized = fitted(frame, (to_height, to_width), "stretch")

    # Half a level for rounding, and what the definition's own fractions leave of a sum of at most 40 * 40 pixels.
    assert np.abs(resized - by_hand(frame, (to_height, to_width))).max() <= 0.5 + 1e-9


@given(times=st.tuples(st.integers(1, 6), st.integers(1, 6)), seed=st.integers(0, 9))
def test_shrinking_by_whole_numbers_takes_the_mean_of_each_block(times, seed):
    frame = noise(4 * times[0], 4 * times[1], seed)
    blocks = frame.reshape(4, times[0], 4, times[1], 3).mean(axis=(1, 3), dtype=np.float64)

    resized = fitted(frame, (4, 4), "stretch")

    assert np.abs(resized - blocks).max() <= 0.5 + 1e-3
    assert abs(resized.mean() - frame.mean()) <= 0.5


def test_small_cases_worked_out_by_hand():
    # 3 -> 2: each output pixel covers one and a half. 2 -> 4: centres at -0.25, 0.25, 0.75, 1.25.
    assert fitted(row(30, 60, 90), (1, 2), "stretch").tolist() == row(40, 80).tolist()
    assert fitted(row(0, 100), (1, 4), "stretch").tolist() == row(0, 25, 75, 100).tolist()


def test_a_wide_frame_is_cut_around_its_centre_and_a_stretched_one_is_not():
    frame = np.concatenate([row(0, 0), row(100, 200), row(0, 0)], axis=1).repeat(2, axis=0)  # [2, 6, 3]

    assert fitted(frame, (2, 2)).tolist() == frame[:, 2:4].tolist()
    assert fitted(frame.swapaxes(0, 1), (2, 2)).tolist() == frame.swapaxes(0, 1)[2:4].tolist()
    assert fitted(frame, (1, 1), "stretch").tolist() == row(50).tolist()


@given(height=SIDES, width=SIDES)
def test_flipping_before_or_after_is_the_same(height, width):
    """Nothing leans to one side."""
    frame = noise(height, width)

    resized, flipped = fitted(frame, (8, 8), "stretch"), fitted(frame[::-1, ::-1], (8, 8), "stretch")

    assert np.abs(resized[::-1, ::-1].astype(int) - flipped).max() <= 1


def test_what_is_no_frame_is_refused(subtests):
    for pixels, message in [
        (np.zeros((4, 4, 3), np.float32), "float32 pixels, expected uint8"),
        (np.full((4, 4, 3), np.nan), "float64 pixels"),
        (np.zeros(4, np.uint8), r"shape \[4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        ([[0, 0, 0]], "a list, expected a numpy array"),
    ]:
        with subtests.test(message), pytest.raises(BadFrames, match=message):
            fitted(pixels, (2, 2))


def test_a_crop_keeps_the_middle_of_what_resizing_would_take():
    """The short side to 256, then 224 of them around the centre, without the detour."""
    frame = noise(64, 96)

    cut = preprocess(frame, FrameSpec(3, 28, 28, crop=0.875))

    assert cut.tolist() == fitted(frame[4:60, 20:76], (28, 28)).tolist()
    stretched = preprocess(frame, FrameSpec(3, 28, 28, "stretch", crop=0.875))
    assert stretched.tolist() == fitted(frame[4:60, 6:90], (28, 28), "stretch").tolist()


@given(height=SIDES, width=SIDES, crop=st.floats(0.01, 1), resize=st.sampled_from(RESIZES))
def test_no_crop_leaves_less_than_a_pixel(height, width, crop, resize):
    assert preprocess(noise(height, width), FrameSpec(3, 5, 7, resize, crop)).shape == (5, 7, 3)


def test_colours_become_grey_by_the_luma_rule_that_pillow_has():
    image = pytest.importorskip("PIL.Image")
    frame = noise(32, 32)

    grey = preprocess(frame, FrameSpec(1, 32, 32))

    assert grey.shape == (32, 32, 1)
    assert (grey[..., 0] == np.asarray(image.fromarray(frame).convert("L"))).all()


@given(height=SIDES, width=SIDES)
def test_grey_pictures_are_the_same_however_they_come(height, width):
    """A decoder that makes colours of a grey picture gives the same frame as one that leaves it grey."""
    grey = noise(height, width)[..., 0]
    colour = np.repeat(grey[:, :, None], 3, axis=2)

    for channels in (1, 3):
        frames = [preprocess(pixels, FrameSpec(channels, 6, 6)) for pixels in (grey, grey[:, :, None], colour)]
        assert frames[0].shape == (6, 6, channels)
        assert frames[0].tolist() == frames[1].tolist() == frames[2].tolist()
