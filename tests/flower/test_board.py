"""Which states a node gives, and what it takes. Needs no flwr."""

import os
from dataclasses import replace

import numpy as np
import pytest

from ecotta_rt.daemon.saving.snapshot_files import camera_folder
from ecotta_rt.daemon.saving.snapshots import Snapshots, folder_locked
from ecotta_rt.errors import ConfigurationError, InputFileError
from ecotta_rt.flower.board import board_of
from ecotta_rt.state import AdaptState, FramesBehind

NETWORK = "ab" * 32


def state(value=1.0, network=NETWORK):
    arrays = {"groups.0.weight": np.full(4, value, np.float32)}
    statistics = {"norm.mean": np.full(2, value, np.float32), "norm.variance": np.ones(2, np.float32)}
    adaptation = {"places.means": np.ones((2, 2), np.float32)}
    return AdaptState(arrays, arrays, statistics, network, FramesBehind(100, 10).metadata(), adaptation)


@pytest.fixture
def folder(tmp_path):
    """The state folder of a daemon: of door two generations, of yard one that begins anew, of gate a damaged one."""
    snapshots = {name: Snapshots(camera_folder(tmp_path / "state", name), NETWORK) for name in ("door", "gate", "yard")}
    for value in (1.0, 2.0):
        snapshots["door"].write(state(value), "every 300 s")
    snapshots["yard"].write_source("reset")
    damaged = snapshots["gate"].write(state(), "every 300 s").path
    damaged.write_bytes(damaged.read_bytes()[:-1])
    return tmp_path / "state"


def test_a_board_gives_the_newest_valid_state_of_each_camera_while_its_daemon_runs(folder):
    before = sorted(os.walk(folder))
    with folder_locked(folder):
        states, missing = board_of({"state": str(folder), "name": "garage"}).given()

    assert [*states] == ["garage/door"]
    assert states["garage/door"].parameters["groups.0.weight"][0] == 2.0
    assert states["garage/door"].adaptation == {}
    assert [*missing] == ["garage/gate", "garage/yard"]
    assert "no valid state" in missing["garage/gate"]
    assert "begin at the source" in missing["garage/yard"]
    assert [files for files in sorted(os.walk(folder)) if "lock" not in str(files)][1:] == before[1:]


def test_one_camera_can_be_named_or_a_state_of_ecotta_run(folder, tmp_path):
    state(3.0).save(tmp_path / "net.state.safetensors")

    assert [*board_of({"state": str(folder), "camera": "door"}).given()[0]] == ["door"]
    assert board_of({"state": str(folder), "camera": "shed"}).given() == ({}, {"shed": f"{folder}: no states yet"})
    assert [*board_of({"state": str(tmp_path / "net.state.safetensors")}).given()[0]] == ["net"]
    assert [*board_of({"state": str(tmp_path / "net.state.safetensors"), "name": "b 1"}).given()[0]] == ["b 1"]
    assert "cannot be read" in board_of({"state": str(tmp_path / "nowhere")}).given()[1]["nowhere"]


def test_a_gateway_gives_what_lies_in_its_folder(tmp_path):
    for name in ("b", "a"):
        state().save(tmp_path / f"{name}.state.safetensors")
    (tmp_path / "half.state.safetensors").write_bytes(b"\0" * 100)
    AdaptState({}, {}, {}, NETWORK).save(tmp_path / "source.state.safetensors")

    states, missing = board_of({"drop": str(tmp_path)}).given()

    assert [*states] == ["a", "b"]
    assert [*missing] == ["half", "source"]


def test_a_merged_state_is_written_beside_for_its_owner_to_adopt(folder, tmp_path):
    before = sorted(path for path in folder.rglob("*"))
    board = board_of({"state": str(folder), "merged": str(tmp_path / "merged"), "name": "garage"})
    content = replace(state(9.0), adaptation={}).to_bytes()

    path = board.take("garage/door", state(), content)

    assert path == tmp_path / "merged" / "garage%2Fdoor.merged.state.safetensors"
    assert path.read_bytes() == content
    assert sorted(path for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("door", b"no state", "not a safetensors file"),
        ("door", state(network="cd" * 32).to_bytes(), "another network"),
        ("door", replace(state(), statistics={}).to_bytes(), "another network"),
        ("../door", state().to_bytes(), "no merged state was asked for"),
        ("yard", state().to_bytes(), "no merged state was asked for"),
    ],
)
def test_what_no_daemon_could_go_on_from_is_not_written(folder, tmp_path, name, content, said):
    board = board_of({"state": str(folder), "merged": str(tmp_path / "merged")})

    with pytest.raises(InputFileError, match=said):
        board.take(name, board.given()[0].get(name), content)

    assert not (tmp_path / "merged").exists()


def test_a_board_that_has_not_asked_takes_nothing(folder):
    with pytest.raises(InputFileError, match="no merged state was asked for"):
        board_of({"state": str(folder)}).take("door", state(), state().to_bytes())


@pytest.mark.parametrize(
    "config",
    [{}, {"state": "a", "drop": "b"}, {"state": 1}, {"state": ""}, {"state": "a", "merged": True}, {"drop": "a\0"}],
)
def test_a_configuration_that_cannot_be_meant_says_how_to_write_it(config):
    with pytest.raises(ConfigurationError, match="node configuration"):
        board_of(config)


def test_keys_of_others_are_left_alone():
    assert board_of({"state": "a", "partition-id": 3}).merged is None
