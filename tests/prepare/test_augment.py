import argparse
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.cli.prepare_options import add_options
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.augment import AUGMENTATIONS, Augmentation, augment
from ecotta_rt.prepare.augment.draws import Draws

STEPS = st.lists(st.tuples(st.sampled_from(sorted(AUGMENTATIONS)), st.sampled_from([0.0, 0.25, 0.5, 1.0])), max_size=4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(channels=3, count=16, side=16):
    """Smooth ones, so that a shift or a blur is seen, and with black and white in them."""
    y, x = torch.arange(side).view(-1, 1) / side, torch.arange(side) / side
    phase = torch.rand(count, channels, 1, 1, generator=seeded(9)) * 6
    return (0.5 + 0.6 * torch.sin(5 * y + 9 * x * y + phase)).clamp(0, 1)


def only(name, strength, draws=None):
    return Augmentation(((name, strength),), draws)


def test_every_augmentation_keeps_shape_range_and_dtype_and_leaves_its_input_alone(subtests):
    for name in AUGMENTATIONS:
        for channels in (1, 3):
            for strength in (AUGMENTATIONS[name].usual, 1.0):
                with subtests.test(name=name, channels=channels, strength=strength):
                    frames = pictures(channels)
                    before = frames.clone()
                    changed = augment(frames, only(name, strength), seeded())

                    assert changed.shape == frames.shape
                    assert changed.dtype == torch.float32
                    assert 0 <= changed.min() <= changed.max() <= 1
                    assert torch.equal(frames, before)
                    grey_of_grey = (name, channels) == ("grey", 1)
                    assert torch.equal(changed, frames) == grey_of_grey


def test_a_strength_of_0_changes_nothing_and_a_small_one_little(subtests):
    frames = pictures()
    for name, known in AUGMENTATIONS.items():
        with subtests.test(name=name):
            assert torch.equal(augment(frames, only(name, 0.0), seeded()), frames)
            # Of the function itself too: no strength is lost between the option and it.
            if name != "augmix":  # its tones have no strength: autocontrast and equalise are whole or not at all
                at_rest = known.apply(frames, 0.0, Draws(len(frames), seeded()))
                torch.testing.assert_close(at_rest, frames, rtol=0, atol=1e-6)
            far = [(augment(frames, only(name, s), seeded(1)) - frames).abs().mean() for s in (0.05, 1.0)]
            assert far[0] < far[1]


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(subtests):
    for name in AUGMENTATIONS:
        with subtests.test(name=name):
            first, again, other = (augment(pictures(), only(name, 0.9), seeded(seed)) for seed in (3, 3, 4))
            assert torch.equal(first, again)
            assert not torch.equal(first, other)


def test_frames_that_share_a_draw_are_changed_alike_and_without_sharing_they_are_not(subtests):
    one = pictures(count=1).expand(16, -1, -1, -1).clone()
    for name in AUGMENTATIONS:
        with subtests.test(name=name):
            shared = augment(one, only(name, 0.6, draws=2), seeded(5))
            torch.testing.assert_close(shared[:8], shared[:1].expand(8, -1, -1, -1))
            torch.testing.assert_close(shared[8:], shared[8:9].expand(8, -1, -1, -1))
            if name != "amplitude":  # of one and the same picture the spectra are the same
                alone = augment(one, only(name, 0.6), seeded(5))
                assert not torch.allclose(alone, alone[:1].expand_as(alone))


def test_steps_follow_each_other_in_the_order_they_are_named():
    frames = pictures()
    both = augment(frames, Augmentation.parse("shift:0.25,erase:1"), seeded())
    generator = seeded()
    second = augment(augment(frames, only("shift", 0.25), generator), only("erase", 1.0), generator)
    assert torch.equal(both, second)


def test_by_hand_flip_shift_grey_and_erase():
    frames = pictures()
    assert torch.equal(augment(frames, only("flip", 1.0), seeded()), frames.flip(3))

    luma = (frames * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(augment(frames, only("grey", 1.0), seeded()), luma.expand_as(frames))

    shifted = augment(frames, only("shift", 2 / 16), seeded())
    padded = np.pad(frames.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)])
    windows = [padded[:, :, y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
    assert all(any(np.array_equal(row, window[i]) for window in windows) for i, row in enumerate(shifted.numpy()))

    erased = augment(frames, only("erase", 1.0), seeded()) != frames
    share = erased.any(1).float().mean((1, 2))
    assert (share > 0).all()
    assert share.max() <= 0.4  # 0.3, rounded to whole pixels
    for hidden in erased.any(1):  # a rectangle: as many as its rows times its columns
        assert hidden.sum() == hidden.any(1).sum() * hidden.any(0).sum()


def test_jitter_of_grey_frames_is_that_of_brightness_and_contrast_alone():
    frames = pictures(channels=1)
    jittered = augment(frames, only("jitter", 1.0), seeded())
    ranks = frames.flatten(1).argsort(1)  # neither turns the order of two pixels round
    assert (jittered.flatten(1).gather(1, ranks).diff(dim=1) >= -1e-6).all()


def test_amplitudes_of_another_frame_leave_the_phases():
    frames = 0.25 + 0.5 * pictures()  # far from the limits, so that nothing is cut off
    mixed = augment(frames, only("amplitude", 0.3), seeded())
    turned = (torch.fft.rfft2(mixed) / torch.fft.rfft2(frames)).angle().abs()
    strong = torch.fft.rfft2(frames).abs() > 1
    inside = ((mixed > 0) & (mixed < 1)).flatten(1).all(1)
    assert inside.sum() > 8
    assert turned[inside][strong[inside]].max() < 1e-2


def test_a_wave_has_one_length_and_one_direction():
    frames = torch.full((8, 3, 16, 16), 0.5)
    wave = augment(frames, only("waves", 0.5), seeded()).double() - 0.5
    for w in (wave, wave.transpose(2, 3)):
        # sin(a + k) + sin(a - k) = 2 cos(k) sin(a), with one k a picture and channel
        inner, around = w[..., 1:-1], w[..., 2:] + w[..., :-2]
        cosine = (inner * around).sum((2, 3), keepdim=True) / inner.square().sum((2, 3), keepdim=True)
        torch.testing.assert_close(around, cosine * inner, rtol=0, atol=1e-5)
        assert cosine.abs().max() <= 2


@given(STEPS, st.one_of(st.none(), st.integers(1, 9)))
def test_what_an_augmentation_is_written_as_reads_as_the_same(steps, draws):
    how = Augmentation(tuple(steps), draws)
    assert Augmentation.parse(str(how), draws) == how


def test_names_without_a_strength_have_their_usual_one():
    assert Augmentation.parse("augmix, erase:.2") == Augmentation((("augmix", 0.3), ("erase", 0.2)))
    assert Augmentation.parse("none").steps == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("augmax", "unknown augmentation 'augmax'; did you mean augmix?"),
        ("blur:", "'' is no strength"),
        ("blur:nan", "'nan' is no strength"),
        ("blur:-1", "'-1' is no strength"),
        ("blur:1.5", "blur:1.5: a strength lies between 0 and 1"),
        ("blur,,grey", "unknown augmentation ''"),
    ],
)
def test_a_mistake_names_what_is_wrong(text, reason):
    with pytest.raises(UsageError, match=re.escape(reason)):
        Augmentation.parse(text)


def test_the_help_names_every_augmentation_with_its_usual_strength():
    parser = argparse.ArgumentParser()
    add_options(parser)
    text = next(action.help for action in parser._actions if action.dest == "augment")
    told = {name: float(usual) for name, usual in re.findall(r"[:,] ([a-z]+)\b[^(),:]*\((0\.[0-9]+)", text)}
    assert {name: known.usual for name, known in AUGMENTATIONS.items()} == told
    default = next(action.default for action in parser._actions if action.dest == "augment")
    assert Augmentation.parse(default) == Augmentation()


def test_the_page_names_every_augmentation_with_its_usual_strength_and_what_it_is_near_to(checkout):
    page = (checkout / "docs" / "how-to" / "prepare.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z]+)` \|.*\| (0\.[0-9]+) \| (.*?) ?\|$", page, re.MULTILINE)
    told = [(name, float(usual), near.replace("defocus blur", "defocus_blur")) for name, usual, near in rows]
    assert told == [(name, known.usual, known.near) for name, known in AUGMENTATIONS.items()]


def test_what_an_augmentation_comes_near_to_is_a_corruption_of_the_test():
    near = {name for known in AUGMENTATIONS.values() for name in filter(None, known.near.split(", "))}
    assert near <= set(CORRUPTIONS)
