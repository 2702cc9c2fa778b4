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
