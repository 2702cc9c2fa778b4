import colorsys
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecotta_rt.bench.peers.cotta_augment import Draw, affine_and_blur, augment, draw, jitter_colours, rotate_hue


def _frames(count: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_a_neutral_draw_changes_nothing():
    frames = _frames()

    out = affine_and_blur(jitter_colours(frames, Draw()), Draw())

    torch.testing.assert_close(out, frames, rtol=0, atol=1e-5)


@pytest.mark.parametrize("turns", [-0.06, 0.0, 0.03, 0.5])
def test_hue_turns_as_the_standard_library_turns_it(turns):
    frames = _frames(1, 4, 4)
    frames[0, :, 0, 0] = 0.4  # grey has no hue
    frames[0, :, 0, 1] = 0.0

    def by_hand(pixel: np.ndarray) -> tuple[float, float, float]:
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
        return colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value)

    expected = np.apply_along_axis(by_hand, 0, frames[0].double().numpy())

    np.testing.assert_allclose(rotate_hue(frames, turns)[0].numpy(), expected, atol=1e-5)


def test_no_contrast_leaves_the_mean_grey_and_no_saturation_the_grey_of_each_pixel():
    frames = _frames()
    grey = (frames * torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)

    flat = jitter_colours(frames, Draw(contrast=0.0))
    colourless = jitter_colours(frames, Draw(saturation=0.0))

    torch.testing.assert_close(flat, grey.mean((2, 3), keepdim=True).expand_as(flat))
    torch.testing.assert_close(colourless, grey.expand_as(colourless))


def test_colours_change_in_the_drawn_order_and_are_clamped_between():
    """Brightness 2 saturates 0.7 at once; gamma 2 first leaves 0.49, which only then is doubled."""
    frames = torch.full((1, 3, 2, 2), 0.7)
    values = Draw(brightness=2.0, gamma=2.0)

    bright_first = jitter_colours(frames, values)
    gamma_first = jitter_colours(frames, replace(values, colour_order=(4, 0, 1, 2, 3)))

    torch.testing.assert_close(bright_first, torch.ones_like(frames))
    torch.testing.assert_close(gamma_first, torch.full_like(frames, 0.98))


def test_a_shift_moves_the_picture_and_repeats_the_edge():
    frames = _frames()

    moved = affine_and_blur(frames, Draw(shift=(3, -2)))

    torch.testing.assert_close(moved[:, :, :30, 3:], frames[:, :, 2:, :29], rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[:, :, :30, :3], frames[:, :, 2:, :1].expand(-1, -1, -1, 3), rtol=0, atol=1e-5)


def test_a_quarter_turn_is_exact_on_a_square_frame():
    frames = _frames()

    turned = affine_and_blur(frames, Draw(angle_degrees=90.0))

    expected = torch.rot90(frames, -1, (2, 3))
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-4)


def test_a_blur_spreads_a_point_into_a_gaussian_of_the_same_sum():
    point = torch.zeros(1, 3, 9, 9)
    point[:, :, 4, 4] = 1.0

    blurred = affine_and_blur(point, Draw(blur_sigma=0.5))[0, 0]

    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(blurred[4, 5] / blurred[4, 4]) == pytest.approx(np.exp(-0.5 / 0.25), rel=1e-4)


def test_draws_stay_in_the_ranges_of_the_official_configuration():
    generator = torch.Generator().manual_seed(0)
    draws = [draw(generator) for _ in range(200)]

    assert all(0.6 <= d.brightness <= 1.4 and 0.7 <= d.contrast <= 1.3 and 0.5 <= d.saturation <= 1.5 for d in draws)
    assert all(abs(d.hue_turns) <= 0.06 and 0.7 <= d.gamma <= 1.3 for d in draws)
    assert all(abs(d.angle_degrees) <= 15 and 0.9 <= d.scale <= 1.1 and 0.001 <= d.blur_sigma <= 0.5 for d in draws)
    assert {d.shift[axis] for d in draws for axis in (0, 1)} == set(range(-4, 5))
    assert {tuple(sorted(d.colour_order)) for d in draws} == {(0, 1, 2, 3, 4)}
    assert 60 < sum(d.flip for d in draws) < 140


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_augmented_frames_keep_shape_and_range_and_repeat_with_the_seed(height, width):
    frames = _frames(4, height, width)

    first, again, other = (augment(frames, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))

    assert first.shape == frames.shape
    assert first.dtype == torch.float32
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
