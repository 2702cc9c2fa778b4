"""`ecotta merge` as an owner of a fleet uses it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.cli import merge as command
from ecotta_rt.cli.main import main
from ecotta_rt.daemon.saving.snapshot_files import camera_folder
from ecotta_rt.daemon.saving.snapshots import Snapshots
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import RULES
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.state import AdaptState, FramesBehind


@pytest.fixture
def bundle(checkout, tmp_path):
    return shutil.copy(checkout / "tests" / "hostile" / "small.ecotta", tmp_path / "net.ecotta")


@pytest.fixture
def boards(tmp_path, bundle):
    """Six files: four boards in one kind of place, two in another."""
    folder = tmp_path / "boards"
    folder.mkdir()
    source = read_bundle(bundle).initial_state()
    for number in range(6):
        moved = 0.4 * (number > 3) + 0.01 * number
        statistics = {n: a + np.float32(moved * n.endswith(".mean")) for n, a in source.statistics.items()}
        counts = FramesBehind(100 + number, number).metadata()
        replace(source, statistics=statistics, metadata=counts).save(folder / f"{number}.state.safetensors")
    return folder


def run(capsys, *arguments):
    code = main(["merge", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_files_of_a_folder_are_merged_and_the_outcome_runs(boards, bundle, tmp_path, capsys):
    out = tmp_path / "all.state.safetensors"

    code, text, _ = run(capsys, boards, "-o", out, "--bundle", bundle)

    assert code == 0
    assert "6 states of network" in text
    assert AdaptState.load(out).to_bytes() == merge(sorted(boards.iterdir())).groups[0].state.to_bytes()
    runtime = Runtime.load(bundle)
    runtime.restore(out)
    assert AdaptState.load(out).behind == FramesBehind(615, 15)
    assert runtime.state.behind == FramesBehind(0, 0)  # of its own
    assert not any(name.startswith("merged.") for name in runtime.state.metadata)


def test_each_kind_of_place_has_its_own(boards, tmp_path, capsys):
    code, text, _ = run(
        capsys, boards, "-o", tmp_path / "all.state.safetensors", "--clusters", "--plot", tmp_path / "k.svg"
    )

    assert code == 0
    assert "2 kinds of place" in text
    assert f"all-2.state.safetensors: {boards / '4.state.safetensors'} (" in text
    assert AdaptState.load(tmp_path / "all-1.state.safetensors").behind.followed == 100 + 101 + 102 + 103
    assert AdaptState.load(tmp_path / "all-2.state.safetensors").behind.followed == 104 + 105
    assert not (tmp_path / "all.state.safetensors").exists()
    assert (tmp_path / "k.svg").read_bytes().startswith(b"<?xml")


def test_of_a_daemons_folder_the_newest_state_of_each_camera_is_taken(bundle, tmp_path, capsys):
    source = read_bundle(bundle).initial_state()
    for camera in ("door", "yard"):
        snapshots = Snapshots(camera_folder(tmp_path / "state", camera), source.network_digest)
        for followed in (5, 70):
            snapshots.write(replace(source, metadata=FramesBehind(followed, 0).metadata()), "every 300 s")

    code, _, _ = run(capsys, tmp_path / "state", "-o", tmp_path / "all.safetensors")

    state = AdaptState.load(tmp_path / "all.safetensors")
    assert code == 0
    assert state.behind.followed == 140
    assert not any(name.startswith("snapshot.") for name in state.metadata)


def test_the_json_says_what_was_merged_with_what_share(boards, tmp_path, capsys):
    files = sorted(boards.iterdir())[:2]

    code, text, _ = run(capsys, *files, "-o", tmp_path / "two.safetensors", "--weights", "3,1", "--json")

    facts = json.loads(text)
    assert code == 0
    assert facts["rule"] == "mean"
    assert [(one["name"], one["share"]) for one in facts["groups"][0]["members"]] == [
        (str(files[0]), 0.75),
        (str(files[1]), 0.25),
    ]
    assert facts["groups"][0]["frames_followed"] == 201
    assert facts["left_out"] == []


def test_a_broken_state_is_named_and_nothing_is_written(boards, tmp_path, capsys):
    (boards / "3.state.safetensors").write_bytes(b"rubbish")
    out = tmp_path / "all.safetensors"

    code, text, said = run(capsys, boards, "-o", out)

    assert (code, text) == (4, "")
    assert "3.state.safetensors: not a safetensors file" in said
    assert not out.exists()


def test_a_robust_merge_says_what_it_leaves_out(boards, tmp_path, capsys):
    (boards / "3.state.safetensors").write_bytes(b"rubbish")

    code, text, said = run(capsys, boards, "-o", tmp_path / "all.safetensors", "--robust", "--rule", "mean")

    assert code == 0
    assert "left out: " in said
    assert "5 states" in text
    assert "1 left out" in text


def test_as_many_kinds_as_are_asked_for(boards, tmp_path, capsys):
    code, text, _ = run(capsys, boards, "-o", tmp_path / "all.state.safetensors", "--clusters", "3")

    assert code == 0
    assert "3 kinds of place (silhouette 0." in text
    assert len(list(tmp_path.glob("all-?.state.safetensors"))) == 3


def test_what_an_owner_may_not_expect_is_said(boards, tmp_path, capsys):
    (tmp_path / "all-3.state.safetensors").write_bytes(b"of an earlier merge")

    code, _, said = run(capsys, boards, "-o", tmp_path / "all.state.safetensors", "--robust", "--clusters")

    assert code == 0
    assert "all-2.state.safetensors: of 2 none can be told from the rest" in said
    assert "all-3.state.safetensors is of an earlier merge" in said


def test_a_robust_merge_that_leaves_out_many_ends_with_4_and_writes_nothing(boards, tmp_path, capsys):
    for number in (2, 3):
        (boards / f"{number}.state.safetensors").write_bytes(b"rubbish")
    out = tmp_path / "all.safetensors"

    code, text, said = run(capsys, boards, "-o", out, "--robust", "--most-left-out", "0.2")

    assert (code, text) == (4, "")
    assert "2 of 6 states would be left out, more than 20% (--most-left-out); the first: " in said
    assert not out.exists()
    assert run(capsys, boards, "-o", out, "--robust")[0] == 0


def test_drawn_to_the_source_a_merged_state_lies_between(boards, bundle, tmp_path, capsys):
    plain, half = tmp_path / "plain.safetensors", tmp_path / "half.safetensors"
    assert run(capsys, boards, "-o", plain, "--bundle", bundle)[0] == 0

    code, text, _ = run(capsys, boards, "-o", half, "--bundle", bundle, "--source-share", "0.5")

    assert code == 0
    assert "50 % of it the source" in text
    source = read_bundle(bundle).initial_state().statistics["norm.mean"]
    merged, drawn = (AdaptState.load(path).statistics["norm.mean"] for path in (plain, half))
    np.testing.assert_allclose(drawn, (source + merged) / 2, rtol=1e-5)
    assert "drawn towards the source before" in run(capsys, half, plain, "-o", tmp_path / "both.safetensors")[2]
    arguments = [boards, "-o", half, "--force", "--bundle", bundle, "--source-share"]
    assert json.loads(run(capsys, *arguments, "--json")[1])["source_share"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["BOARDS", "-o", "all.safetensors", "--clusters", "1"], 2, "1 kinds of place of 6 states: give 2 or more"),
        (["BOARDS", "-o", "all.safetensors", "--clusters", "0"], 2, "0 kinds of place of 6 states"),
        (["BOARDS", "-o", "all.safetensors", "--clusters", "7"], 2, "7 kinds of place of 6 states"),
        (["-o", "all.safetensors", "--clusters", "BOARDS"], 2, "name the states before it"),
        (["-o", "all.safetensors", "--source-share", "BOARDS"], 2, "a share, or nothing; name the states before it"),
        (["BOARDS", "-o", "all.safetensors", "--source-share", "0.5"], 2, "--source-share needs --bundle"),
        (["BOARDS", "-o", "all.safetensors", "--most-left-out", "0.5"], 2, "goes with --robust"),
        (["BOARDS", "-o", "all.safetensors", "--robust", "--most-left-out", "2"], 2, "left out at most: 0 to 1"),
        (["BOARDS", "-o", "all.pt"], 2, "give a .safetensors file"),
        (["BOARDS", "-o", "BOARDS/0.state.safetensors", "--force"], 2, "lies in BOARDS"),
        (["BOARDS", "BOARDS/0.state.safetensors", "-o", "all.safetensors"], 2, "named twice"),
        (["BOARDS", "-o", "all.safetensors", "--json", "all.safetensors"], 2, "name one file"),
        (["BOARDS", "-o", "all.safetensors", "--clusters", "--plot", "a.svg", "--json", "a.svg"], 2, "name one file"),
        (["BOARDS/0.state.safetensors", "-o", "BOARDS/0.state.safetensors", "--force"], 2, "one of the states"),
        (["nowhere", "-o", "all.safetensors"], 4, "nowhere: no such file or folder"),
        (["EMPTY", "-o", "all.safetensors"], 4, "no states in it"),
        (["BOARDS", "-o", "all.safetensors", "--plot", "a.svg"], 2, "--plot draws clusters"),
        (["BOARDS", "-o", "all.safetensors", "--weights", "many"], 2, "counts, equal"),
        (["BOARDS", "-o", "all.safetensors", "--weights", "1,2"], 2, "2 weights for 6 states"),
        (
            ["BOARDS", "-o", "all.safetensors", "--rule", "median", "--weights", "equal", "--json", "BOARDS"],
            2,
            "--json",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, code, said, boards, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    shutil.move(boards, tmp_path / "BOARDS")
    before = sorted(tmp_path.rglob("*"))

    ended, _, words = run(capsys, *arguments)

    assert (ended, said in " ".join(words.split())) == (code, True), words
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bundle_for_a_state_and_another_networks_bundle_are_told(boards, bundle, checkout, tmp_path, capsys):
    code, _, said = run(capsys, boards, bundle, "-o", tmp_path / "all.safetensors")
    assert (code, "a zip, such as a bundle, and no state" in said) == (4, True)

    for file in boards.iterdir():
        replace(AdaptState.load(file), network_digest="cd" * 32).save(file)
    code, _, said = run(capsys, boards, "-o", tmp_path / "all.safetensors", "--bundle", bundle)
    assert (code, "no state can be used: is this the right network?" in said) == (4, True)


def test_clusters_do_not_replace_what_is_there(boards, tmp_path, capsys):
    (tmp_path / "all-2.safetensors").write_text("mine")

    code, _, said = run(capsys, boards, "-o", tmp_path / "all.safetensors", "--clusters")

    assert code == 2
    assert "all-2.safetensors exists" in said
    assert not (tmp_path / "all-1.safetensors").exists()


def test_a_camera_that_begins_anew_is_passed_over(bundle, tmp_path, capsys):
    source = read_bundle(bundle).initial_state()
    for camera in ("door", "yard"):
        snapshots = Snapshots(camera_folder(tmp_path / "state", camera), source.network_digest)
        snapshots.write(replace(source, metadata=FramesBehind(5, 0).metadata()), "every 300 s")
    snapshots.write_source("reset")

    code, text, said = run(capsys, tmp_path / "state", "-o", tmp_path / "all.safetensors")

    assert code == 0
    assert "1 state of" in text
    assert "stands for the source" in said


def test_an_old_outcome_is_replaced_where_it_is_said(boards, tmp_path, capsys):
    out = tmp_path / "all.safetensors"

    assert run(capsys, boards, "-o", out)[0] == 0
    code, _, said = run(capsys, boards, "-o", out)
    assert (code, "exists; --force replaces it" in said) == (2, True)
    assert run(capsys, boards, "-o", out, "--force")[0] == 0


def test_the_command_offers_the_rules_there_are():
    assert command._RULES == RULES  # written twice, since --help needs no numpy
