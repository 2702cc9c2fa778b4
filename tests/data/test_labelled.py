import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data import LabelledArrays, LabelledPictures, open_class_folders
from ecotta_rt.data.labelled import hold_out
from ecotta_rt.errors import InputFileError, UsageError

FRAME = FrameSpec(3, 4, 4)


@pytest.fixture
def folder(tmp_path, make_picture):
    """Ten pictures of one grey level each, the level their label's hundredfold and their number."""
    for label, name in enumerate(("ant", "bee")):
        for number in range(10):
            pixels = np.full((6, 6, 3), 100 * label + number, np.uint8)
            make_picture(tmp_path / "pictures" / name / f"{number}.png", pixels=pixels)
    return tmp_path / "pictures"


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 3))
def test_the_same_share_of_every_class_is_held_out_and_one_stays(labels, share, seed):
    labels = np.array(labels)

    kept, held = hold_out(labels, share, seed)

    assert sorted([*kept, *held]) == list(range(len(labels)))
    for label in set(labels.tolist()):
        there = (labels == label).sum()
        assert abs((labels[held] == label).sum() - share * there) <= 1
        assert (labels[kept] == label).sum() >= 1
    assert [places.tolist() for places in hold_out(labels, share, seed)] == [kept.tolist(), held.tolist()]


def test_frames_and_labels_belong_together_held_out_ones_too(folder, tmp_path):
    data = LabelledPictures(open_class_folders(folder), share=0.2)

    frames = data.frames(FRAME, tmp_path / "store")

    assert (data.classes, data.count, data.common_size()) == (("ant", "bee"), 16, (6, 6))
    for part, count in ((frames.training, 16), (frames.held_out, 4)):
        assert part.frames.shape == (count, 4, 4, 3)
        assert (part.frames[:, 0, 0, 0] // 100).tolist() == part.labels.tolist()
    levels = [*frames.training.frames[:, 0, 0, 0], *frames.held_out.frames[:, 0, 0, 0]]
    assert len(set(levels)) == 20


def test_damaged_files_move_no_label(folder, tmp_path):
    (folder / "ant" / "3.png").write_bytes(b"damaged")

    frames = LabelledPictures(open_class_folders(folder), share=0.2).frames(FRAME, tmp_path / "store")

    assert [left.path.name for left in frames.left_out] == ["3.png"]
    for part in (frames.training, frames.held_out):
        assert (part.frames[:, 0, 0, 0] // 100).tolist() == part.labels.tolist()


def test_a_class_without_a_sound_picture_is_an_error(folder, tmp_path):
    for path in (folder / "bee").iterdir():
        path.write_bytes(b"damaged")

    with pytest.raises(InputFileError, match=r"no picture of bee can be used; .*0\.png: no picture of the formats"):
        LabelledPictures(open_class_folders(folder), share=0).frames(FRAME, tmp_path / "store")


def test_so_many_frames_are_chosen_by_the_seed(folder, tmp_path):
    folders = open_class_folders(folder)

    chosen = [LabelledPictures(folders, share=0, count=7, seed=seed) for seed in (0, 0, 1)]

    levels = [data.frames(FRAME, tmp_path / "store").training.frames[:, 0, 0, 0].tolist() for data in chosen]
    assert levels[0] == levels[1] != levels[2]
    assert len(set(levels[0])) == 7
    with pytest.raises(UsageError, match="--frames 21: there are 20 pictures"):
        LabelledPictures(folders, share=0, count=21)


def test_pictures_of_many_sizes_have_no_common_one(folder, make_picture):
    make_picture(folder / "ant" / "large.png", (30, 40))

    with pytest.raises(UsageError, match=r"differ in size \(20 of the first 21 are 6x6\); say with --size"):
        LabelledPictures(open_class_folders(folder), share=0).common_size()


def test_arrays_are_made_into_frames_only_where_they_are_none(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    data = LabelledArrays(frames, np.array([0, 1, 0, 1, 0, 1]), ("a", "b"))

    assert data.frames(FRAME, tmp_path).training.frames is frames
    assert data.frames(FRAME, tmp_path).held_out is None
    assert data.frames(FrameSpec(1, 2, 2), tmp_path).training.frames.shape == (6, 2, 2, 1)
    halves = LabelledArrays(frames, np.array([0, 1, 0, 1, 0, 1]), ("a", "b"), share=0.34).frames(FRAME, tmp_path)
    assert sorted(halves.held_out.labels) == [0, 1]
    assert len(halves.training.labels) == 4


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(UsageError, match="--held-out"):
        hold_out(np.array([0, 1]), share, 0)
