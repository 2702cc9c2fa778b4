import os
import stat
import subprocess
import sys

import pytest

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.files.output import check_output, open_stream, write_output


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def reader(pipe):
    """A descriptor of its reading end; what is written to it fits into its buffer."""
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def test_a_regular_file_is_replaced_through_its_link(tmp_path):
    (tmp_path / "link").symlink_to("file")
    for content in (b"old", b"new"):
        write_output(tmp_path / "link", content)

    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_is_written_to_and_stays(pipe, reader):
    write_output(pipe, b"\x89PNG")

    assert os.read(reader, 99) == b"\x89PNG"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_lines_go_into_a_pipe(pipe, reader):
    with open_stream(pipe) as file:
        print("line", file=file, flush=True)

        assert os.read(reader, 99) == b"line\n"


def test_a_pipe_that_nobody_reads_is_refused_and_not_waited_for(pipe):
    check_output("--json", pipe)  # a reader may yet come
    with pytest.raises(TransferError, match="nobody reads this pipe"):
        write_output(pipe, b"")
    with pytest.raises(TransferError, match="nobody reads this pipe"), open_stream(pipe):
        pass


def test_the_null_device_takes_everything_and_stays(tmp_path):
    check_output("--out", "/dev/null")
    write_output("/dev/null", b"x")
    with open_stream("/dev/null") as file:
        file.write("x")

    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_full_device_is_told():
    with pytest.raises(TransferError, match="/dev/full cannot be written: No space left"):
        write_output("/dev/full", b"x")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_by_its_name_goes_on_where_the_shell_left_it(tmp_path, name):
    code = f"from ecotta_rt.files.output import check_output, write_output; check_output('--json', {name!r});"
    with open(tmp_path / "log", "wb") as log:
        log.write(b"before ")
        log.flush()
        subprocess.run([sys.executable, "-c", f"{code} write_output({name!r}, b'after')"], stdout=log, check=True)

    assert (tmp_path / "log").read_bytes() == b"before after"


def test_a_folder_and_a_missing_folder_are_usage_errors_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="--json .* this is a folder; name a file in it"):
        check_output("--json", tmp_path)
    with pytest.raises(UsageError, match="--json .* there is no folder .*; make it first"):
        check_output("--json", tmp_path / "no" / "file")


@pytest.mark.skipif(not os.path.exists("/dev/loop0"), reason="no block device to be refused")
def test_a_block_device_is_refused():
    with pytest.raises(UsageError, match="block device"):
        check_output("--out", "/dev/loop0")
    with pytest.raises(UsageError, match="block device"), open_stream("/dev/loop0"):
        pass


def test_a_stream_into_a_file_replaces_it_and_keeps_its_mode(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("a long old content")
    path.chmod(0o600)

    with open_stream(path) as file:
        print("new", file=file, flush=True)

    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_check_leaves_nothing_and_changes_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"old")

    check_output("--json", tmp_path / "file")
    check_output("--json", tmp_path / "new")

    assert sorted(os.listdir(tmp_path)) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
