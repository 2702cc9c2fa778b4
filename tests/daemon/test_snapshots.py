import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ecotta_rt.daemon.saving.snapshot_files import BEFORE_RESET, GOOD, camera_folder, camera_of, read_snapshot
from ecotta_rt.daemon.saving.snapshots import Snapshots, folder_locked
from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.state import AdaptState, FramesBehind

OURS, OTHERS = "ab" * 32, "cd" * 32
NOON_S = 1_795_000_000.0


def state_of(value, network=OURS, **metadata):
    array = np.full(8, value, np.float32)
    return AdaptState({"w": array}, {"w": 0 * array}, {}, network, metadata)


def value_of(state):
    return float(state.parameters["w"][0])


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(tmp_path / "door", OURS, 3, wall_s=lambda: NOON_S)


def test_there_is_nothing_to_go_on_from_at_first(snapshots):
    found = snapshots.newest()

    assert (found.snapshot, found.state, found.refused, found.lines()) == (None, None, (), [])


def test_the_newest_one_counts_and_comes_back_as_it_was(snapshots):
    for value in (1, 2):
        written = snapshots.write(state_of(value, lens="new"), "every 300 s")

    found = snapshots.newest()

    assert found.snapshot == written
    assert value_of(found.state) == 2
    assert found.state.metadata == {"lens": "new"}
    assert found.lines() == [f"going on from {written.path} (generation 2)"]
    assert read_snapshot(written)[1] == "every 300 s"


def test_a_name_tells_generation_time_network_and_digest(snapshots):
    written = snapshots.write(state_of(1), "at stop")

    assert re.fullmatch(r"00000001-20261118T\d{6}Z-abababababab-[0-9a-f]{16}\.safetensors", written.name)
    assert AdaptState.load(written.path).network_digest == OURS  # a plain state for everybody else


def test_generations_count_where_the_clock_has_gone_back(tmp_path):
    times = iter([NOON_S, 60.0])
    snapshots = Snapshots(tmp_path, OURS, wall_s=lambda: next(times))
    for value in (1, 2):
        snapshots.write(state_of(value), "stop")

    assert value_of(snapshots.newest().state) == 2


def test_only_so_many_generations_are_kept_and_pinned_ones_beside_them(snapshots):
    first = snapshots.pin(snapshots.write(state_of(1), "good"), GOOD)
    for value in range(2, 7):
        snapshots.write(state_of(value), "stop")
    assert [snapshot.generation for snapshot in snapshots.listed()] == [1, 4, 5, 6]
    assert value_of(snapshots.read(first)) == 1

    unpinned = snapshots.pin(first, "")
    snapshots.write(state_of(7), "stop")

    assert not unpinned.path.exists()
    assert [snapshot.generation for snapshot in snapshots.listed()] == [5, 6, 7]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "damaged"),
        (lambda content: content[:40], "damaged"),
        (lambda content: b"", "damaged"),
        (lambda content: bytes(len(content)), "damaged"),
    ],
    ids=["a-bit", "truncated", "empty", "zeros"],
)
def test_an_older_one_is_taken_for_a_damaged_one_and_it_is_said(snapshots, damage, why):
    good = snapshots.write(state_of(1), "stop")
    bad = snapshots.write(state_of(2), "stop")
    bad.path.write_bytes(damage(bad.path.read_bytes()))

    found = snapshots.newest()

    assert value_of(found.state) == 1
    warning, said = found.lines()
    assert f"{bad.path}: {why}" in warning
    assert said == f"going on from {good.path}, an older one (generation 1)"


def test_source_is_said_loudly_where_nothing_else_is_left(snapshots):
    bad = snapshots.write(state_of(1), "stop")
    bad.path.write_bytes(b"")

    found = snapshots.newest()

    assert (found.snapshot, found.state) == (None, None)
    assert found.lines()[-1] == "going on from the source: no other snapshot is left"


def test_one_that_the_engine_refuses_is_passed_over(snapshots):
    for value in (1, 2):
        snapshots.write(state_of(value), "stop")

    def take_up(state):
        if value_of(state) == 2:
            raise InputFileError("saved with other options")

    found = snapshots.newest(take_up)

    assert value_of(found.state) == 1
    assert [refused.why for refused in found.refused] == ["saved with other options"]


def test_damaged_ones_do_not_push_out_good_ones(snapshots):
    for value in (1, 2, 3):
        snapshots.write(state_of(value), "stop")
    for snapshot in snapshots.listed()[1:]:
        snapshot.path.write_bytes(b"")
    snapshots.newest()

    snapshots.write(state_of(4), "stop")
    assert [snapshot.generation for snapshot in snapshots.listed()] == [1, 2, 3, 4]
    for value in (5, 6):
        snapshots.write(state_of(value), "stop")

    assert [snapshot.generation for snapshot in snapshots.listed()] == [4, 5, 6]


def test_the_state_of_another_network_is_refused_and_left_alone(snapshots):
    others = Snapshots(snapshots.folder, OTHERS)
    theirs = others.write(state_of(9, OTHERS), "stop")

    assert "belongs to network cdcdcdcdcdcd, and this one is abababababab" in snapshots.newest().refused[0].why
    with pytest.raises(UsageError, match="cdcdcdcdcdcd"):
        snapshots.write(state_of(9, OTHERS), "stop")
    for value in range(5):
        snapshots.write(state_of(value), "stop")

    assert value_of(others.read(theirs)) == 9
    assert value_of(snapshots.newest().state) == 4


def test_files_that_are_no_snapshots_stay_and_count_for_nothing(snapshots):
    written = snapshots.write(state_of(1), "stop")
    shutil.copy(written.path, copy := snapshots.folder / f"{written.name} (copy)")
    (folder := snapshots.folder / "00000009-20261118T000000Z-abababababab-0123456789abcdef.safetensors").mkdir()

    found = snapshots.newest()

    assert found.snapshot == written
    assert "it is a folder" in found.refused[0].why
    for value in range(5):
        snapshots.write(state_of(value), "stop")
    assert copy.exists()
    assert folder.exists()


def learned(frames):
    return state_of(frames, **FramesBehind(frames, 0).metadata())


def pins_of(snapshots):
    return {snapshot.generation: snapshot.pin for snapshot in snapshots.listed() if snapshot.pin}


def test_however_often_somebody_resets_what_took_long_to_learn_is_kept(snapshots):
    snapshots.write(learned(1000), "stop")
    for frames in (1, 2, 3, 1, 2):
        snapshots.keep_before_reset()
        snapshots.write(learned(0), "gone back to source")
        snapshots.write(learned(frames), "before a reset")

    assert pins_of(snapshots) == {1: BEFORE_RESET}
    assert [snapshot.generation for snapshot in snapshots.listed()] == [1, 9, 10, 11]
    snapshots.write(learned(1001), "stop")
    snapshots.keep_before_reset()
    snapshots.write(learned(0), "gone back to source")
    assert pins_of(snapshots) == {12: BEFORE_RESET}
    assert [snapshot.generation for snapshot in snapshots.listed()] == [10, 11, 12, 13]


def test_a_reset_in_doubt_keeps_what_was_good_and_not_what_is_doubted(snapshots):
    snapshots.pin(snapshots.write(learned(10), "stop"), GOOD)
    snapshots.write(learned(20), "stop")

    snapshots.keep_before_reset()

    assert pins_of(snapshots) == {1: BEFORE_RESET}
    assert value_of(snapshots.pinned(BEFORE_RESET).state) == 10


def test_a_reset_of_the_source_or_of_nothing_keeps_nothing(snapshots):
    snapshots.keep_before_reset()
    snapshots.write_source("reset")

    snapshots.keep_before_reset()

    assert pins_of(snapshots) == {}


def test_states_of_other_networks_are_neither_pinned_nor_let_go(snapshots, tmp_path):
    others = Snapshots(tmp_path / "door", "cd" * 32, 3)
    others.write(replace(learned(5), network_digest="cd" * 32), "stop")
    others.keep_before_reset()
    snapshots.write(learned(1), "stop")
    snapshots.keep_before_reset()
    snapshots.write(learned(2), "stop")
    snapshots.keep_before_reset()

    assert pins_of(snapshots) == {1: BEFORE_RESET, 3: BEFORE_RESET}


def test_an_owner_can_begin_anew_and_come_back(snapshots):
    before = snapshots.write(state_of(1), "stop")
    reset = snapshots.write_source("reset")

    found = snapshots.newest()
    assert (found.snapshot, found.state) == (reset, None)
    assert found.lines() == ["going on from the source, as an owner asked (generation 2)"]
    snapshots.write(snapshots.read(before), "rollback")

    assert value_of(snapshots.newest().state) == 1


def test_what_has_diverged_is_not_written(snapshots):
    snapshots.write(state_of(1), "stop")

    with pytest.raises(UsageError, match="NaN"):
        snapshots.write(state_of(np.nan), "stop")

    assert value_of(snapshots.newest().state) == 1


def test_what_a_killed_run_has_left_half_written_is_removed(snapshots):
    snapshots.write(state_of(1), "stop")
    (snapshots.folder / ".snapshot.0123abcd.tmp").write_bytes(b"half")

    snapshots.newest()

    assert len(os.listdir(snapshots.folder)) == 1


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(TransferError, match="cannot be written"):
        Snapshots(tmp_path / "file" / "door", OURS).write(state_of(1), "stop")


def test_a_longer_file_than_any_state_of_the_network_is_not_read(tmp_path):
    written = Snapshots(tmp_path, OURS).write(state_of(1), "stop")

    found = Snapshots(tmp_path, OURS, most_bytes=written.path.stat().st_size - 1).newest()

    assert "more than the" in found.refused[0].why


def test_a_second_daemon_is_kept_out_and_told_what_to_do(tmp_path):
    with (
        folder_locked(tmp_path),
        pytest.raises(UsageError, match=rf"^{tmp_path} is in use by a daemon \(process \d+\); stop it"),
    ):
        folder_locked(tmp_path).__enter__()


@pytest.mark.parametrize(
    ("camera", "folder"),
    [("door", "door"), ("Tür 1", "Tür%201"), ("../x", "%2E.%2Fx"), (".", "%2E"), ("", "%"), ("a\n", "a%0A")],
)
def test_each_camera_has_a_folder_inside_the_state_folder(tmp_path, camera, folder):
    assert camera_folder(tmp_path, camera) == tmp_path / folder
    assert camera_of(tmp_path / folder) == camera


def test_a_very_long_camera_name_still_has_a_folder(tmp_path):
    camera_folder(tmp_path, "k" * 1000).mkdir()


def test_no_generations_are_refused(tmp_path):
    with pytest.raises(UsageError, match="keep 1 or more"):
        Snapshots(tmp_path, OURS, 0)
