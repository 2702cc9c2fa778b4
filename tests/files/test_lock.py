import errno
import os
import signal
import subprocess
import sys

import pytest

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.files.lock import locked

HOLD = """\
import os, signal, sys
from ecotta_rt.files.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_refused_with_the_process_that_has_it_and_not_when_that_is_over(tmp_path):
    with locked(tmp_path / "state"):
        told = rf"state is in use by another run \(process {os.getpid()}\)"
        with pytest.raises(UsageError, match=told), locked(tmp_path / "state"):
            pass
        with locked(tmp_path / "other"):
            pass

    with locked(tmp_path / "state"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_names_of_one_file_are_one(tmp_path):
    (tmp_path / "link").symlink_to("state")

    with locked(tmp_path / "link"), pytest.raises(UsageError, match="in use"), locked(tmp_path / "state"):
        pass


def test_a_process_that_is_killed_leaves_nothing_locked(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "state")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=rf"\(process {process.pid}\)"), locked(tmp_path / "state"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()

    with locked(tmp_path / "state"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_made_is_told(tmp_path):
    told = r"\.state\.lock cannot be written: No such file"
    with pytest.raises(TransferError, match=told), locked(tmp_path / "no folder" / "state"):
        pass


def test_on_a_full_disk_nothing_stays_locked_and_the_next_try_succeeds(tmp_path, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patched:
        patched.setattr("ecotta_rt.files.lock.os.write", full)
        for _ in range(3):
            with pytest.raises(TransferError, match="cannot be written: No space left"), locked(tmp_path / "state"):
                pass
    assert os.listdir("/proc/self/fd") == before
    assert list(tmp_path.iterdir()) == []

    with locked(tmp_path / "state"):
        pass


def test_the_message_says_what_has_it_and_names_what_a_reader_knows(tmp_path):
    with locked(tmp_path / "state"):
        told = rf"^{tmp_path} is in use by a daemon \(process {os.getpid()}\)"
        with (
            pytest.raises(UsageError, match=told),
            locked(tmp_path / "state", by="a daemon", told=tmp_path),
        ):
            pass
