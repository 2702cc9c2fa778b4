import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ecotta_rt.daemon.http.pictures import Pictures, png, small
from ecotta_rt.machine.clock import ManualClock


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_png_holds_the_pixels_it_was_made_of(height, width, grey, seed):
    shape = (height, width) if grey else (height, width, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    shown = np.asarray(Image.open(io.BytesIO(png(pixels))))

    assert np.array_equal(shown, pixels)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 50))
def test_a_small_picture_is_no_larger_than_asked_and_of_the_same_shape(height, width, longest):
    picture = small(np.full((height, width, 3), 77, np.uint8), longest)

    assert 1 <= max(picture.shape[:2]) <= longest and min(picture.shape) >= 1
    assert (picture == 77).all()


def test_a_small_picture_is_a_copy():
    pixels = np.zeros((4, 4, 3), np.uint8)

    assert not np.shares_memory(small(pixels), pixels)


def test_a_picture_keeps_what_is_where():
    pixels = np.zeros((1000, 1000), np.uint8)
    pixels[:500, 500:] = 200

    picture = small(pixels, 100)

    assert (picture[:50, 50:] == 200).all() and picture.sum() == 200 * 50 * 50


def test_nothing_is_kept_while_nobody_looks():
    clock, frame = ManualClock(), np.zeros((4, 4, 3), np.uint8)
    pictures = Pictures(clock)
    pictures.offer("door", frame)
    assert pictures.png("door") is None  # from now on somebody does

    pictures.offer("door", frame)
    pictures.offer("yard", frame)
    assert pictures.png("door") is not None and pictures.png("yard") is None

    clock.advance_s(10.0)
    pictures.offer("door", frame)
    assert pictures.png("door") is None


def test_a_fast_camera_is_copied_seldom():
    clock = ManualClock()
    pictures = Pictures(clock)
    pictures.png("door")
    shown = []
    for value in range(6):
        pictures.offer("door", np.full((1, 1), value, np.uint8))
        shown.append(int(np.asarray(Image.open(io.BytesIO(pictures.png("door") or b"")))[0, 0]))
        clock.advance_s(0.25)

    assert shown == [0, 0, 2, 2, 4, 4]


def test_what_nobody_looks_at_any_more_goes_with_the_next_look():
    clock = ManualClock()
    pictures = Pictures(clock)
    pictures.png("door")
    pictures.offer("door", np.zeros((4, 4, 3), np.uint8))
    clock.advance_s(10.0)

    pictures.png("yard")
    clock.advance_s(1.0)

    assert pictures.png("door") is None


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4)])
def test_colour_and_grey_are_both_shown(shape):
    assert Image.open(io.BytesIO(png(np.zeros(shape, np.uint8)))).mode == ("RGB" if len(shape) == 3 else "L")
