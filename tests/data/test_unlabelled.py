import numpy as np
import pytest

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data import UnlabelledArrays, UnlabelledPictures, find_pictures
from ecotta_rt.errors import InputFileError, UsageError

FRAME = FrameSpec(3, 6, 8)


@pytest.fixture
def folder(tmp_path, make_picture):
    for number in range(4):
        make_picture(tmp_path / "pictures" / f"{number}.png", seed=number)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def test_pictures_without_classes_become_frames_without_labels(folder, make_picture, tmp_path):
    data = UnlabelledPictures(find_pictures(folder), ("a", "b"))

    frames = data.frames(FRAME, tmp_path / "store")

    assert data.classes == ("a", "b") and data.common_size() == (6, 8)
    np.testing.assert_array_equal(frames.training.frames[1], make_picture(tmp_path / "again.png", seed=1))
    assert not hasattr(frames.training, "labels") and frames.held_out is None
    assert [left.path.name for left in frames.left_out] == ["notes.txt"]


def test_a_count_of_them_is_chosen_by_the_seed(folder):
    chosen = [UnlabelledPictures(find_pictures(folder), count=2, seed=seed) for seed in (0, 0, 1, 2, 3)]

    assert all(data.count == 2 for data in chosen)
    assert chosen[0]._files == chosen[1]._files
    assert len({data._files for data in chosen}) > 1
    with pytest.raises(UsageError, match="there are 5 pictures"):
        UnlabelledPictures(find_pictures(folder), count=6)


def test_a_folder_in_which_nothing_is_a_picture_is_told(tmp_path):
    (tmp_path / "notes.png").write_text("no picture")

    with pytest.raises(InputFileError, match=r"none of 1 files is a picture; .*notes\.png"):
        UnlabelledPictures([tmp_path / "notes.png"]).frames(FRAME, tmp_path / "store")


def test_frames_in_memory_are_made_to_fit(tmp_path):
    data = UnlabelledArrays(np.zeros((3, 12, 16, 3), np.uint8))

    assert data.common_size() == (12, 16)
    assert data.frames(FRAME, tmp_path / "store").training.frames.shape == (3, 6, 8, 3)
