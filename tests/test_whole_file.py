import os
import stat

import pytest

from ecotta_rt.errors import TransferError
from ecotta_rt.whole_file import open_whole, write_whole


def test_the_new_content_replaces_the_old_and_nothing_else_is_left(tmp_path):
    target = tmp_path / "new folder" / "file"
    write_whole(target, b"old")
    write_whole(target, b"new")

    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_a_failure_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_whole(target, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransferError, match="No space left"):
        write_whole(target, b"new")

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_in_the_way_is_told_and_left_alone(tmp_path):
    target = tmp_path / "file"
    target.mkdir()

    with pytest.raises(TransferError, match="file cannot be written"):
        write_whole(target, b"new")

    assert list(tmp_path.iterdir()) == [target]


def test_pieces_become_one_file_when_the_block_ends(tmp_path):
    target = tmp_path / "new folder" / "file"

    with open_whole(target) as file:
        file.write(b"one, ")
        assert not target.exists()
        file.write(b"two")

    assert target.read_bytes() == b"one, two"
    assert list(target.parent.iterdir()) == [target]


def test_a_block_that_fails_leaves_the_old_file_and_its_own_error(tmp_path):
    target = tmp_path / "file"
    write_whole(target, b"old")

    def half(file):
        file.write(b"half")
        raise KeyError

    with pytest.raises(KeyError), open_whole(target) as file:
        half(file)

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
