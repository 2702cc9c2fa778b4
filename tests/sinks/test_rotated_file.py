"""A file of lines that is put aside by size and age: every line is found exactly once, whatever happens beside."""

import gzip
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.errors import TransferError
from ecotta_rt.sinks import rotated_file
from ecotta_rt.sinks.rotated_file import RotatedFile, Rotation

HOUR_S = 3600.0


def content(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def written(path, rotation, lines, time_s=0.0):
    file = RotatedFile(path, rotation)
    for line in lines:
        file.write(line, time_s)
    file.close()


def test_a_file_is_put_aside_before_it_becomes_too_large_and_the_oldest_are_removed(tmp_path):
    path = tmp_path / "log"
    written(path, Rotation(most_bytes=8, keep=2), [b"1234567\n", b"a\n", b"bcd\n", b"efg\n", b"h\n"])

    assert names(tmp_path) == ["log", "log.1", "log.2"]
    assert [content(tmp_path / name) for name in names(tmp_path)] == [b"efg\nh\n", b"a\nbcd\n", b"1234567\n"]


def test_one_line_that_is_too_large_gets_a_file_of_its_own(tmp_path):
    written(tmp_path / "log", Rotation(most_bytes=3), [b"12345\n", b"1\n"])

    assert content(tmp_path / "log.1") == b"12345\n"


def test_a_file_is_put_aside_when_its_span_is_over_also_after_a_restart(tmp_path):
    path = tmp_path / "log"
    rotation = Rotation(every_s=24 * HOUR_S)
    file = RotatedFile(path, rotation)
    file.write(b"evening\n", 23 * HOUR_S)
    file.write(b"midnight\n", 24 * HOUR_S)
    file.close()
    os.utime(path, (0, 30 * HOUR_S))
    written(path, rotation, [b"the same day\n"], 47 * HOUR_S)
    os.utime(path, (0, 47 * HOUR_S))
    written(path, rotation, [b"two days later\n"], 80 * HOUR_S)

    assert [content(tmp_path / name) for name in names(tmp_path)] == [
        b"two days later\n",
        b"midnight\nthe same day\n",
        b"evening\n",
    ]


def test_a_clock_that_goes_back_puts_nothing_aside(tmp_path):
    file = RotatedFile(tmp_path / "log", Rotation(every_s=HOUR_S))
    for time_s in (10 * HOUR_S, 0.0, 0.5):
        file.write(b"line\n", time_s)
    file.close()

    assert names(tmp_path) == ["log"]


def test_files_put_aside_are_compressed_and_keep_their_mode(tmp_path):
    path = tmp_path / "log"
    path.touch(mode=0o600)
    written(path, Rotation(most_bytes=4, compress=True, keep=3), [b"abc\n", b"def\n", b"ghi\n"])

    assert names(tmp_path) == ["log", "log.1.gz", "log.2.gz"]
    assert [content(tmp_path / name) for name in names(tmp_path)] == [b"ghi\n", b"def\n", b"abc\n"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}


def test_one_that_cannot_be_compressed_stays_as_it_is(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rotated_file, "_compress", fail)
    written(tmp_path / "log", Rotation(most_bytes=4, compress=True), [b"abc\n", b"def\n"])

    assert names(tmp_path) == ["log", "log.1"]


def test_a_kill_between_the_last_steps_of_compressing_gives_no_line_twice(tmp_path):
    path = tmp_path / "log"
    (tmp_path / "log.1").write_bytes(b"abc\n")
    (tmp_path / "log.1.gz").write_bytes(gzip.compress(b"abc\n"))
    path.write_bytes(b"def\n")
    written(path, Rotation(most_bytes=4), [b"ghi\n"])

    assert [content(tmp_path / name) for name in names(tmp_path)] == [b"ghi\n", b"def\n", b"abc\n"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"whole\ntor", b"whole\nnew\n"),
        (b"torn", b"new\n"),
        (b"whole\n", b"whole\nnew\n"),
        (b"x" * 70_000, b"x" * 70_000 + b"\nnew\n"),
    ],
)
def test_a_torn_last_line_is_cut_off_and_lines_are_appended(tmp_path, before, after):
    path = tmp_path / "log"
    path.write_bytes(before)
    written(path, Rotation(), [b"new\n"])

    assert path.read_bytes() == after


def test_a_truncated_file_goes_on_from_its_beginning_with_its_header(tmp_path):
    """As logrotate does with copytruncate."""
    path = tmp_path / "log"
    file = RotatedFile(path, Rotation(), b"header\n")
    file.write(b"old\n", 0)
    os.truncate(path, 0)
    file.write(b"new\n", 0)
    file.close()

    assert path.read_bytes() == b"header\nnew\n", "and no NULs"


def test_a_moved_file_is_left_alone(tmp_path):
    """As logrotate does, whether or not we hear of it."""
    path = tmp_path / "log"
    file = RotatedFile(path, Rotation())
    file.write(b"old\n", 0)
    path.rename(tmp_path / "moved")
    file.write(b"new\n", 0)
    path.rename(tmp_path / "moved again")
    file.reopen()
    file.write(b"newer\n", 0)
    file.close()

    assert [content(tmp_path / name) for name in names(tmp_path)] == [b"newer\n", b"old\n", b"new\n"]


def test_a_file_with_another_header_is_put_aside(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"time,label\n1,cat\n")
    file = RotatedFile(path, Rotation(), b"time,name,label\n")
    file.write(b"2,a,dog\n", 0)
    file.close()

    assert [content(tmp_path / name) for name in names(tmp_path)] == [
        b"time,name,label\n2,a,dog\n",
        b"time,label\n1,cat\n",
    ]


def test_what_is_no_regular_file_is_refused_and_nobody_waits(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(TransferError, match="pipe cannot be appended to: this is a pipe"):
        RotatedFile(tmp_path / "pipe", Rotation())
    with pytest.raises(TransferError, match="log cannot be written: No such file"):
        RotatedFile(tmp_path / "no" / "log", Rotation())


class Disk:
    """A double of os.write for a disk that is full when it is told to be: it takes a part of the line."""

    def __init__(self):
        self.room = None
        self._write = os.write

    def __call__(self, descriptor, data):
        if self.room is None:
            return self._write(descriptor, data)
        if self.room == 0:
            raise OSError(28, "No space left on device")
        room, self.room = self.room, 0
        return self._write(descriptor, data[:room])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40)),
        st.tuples(st.just("hour"), st.integers(1, 3)),
        st.tuples(
            st.sampled_from(["moved", "moved and told", "copied and truncated", "killed", "restart"]), st.just(0)
        ),
        st.tuples(st.just("full"), st.integers(0, 5)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, most_bytes=st.integers(10, 200), compress=st.booleans(), header=st.sampled_from([b"", b"head\n"]))
def test_every_line_is_found_once_or_was_told_as_not_written(steps, most_bytes, compress, header):
    rotation = Rotation(most_bytes, 2 * HOUR_S, 1000, compress)
    disk, time_s, expected = Disk(), 0.0, []
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        folder = Path(name)
        path = folder / "log"
        file = RotatedFile(path, rotation, header)
        patched.setattr(rotated_file.os, "write", disk)
        for at, (step, value) in enumerate(steps):
            if step == "write":
                line = b"%d:%s\n" % (at, b"x" * value)
                file.write(line, time_s)
                expected.append(line)
            elif step == "hour":
                time_s += value * HOUR_S
            elif step.startswith("moved"):
                if path.exists():
                    path.rename(folder / f"moved {at}")
                if step == "moved and told":
                    file.reopen()
            elif step == "copied and truncated":
                if path.exists():
                    (folder / f"copied {at}").write_bytes(path.read_bytes())
                    os.truncate(path, 0)
            elif step == "full":
                disk.room = value
                with pytest.raises(TransferError, match="No space left"):
                    file.write(b"%d lost\n" % at, time_s)
                disk.room = None
                file.close()
                file = RotatedFile(path, rotation, header)
            else:
                file.close()
                if step == "killed":
                    with open(path, "ab") as torn:
                        torn.write(b'{"torn')
                file = RotatedFile(path, rotation, header)
        file.close()

        contents = [content(each) for each in folder.iterdir()]
        for each in contents:
            assert not each or each.startswith(header)
        found = [line for each in contents for line in each.removeprefix(header).splitlines(keepends=True)]
        assert sorted(found) == sorted(expected)
        assert not list(folder.glob(".*")), "nothing temporary stays"
