import os
import stat

import pytest

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.files.atomic import check_target, open_atomic, write_atomic


def test_the_new_content_replaces_the_old_and_nothing_else_is_left(tmp_path):
    target = tmp_path / "new folder" / "file"
    write_atomic(target, b"old")
    write_atomic(target, b"new")

    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_a_failure_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_atomic(target, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransferError, match="No space left"):
        write_atomic(target, b"new")

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_in_the_way_is_told_and_left_alone(tmp_path):
    target = tmp_path / "file"
    target.mkdir()

    with pytest.raises(UsageError, match="file is a folder: name a file in it"):
        write_atomic(target, b"new")

    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("check", [check_target, lambda path: write_atomic(path, b"new")])
def test_a_pipe_and_a_device_are_refused_and_stay_what_they_are(tmp_path, check):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match="pipe is a pipe: give the name of a regular file"):
        check(tmp_path / "pipe")
    with pytest.raises(UsageError, match="/dev/null is a character device"):
        check("/dev/null")

    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_stays_and_the_file_it_leads_to_is_replaced(tmp_path):
    data = tmp_path / "data partition"
    data.mkdir()
    (data / "state").write_bytes(b"old")
    (tmp_path / "link").symlink_to("data partition/state")
    (tmp_path / "link to it").symlink_to("link")

    write_atomic(tmp_path / "link to it", b"new")

    assert (data / "state").read_bytes() == b"new"
    assert (tmp_path / "link to it").is_symlink()
    assert [path.name for path in data.iterdir()] == ["state"]


def test_a_link_to_a_file_that_is_not_there_yet_makes_it_but_not_its_folder(tmp_path):
    (tmp_path / "new").symlink_to("target")
    (tmp_path / "unmounted").symlink_to("disk/target")

    write_atomic(tmp_path / "new", b"content")
    with pytest.raises(TransferError, match=r"unmounted cannot be written: it leads to .*disk/target, and there is no"):
        write_atomic(tmp_path / "unmounted", b"content")

    assert (tmp_path / "target").read_bytes() == b"content"
    assert not (tmp_path / "disk").exists()


def test_links_in_a_circle_are_told(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(TransferError, match="a cannot be written: Too many levels of symbolic links"):
        write_atomic(tmp_path / "a", b"")


def test_the_mode_of_the_file_is_kept_and_nobody_else_reads_it_meanwhile(tmp_path):
    target = tmp_path / "state"
    write_atomic(target, b"old")
    target.chmod(0o600)

    with open_atomic(target) as file:
        assert stat.S_IMODE(os.stat(file.fileno()).st_mode) == 0o600
        file.write(b"new")

    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_of_the_file_is_kept(tmp_path):
    target = tmp_path / "state"
    write_atomic(target, b"old")
    os.chown(target, 1234, 4321)

    write_atomic(target, b"new")

    assert (target.stat().st_uid, target.stat().st_gid) == (1234, 4321)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_write_protected_file_is_not_replaced(tmp_path):
    target = tmp_path / "state"
    write_atomic(target, b"old")
    target.chmod(0o444)

    with pytest.raises(TransferError, match="it is write-protected"):
        write_atomic(target, b"new")


def test_a_check_makes_the_folder_and_leaves_no_file(tmp_path):
    check_target(tmp_path / "new" / "state")

    assert list((tmp_path / "new").iterdir()) == []


def test_a_check_tells_what_a_write_would(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(TransferError, match="state cannot be written: "):
        check_target(tmp_path / "file" / "state")


def test_pieces_become_one_file_when_the_block_ends(tmp_path):
    target = tmp_path / "new folder" / "file"

    with open_atomic(target) as file:
        file.write(b"one, ")
        assert not target.exists()
        file.write(b"two")

    assert target.read_bytes() == b"one, two"
    assert list(target.parent.iterdir()) == [target]


def test_a_block_that_fails_leaves_the_old_file_and_its_own_error(tmp_path):
    target = tmp_path / "file"
    write_atomic(target, b"old")

    def half(file):
        file.write(b"half")
        raise KeyError

    with pytest.raises(KeyError), open_atomic(target) as file:
        half(file)

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
