import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest

from ecotta_rt.daemon.configuration.tables import StateOptions
from ecotta_rt.daemon.saving.states import OwnFolder, States
from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.state import AdaptState

STATE = AdaptState({"w": np.ones(1 << 18, np.float32)}, {}, {}, "ab" * 32)


def feed():
    return SimpleNamespace(name="door", state=lambda: STATE, restore=lambda state: None)


def taken_up(tmp_path, said, **options):
    states = States(
        OwnFolder(tmp_path, said.append), StateOptions(**options), None, ManualClock(), lambda: 0.0, said.append
    )
    states.take_up(feed())
    return states


def test_a_state_too_large_for_its_day_is_saved_less_often_and_it_is_said(tmp_path):
    said = []

    taken_up(tmp_path, said, every_s=60, day_limit="100MiB").close(1)

    assert said == [
        "door: a state has 1.0 MiB and is saved every 864 s, not every 60, since [state] day_limit is 100MiB"
    ]


def test_nothing_is_said_where_the_day_is_long_enough(tmp_path):
    said = []

    taken_up(tmp_path, said).close(1)

    assert said == []


def test_a_folder_whose_disk_comes_later_is_locked_before_anything_is_written(tmp_path):
    said, disk = [], tmp_path / "disk"
    disk.write_text("not there yet")
    with OwnFolder(disk / "state", said.append) as folder:
        assert said == [f"warning: what is learned is not saved for now: {disk}/state cannot be made: Not a directory"]
        with pytest.raises(TransferError, match="cannot be made"):
            folder.require()

        disk.unlink()
        folder.require()
        folder.require()

        with pytest.raises(UsageError, match="in use by a daemon"), OwnFolder(disk / "state", said.append, 0):
            pass
    with OwnFolder(disk / "state", said.append):
        assert len(said) == 1


def test_a_folder_on_a_disk_that_is_full_at_the_start_is_had_when_there_is_room(tmp_path, monkeypatch):
    said = []

    def full(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("ecotta_rt.files.lock.os.write", full)
        folder = OwnFolder(tmp_path / "state", said.append)
        folder.__enter__()
        with pytest.raises(TransferError, match="No space left"):
            folder.require()
    assert "not saved for now" in said[0] and "No space left" in said[0] and said[0].endswith(folder.trouble)

    folder.require()
    assert folder.trouble == ""

    told = rf"{tmp_path}/state is in use by a daemon \(process {os.getpid()}\)"
    with pytest.raises(UsageError, match=told), OwnFolder(tmp_path / "state", said.append, 0):
        pass
    folder.__exit__()
