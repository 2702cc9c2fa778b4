import os

import pytest

from ecotta_rt.files.kinds import kind_of, open_regular


def test_a_regular_file_is_opened_links_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")

    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"


def test_a_pipe_is_refused_at_once_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="it is a pipe, not a regular file"):
        open_regular(tmp_path / "pipe")


@pytest.mark.parametrize(("path", "kind"), [("/dev/null", "a character device"), ("/tmp", "a folder")])
def test_other_kinds_are_named(path, kind):
    assert kind_of(os.stat(path).st_mode) == kind
    with pytest.raises(OSError, match=kind):
        open_regular(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")
