"""Whatever a power cut, a failing card or a full disk leaves: the newest valid state counts, and nothing piles up."""

import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.daemon.saving.snapshot_files import BEFORE_RESET, GOOD
from ecotta_rt.daemon.saving.snapshots import Snapshots
from ecotta_rt.errors import TransferError
from ecotta_rt.files.digest import sha256
from ecotta_rt.state import AdaptState

OURS, OTHERS = "ab" * 32, "cd" * 32
GENERATIONS = 3
PINS = (GOOD, BEFORE_RESET)


def content_of(value, network=OURS):
    return AdaptState({"w": np.full(9, value, np.float32)}, {"w": np.zeros(9, np.float32)}, {}, network).to_bytes()


@dataclass(frozen=True)
class Left:
    """A file that was left in a folder, of the n-th value; `kind` says what has become of it."""

    value: int
    generation: int
    year: int
    kind: str
    place: int  # where it is damaged

    @property
    def name(self):
        network = OTHERS if self.kind == "foreign" else OURS
        digest = sha256(content_of(self.value, network)).hexdigest()[:16]
        kept = f".{self.kind}" if self.kind in PINS else ""
        return f"{self.generation:08d}-{self.year}0101T000000Z-{network[:12]}-{digest}{kept}.safetensors"

    @property
    def valid(self):
        return self.kind in ("whole", *PINS)

    def put(self, folder):
        path, content = (
            folder / self.name,
            bytearray(content_of(self.value, OTHERS if self.kind == "foreign" else OURS)),
        )
        place = self.place % len(content)
        if self.kind == "folder":
            path.mkdir()
            return
        if self.kind == "flipped":
            content[place] ^= 1 << self.place % 8
        elif self.kind == "truncated":
            del content[place:]
        elif self.kind == "longer":
            content += b"\0"
        elif self.kind == "zeros":
            content[:] = bytes(len(content))
        path.write_bytes(content)


KINDS = ("whole", "whole", "whole", *PINS, "flipped", "truncated", "longer", "zeros", "folder", "foreign")


def left_behind(max_size=8):
    files = st.tuples(
        st.integers(1, 12), st.sampled_from((1970, 2026, 9999)), st.sampled_from(KINDS), st.integers(0, 10_000)
    )
    return st.lists(files, max_size=max_size).map(
        lambda found: [Left(value, *parts) for value, parts in enumerate(found)]
    )


@given(left_behind())
@settings(max_examples=60)
def test_the_newest_valid_one_counts_whatever_else_there_is(files):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in files:
            file.put(folder)
        in_order = sorted(files, key=lambda file: (file.generation, file.year, file.name))
        valid = [file for file in in_order if file.valid]

        found = Snapshots(folder, OURS, 100).newest()

        newer = in_order[in_order.index(valid[-1]) + 1 :] if valid else in_order
        assert [refused.snapshot.name for refused in found.refused] == [file.name for file in reversed(newer)]
        if valid:
            assert found.snapshot.name == valid[-1].name
            assert found.state.parameters["w"][0] == valid[-1].value
        else:
            assert (found.snapshot, found.state) == (None, None)


@given(left_behind(), st.integers(1, 4))
@settings(max_examples=25)
def test_after_a_start_and_a_save_the_newest_are_kept_and_nothing_of_others_is_gone(files, saves):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in files:
            file.put(folder)
        foreign = {file.name for file in files if file.kind in ("foreign", "folder", *PINS)}
        (folder / "notes.txt").touch()
        snapshots = Snapshots(folder, OURS, GENERATIONS)
        found = snapshots.newest()

        for value in range(100, 100 + saves):
            snapshots.write(AdaptState({"w": np.full(9, value, np.float32)}, {}, {}, OURS), "stop")
            assert snapshots.newest().state.parameters["w"][0] == value

        there = {path.name for path in folder.iterdir()}
        assert foreign | {"notes.txt"} <= there
        assert found.snapshot is None or saves >= GENERATIONS or found.snapshot.name in there
        if saves >= GENERATIONS:
            ours = [one for one in snapshots.listed() if one.name not in foreign]
            assert len(ours) == GENERATIONS


def killed(tmp_path, kills):
    script = Path(__file__).with_name("kill_writers.py")
    command = [sys.executable, str(script), str(tmp_path / "door"), str(kills), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_writer_that_is_killed_at_any_moment_leaves_a_valid_state_and_no_rubbish(tmp_path):
    found = killed(tmp_path, 12)

    assert found["wrong"] == []


@pytest.mark.slow
def test_a_writer_that_is_killed_at_500_moments_leaves_a_valid_state_each_time(tmp_path):
    found = killed(tmp_path, 500)

    assert found["wrong"] == []
    assert found["kills"] == 500
    assert found["most_lost"] <= 20
    assert found["half_written"] > 0  # or no kill has met a save


def test_a_disk_that_is_full_half_way_through_a_file_leaves_the_last_good_one_and_no_rubbish(tmp_path):
    snapshots = Snapshots(tmp_path / "door", OURS, GENERATIONS)
    snapshots.write(AdaptState({"w": np.ones(9, np.float32)}, {}, {}, OURS), "stop")
    large = AdaptState({"w": np.ones(1 << 20, np.float32)}, {}, {}, OURS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        with pytest.raises(TransferError, match="cannot be written"):
            snapshots.write(large, "stop")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert [path.name for path in (tmp_path / "door").iterdir()] == [snapshots.newest().snapshot.name]
    assert snapshots.write(large, "stop").generation == 2


_HANGS = """
import sys, threading, time
import numpy as np
from ecotta_rt.daemon.saving.keeper import Keeper
from ecotta_rt.daemon.saving.snapshots import Snapshots
from ecotta_rt.daemon.saving.writer import Writer
from ecotta_rt.state import AdaptState

class Card(Snapshots):
    def write(self, state, why):
        threading.Event().wait()

writer, state = Writer(), AdaptState({}, {}, {}, "ab" * 32)
keeper = Keeper("door", Card(sys.argv[1], "ab" * 32), lambda: state, writer, print)
keeper.keep("now", changed=True)
keeper.keep("at stop", changed=True)
writer.close(within_s=0.1)
"""


def test_a_process_ends_where_its_disk_hangs_for_ever(tmp_path):
    done = subprocess.run([sys.executable, "-c", _HANGS, str(tmp_path)], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the disk was not done within 0.1 seconds") == 2
