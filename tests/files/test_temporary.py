import os
import subprocess
import sys

from ecotta_rt.files.temporary import temporary_file, temporary_folder

KILLED = """\
import os, signal, sys
from pathlib import Path
from ecotta_rt.files.atomic import open_atomic
from ecotta_rt.files.temporary import temporary_folder
with open_atomic(sys.argv[1]) as file, temporary_folder(Path(sys.argv[1]).parent, "work-") as folder:
    file.write(b"half")
    (folder / "piece").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(os.listdir(folder))


def test_a_file_is_hidden_beside_its_target_and_gone_at_the_end(tmp_path):
    with temporary_file(tmp_path / "net.ecotta", 0o600) as (path, descriptor):
        os.write(descriptor, b"x")
        assert path.parent == tmp_path
        assert path.name.startswith(".net.ecotta.")

    assert names(tmp_path) == []


def test_a_folder_is_gone_at_the_end_with_all_that_is_in_it(tmp_path):
    with temporary_folder(tmp_path, "work-") as folder:
        (folder / "piece").write_bytes(b"x")

    assert names(tmp_path) == []


def test_what_killed_processes_left_is_removed_by_the_next_and_nothing_else_is(tmp_path):
    (tmp_path / ".net.notes.tmp").write_bytes(b"somebody else's")
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "net")])
        assert done.returncode == -9
    assert len(names(tmp_path)) == 3  # the notes, one file, one folder: each run removed those of the one before

    with temporary_file(tmp_path / "net", 0o600), temporary_folder(tmp_path, "work-"):
        pass

    assert names(tmp_path) == [".net.notes.tmp"]


def test_what_a_living_process_holds_stays(tmp_path):
    with (
        temporary_file(tmp_path / "net", 0o600) as (first, _),
        temporary_file(tmp_path / "net", 0o600) as (second, _),
        temporary_folder(tmp_path, "work-") as folder,
        temporary_folder(tmp_path, "work-") as other,
    ):
        assert all(path.exists() for path in (first, second, folder, other))


def test_a_file_of_an_older_version_named_after_its_process_is_removed_too(tmp_path):
    (tmp_path / ".net.12345.tmp").write_bytes(b"half")

    with temporary_file(tmp_path / "net", 0o600):
        assert ".net.12345.tmp" not in names(tmp_path)


def test_a_folder_that_another_process_removes_before_it_is_held_is_made_again(tmp_path, monkeypatch):
    opened, make = [], os.open

    def open_after_a_cleaner(path, flags, **rest):
        opened.append(path)
        if len(opened) == 1:
            os.rmdir(path)
        return make(path, flags, **rest)

    monkeypatch.setattr("ecotta_rt.files.temporary.os.open", open_after_a_cleaner)

    with temporary_folder(tmp_path, "work-") as folder:
        assert opened == [opened[0], folder] and opened[0] != folder
        assert folder.is_dir()
        held = folder
    assert not held.exists()
