import json
import os

import numpy as np
import pytest

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data import decode_pictures, find_pictures, remove_store
from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.runtime.preprocess import preprocess

FRAME = FrameSpec(3, 4, 5, "cover", 0.875)


@pytest.fixture
def pictures(tmp_path, make_picture):
    """Six files: five pictures of different sizes, and one that is none."""
    for index in range(5):
        make_picture(tmp_path / "in" / f"{index}.png", (9 + index, 7), seed=index)
    (tmp_path / "in" / "2.txt").write_text("no picture")
    return find_pictures(tmp_path / "in")


def test_each_frame_is_what_the_device_will_make_of_the_picture(tmp_path, pictures, make_picture):
    seen = []

    decoded = decode_pictures(pictures, FRAME, tmp_path / "store", lambda done, total: seen.append((done, total)))

    pixels = [make_picture(tmp_path / "again.png", (9 + index, 7), seed=index) for index in range(5)]
    assert decoded.frames.tolist() == [preprocess(picture, FRAME).tolist() for picture in pixels]
    assert isinstance(decoded.frames, np.memmap)
    assert decoded.places.tolist() == [0, 1, 2, 4, 5]
    assert seen == [(done, 6) for done in range(1, 7)]


def test_files_that_are_no_pictures_are_left_out_and_named(tmp_path, pictures):
    decoded = decode_pictures(pictures, FRAME, tmp_path / "store")

    (left,) = decoded.left_out
    assert left.path.name == "2.txt"
    assert "no picture of the formats we read" in left.why


def test_grey_frames_of_a_flat_folder(tmp_path, pictures):
    assert decode_pictures(pictures, FrameSpec(1, 4, 4), tmp_path / "store").frames.shape == (5, 4, 4, 1)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, pictures, monkeypatch):
    store, seen = tmp_path / "store", []
    whole = decode_pictures(pictures, FRAME, tmp_path / "other").frames.tolist()
    monkeypatch.setattr("ecotta_rt.data.decoding._SAVED_EVERY_S", -1.0)

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_pictures(pictures, FRAME, store, stop)
    decoded = decode_pictures(pictures, FRAME, store, lambda done, total: seen.append(done))

    assert seen == [5, 6]
    assert decoded.frames.tolist() == whole
    assert [left.path.name for left in decoded.left_out] == ["2.txt"]


@pytest.mark.parametrize("change", ["frame", "file", "record", "store"])
def test_what_was_decoded_of_other_files_or_frames_is_not_gone_on_with(tmp_path, pictures, make_picture, change):
    store, seen, frame = tmp_path / "store", [], FRAME
    decode_pictures(pictures, FRAME, store)
    if change == "frame":
        frame = FrameSpec(3, 5, 4, "cover", 0.875)
    elif change == "file":
        make_picture(pictures[0], (30, 30))
    elif change == "record":
        (tmp_path / "store.json").write_text("{")
    else:
        store.write_bytes(b"short")

    decode_pictures(pictures, frame, store, lambda done, total: seen.append(done))

    assert len(seen) == 6


def test_a_folder_without_any_picture_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("no picture")

    with pytest.raises(InputFileError, match=r"none of 1 files is a picture; a\.txt: no picture of the formats"):
        decode_pictures([tmp_path / "a.txt"], FRAME, tmp_path / "store")


def test_a_disk_without_room_is_noticed_before_the_first_picture(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))

    with pytest.raises(TransferError, match=r"the frames need 0 MiB .* where 1 MiB are free; use fewer .*--frames"):
        decode_pictures(pictures, FRAME, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_file_that_no_run_left_there_is_not_overwritten(tmp_path, pictures):
    (tmp_path / "store").write_bytes(b"precious")

    with pytest.raises(UsageError, match="store exists and holds no frames of ours; --out chooses another name"):
        decode_pictures(pictures, FRAME, tmp_path / "store")
    remove_store(tmp_path / "store")
    assert (tmp_path / "store").read_bytes() == b"precious"


def test_a_pipe_in_the_place_of_the_record_keeps_nobody_waiting(tmp_path, pictures):
    os.mkfifo(tmp_path / "out.frames.json")

    with pytest.raises(UsageError, match="is a pipe"):
        decode_pictures(pictures, FrameSpec(3, 8, 8), tmp_path / "out.frames")


def test_removing_leaves_nothing(tmp_path, pictures):
    decode_pictures(pictures, FRAME, tmp_path / "store")
    assert json.loads((tmp_path / "store.json").read_text())["done"] == 6

    remove_store(tmp_path / "store")

    assert [path.name for path in tmp_path.iterdir()] == ["in"]
