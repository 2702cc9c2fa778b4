"""`ecotta state` on snapshots of the small bundle of tests/hostile/."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.bundle import read_bundle
from ecotta_rt.bundle.layout import StateLayout
from ecotta_rt.cli.main import main
from ecotta_rt.daemon.saving.snapshot_files import camera_folder
from ecotta_rt.daemon.saving.snapshots import Snapshots, folder_locked
from ecotta_rt.state import AdaptState, FramesBehind

DIGEST = "5ea15ea15ea1"
TIMES = {"door": 1_795_000_000.0, "yard": 1_795_086_400.0}


def state(capsys, *arguments):
    code = main(["state", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def bundle(checkout, tmp_path):
    return shutil.copy(checkout / "tests" / "hostile" / "small.ecotta", tmp_path / "net.ecotta")


@pytest.fixture
def folder(tmp_path, bundle):
    """A state folder of two cameras beside the bundle: generation n has n times the parameters of the source."""
    source = read_bundle(bundle).initial_state()
    for camera, generations in (("door", 3), ("yard", 1)):
        snapshots = snapshots_of(tmp_path / "net.state", source, camera)
        for generation in range(1, generations + 1):
            snapshots.write(learned(source, generation), f"every {generation} s")
    return tmp_path / "net.state"


def snapshots_of(folder, source, camera):
    return Snapshots(camera_folder(folder, camera), source.network_digest, wall_s=lambda: TIMES[camera])


def learned(source, generation):
    answers = AnswerFilter(2)
    answers(np.array([[0.1, 0.9]] * generation))
    return replace(
        source,
        parameters={name: generation * array for name, array in source.parameters.items()},
        statistics={name: array + np.float32(name.endswith(".mean")) for name, array in source.statistics.items()},
        metadata=FramesBehind(1000 * generation, generation).metadata(),
        adaptation={f"filter.{name}": array for name, array in answers.arrays().items()},
    )


def in_words(text):
    return " ".join(text.split())


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_all_generations_are_listed_newest_first(folder, capsys):
    code, out, _ = state(capsys, "list", folder)

    assert code == 0
    assert f"door: 3 generations in {folder / 'door'}\n" in out
    rows = [line.split() for line in out.splitlines() if " s " in line]
    assert rows[0] == ["*", "3", "2026-11-18", "11:06:40", "every", "3", "s", "3,000", "3", "1"]
    assert [row[:2] for row in rows[1:]] == [["2", "2026-11-18"], ["1", "2026-11-18"], ["*", "1"]]
    assert out.count("the next start goes on from the one marked *") == 2


def test_a_damaged_one_is_listed_with_its_reason_and_passed_over(folder, capsys):
    newest = sorted((folder / "door").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-1])

    code, out, _ = state(capsys, "list", folder, "--camera", "door", "--json")

    (door,) = json.loads(out)["cameras"]
    assert (code, door["next"], len(door["snapshots"])) == (0, 2, 3)
    assert "damaged" in door["snapshots"][0]["refused"]
    assert f"generation 3 cannot be used: {newest}: damaged" in state(capsys, "list", folder)[1]


def test_the_folder_of_one_camera_can_be_named_alone(folder, capsys):
    _, out, _ = state(capsys, "list", folder / "yard", "--json")

    (yard,) = json.loads(out)["cameras"]
    assert (yard["camera"], yard["next"]) == ("yard", 1)
    assert yard["snapshots"][0] == {
        "generation": 1,
        "time": "2026-11-19T11:06:40Z",
        "why": "every 1 s",
        "source": False,
        "pinned": False,
        "bytes": yard["snapshots"][0]["bytes"],
        "network": yard["snapshots"][0]["path"].split("-")[-2],
        "refused": None,
        "path": str(next((folder / "yard").iterdir())),
        "frames_followed": 1000,
        "frames_learned": 1,
    }


def test_a_configuration_leads_to_its_cameras_states_and_network(folder, bundle, tmp_path, capsys):
    config = tmp_path / "door.toml"
    config.write_text(
        f'config_version = 1\n[network]\nbundle = "{bundle}"\n[[camera]]\nname = "door"\nsource = "/dev/video0"\n'
        '[[camera]]\nname = "gate"\nsource = "/dev/video1"\n'
    )
    other = replace(learned(read_bundle(bundle).initial_state(), 9), network_digest="cd" * 32)
    Snapshots(folder / "door", other.network_digest).write(other, "another network")

    code, out, _ = state(capsys, "list", config)

    assert code == 0
    assert "generation 4 cannot be used" in out
    assert "belongs to network cdcdcdcdcdcd" in out
    assert "gate: 0 generations" in out
    assert "yard: 1 generation in" in out
    assert "filter green at 0.9" in in_words(state(capsys, "show", config, "--camera", "door")[1])


def test_a_configuration_that_cannot_be_meant_says_what_else_to_name(tmp_path, capsys):
    (tmp_path / "door.toml").write_text("config_version = 1\n")

    code, _, err = state(capsys, "list", tmp_path / "door.toml")

    assert code == 78
    assert "or name the state folder itself" in err


def test_a_configuration_leads_to_its_states_without_the_secrets_of_its_cameras(capsys, tmp_path, bundle, folder):
    config = tmp_path / "door.toml"
    config.write_text(
        f'config_version = 1\n[network]\nbundle = "{bundle}"\n'
        '[[camera]]\nname = "door"\nsource = "rtsp://${USER_OF_IT}:${PASSWORD_OF_IT}@10.0.0.7/live"\n'
        '[[sink]]\nkind = "mqtt"\nhost = "broker"\npassword = "file:/nowhere/password"\n'
        '[http]\nenabled = true\ntoken = "${TOKEN_OF_IT}"\n'
    )

    code, out, _ = state(capsys, "list", config)

    assert code == 0 and "door: 3 generations" in out


def test_what_is_in_the_newest_is_shown_with_its_distance_from_the_source(folder, bundle, capsys):
    code, out, _ = state(capsys, "show", folder, "--camera", "door", "--json")

    facts = json.loads(out)
    source = read_bundle(bundle).initial_state()
    (norm,) = {name.rpartition(".")[0] for name in source.statistics}
    expected = float(np.sqrt((1 / source.statistics[f"{norm}.variance"]).mean()))
    assert code == 0
    assert facts["state"] == "door, generation 3"
    assert (facts["frames_followed"], facts["frames_learned"]) == (3000, 3)
    assert facts["distance"] == {norm: pytest.approx(expected, rel=1e-6)}
    assert (facts["filter"]["label"], facts["places"]) == ("green", None)
    text = state(capsys, "show", folder, "1", "--camera", "door")[1]
    assert in_words(text) == in_words(
        f"""door, generation 1
        network {source.network_digest}
        frames 1,000 followed, 1 learned from
        numbers parameters 4, momentum 4, statistics 4, adaptation 8
        filter green at 0.88, trust 0.50, evidence 0.0 and 0.0 nats
        places no memory of places
        distance {expected:.3f} standard deviations of the source, mean over 1 norm
        {norm} {expected:.3f}"""
    )


def test_without_the_bundle_everything_but_the_distance_is_shown(folder, bundle, capsys):
    moved = folder.rename(folder.with_name("elsewhere"))

    _, out, _ = state(capsys, "show", moved, "--camera", "yard")
    assert "not known: name the bundle with --bundle" in out
    assert "class 1 at" in out

    assert (
        "standard deviations of the source" in state(capsys, "show", moved, "--camera", "yard", "--bundle", bundle)[1]
    )


def test_two_states_are_compared_part_by_part(folder, capsys):
    code, out, _ = state(capsys, "diff", folder, "--camera", "door", "--json")

    facts = json.loads(out)
    assert code == 0
    assert facts["states"] == ["door, generation 2", "door, generation 3"]
    assert facts["parts"]["parameters"]["largest"] == pytest.approx(1 / 3)
    assert facts["parts"]["statistics"]["differ"] == 0
    assert facts["parts"]["adaptation/filter"]["differ"] > 0


def test_a_state_is_compared_with_the_source_and_with_a_file(folder, tmp_path, capsys):
    file = tmp_path / "own.safetensors"
    shutil.copy(sorted((folder / "door").iterdir())[0], file)

    _, out, _ = state(capsys, "diff", folder, "source", "--camera", "door", "--json")
    parts = json.loads(out)["parts"]
    assert parts["parameters"]["largest"] == pytest.approx(2 / 3)
    assert parts["adaptation/filter"]["largest"] is None  # in one of the two only
    text = state(capsys, "diff", folder, file, "1", "--camera", "door")[1]
    assert f"{file} against door, generation 1" in text
    assert [line.split()[2] for line in text.splitlines()[2:]] == ["0"] * 4


def test_a_state_of_ecotta_run_is_taken_too(bundle, tmp_path, capsys):
    file = tmp_path / "net.state.safetensors"
    learned(read_bundle(bundle).initial_state(), 2).save(file)

    assert "a valid state of network" in state(capsys, "list", file)[1]
    assert "2,000 followed" in state(capsys, "show", file)[1]
    assert f"source against {file}" in state(capsys, "diff", file, "source")[1]
    code, _, err = state(capsys, "rollback", file)
    assert code == 2
    assert "ecotta run --fresh" in err


def test_a_state_that_nobody_has_counted_frames_for_is_shown(bundle, tmp_path, capsys):
    file = tmp_path / "net.state.safetensors"
    old = replace(learned(read_bundle(bundle).initial_state(), 2), metadata={"frames.followed": "-1"})
    old.save(file)

    assert "? followed, ? learned from" in state(capsys, "show", file)[1]


def test_a_rollback_makes_an_older_one_the_newest_and_can_be_undone(folder, bundle, capsys):
    before = files_of(folder)

    code, out, _ = state(capsys, "rollback", folder, "1", "--camera", "door")

    source = read_bundle(bundle).initial_state()
    found = snapshots_of(folder, source, "door").newest()
    assert (code, found.snapshot.generation) == (0, 4)
    assert found.state.compare(learned(source, 1)) == dict.fromkeys(found.state.compare(found.state), 0.0)
    assert found.state.behind == FramesBehind(1000, 1)
    assert set(before) < set(files_of(folder))
    undo = out.splitlines()[-1].partition("ecotta state ")[2].split()
    assert undo == ["rollback", str(folder), "3", "--camera", "door"]

    assert state(capsys, *undo)[0] == 0

    found = snapshots_of(folder, source, "door").newest()
    assert found.snapshot.generation == 5
    assert found.state.behind == FramesBehind(3000, 3)


def test_a_rollback_goes_to_the_one_before_the_newest_that_is_valid(folder, bundle, capsys):
    newest = sorted((folder / "door").iterdir())[-1]
    newest.write_bytes(b"")

    assert json.loads(state(capsys, "rollback", folder, "--camera", "door", "--json")[1])["copied"] == 1


def test_a_reset_begins_at_the_source_and_keeps_the_others(folder, bundle, capsys):
    code, out, _ = state(capsys, "reset", folder, "--camera", "door")

    source = read_bundle(bundle).initial_state()
    snapshots = snapshots_of(folder, source, "door")
    assert (code, snapshots.newest().state) == (0, None)
    assert [one.generation for one in snapshots.listed()] == [1, 2, 3, 4]
    assert "the source" in state(capsys, "list", folder)[1]
    assert "every 3 s, kept" in in_words(state(capsys, "list", folder)[1])
    assert "frames ? followed" in in_words(state(capsys, "show", folder, "--camera", "door")[1])
    assert "rollback" in out
    undo = out.splitlines()[-1].partition("ecotta state ")[2].split()
    assert state(capsys, *undo)[0] == 0
    assert snapshots.newest().state.behind == FramesBehind(3000, 3)


@pytest.fixture
def merged(bundle, tmp_path):
    """A state's file of 1,400 frames, as a merge writes it."""
    path = tmp_path / "merged.state.safetensors"
    source = read_bundle(bundle).initial_state()
    replace(learned(source, 7), metadata=FramesBehind(1400, 14).metadata(), adaptation={}).save(path)
    return path


def test_a_merged_state_is_adopted_as_the_newest_and_given_up_again(folder, bundle, merged, capsys):
    before = files_of(folder)

    code, out, _ = state(capsys, "adopt", folder, merged, "--camera", "door")

    snapshots = snapshots_of(folder, read_bundle(bundle).initial_state(), "door")
    found = snapshots.newest()
    assert (code, found.snapshot.generation, found.state.behind) == (0, 4, FramesBehind(1400, 14))
    assert set(found.state.compare(AdaptState.load(merged)).values()) == {0.0}
    assert len(files_of(folder)) == len(before) + 1
    assert "every 3 s, kept" in in_words(state(capsys, "list", folder)[1])
    undo = out.splitlines()[-1].partition("ecotta state ")[2].split()
    assert undo == ["rollback", str(folder), "3", "--camera", "door"]

    assert state(capsys, *undo)[0] == 0

    assert snapshots.newest().state.behind == FramesBehind(3000, 3)


def test_what_was_learned_before_stays_however_much_is_learned_after_an_adoption(folder, bundle, merged, capsys):
    state(capsys, "adopt", folder, merged, "--camera", "door")
    source = read_bundle(bundle).initial_state()
    snapshots = Snapshots(folder / "door", source.network_digest, 2)
    for generation in range(5, 9):
        snapshots.write(learned(source, generation), "every 300 s")

    assert state(capsys, "rollback", folder, "3", "--camera", "door")[0] == 0
    assert snapshots.newest().state.behind == FramesBehind(3000, 3)


def test_a_board_that_has_learned_nothing_yet_adopts_too(folder, bundle, merged, capsys):
    shutil.rmtree(folder)
    folder.mkdir()

    code, out, _ = state(capsys, "adopt", folder, merged, "--camera", "gate 2", "--json")

    facts = json.loads(out)
    assert (code, facts["camera"], facts["generation"], facts["adopted"]) == (0, "gate 2", 1, str(merged))
    snapshots = Snapshots(camera_folder(folder, "gate 2"), AdaptState.load(merged).network_digest)
    assert snapshots.newest().state.behind == FramesBehind(1400, 14)
    shutil.rmtree(folder / snapshots.folder.name)
    out = state(capsys, "adopt", folder, merged, "--camera", "shed")[1]
    undo = out.splitlines()[-1].partition("ecotta state ")[2].split()
    assert undo == ["reset", str(folder), "--camera", "shed"]
    assert state(capsys, *undo)[0] == 0


def test_what_others_have_seen_does_not_push_out_what_a_camera_has_learned(folder, merged, capsys):
    of_many = AdaptState.load(merged)
    claims = {**of_many.metadata, **FramesBehind(10**9, 0).metadata(), "merged.states": "40"}
    replace(of_many, metadata=claims).save(merged)
    state(capsys, "adopt", folder, merged, "--camera", "door")

    state(capsys, "reset", folder, "--camera", "door")

    rows = json.loads(state(capsys, "list", folder, "--camera", "door", "--json")[1])["cameras"][0]["snapshots"]
    assert [row["generation"] for row in rows if row["pinned"]] == [3]  # its own newest


def test_a_camera_that_is_mistyped_adopts_nothing(folder, merged, capsys):
    before = files_of(folder)

    code, _, err = state(capsys, "adopt", folder, merged, "--camera", "dor")

    assert code == 2
    assert "no states of it" in err and "but of door, yard; for a new camera name the configuration" in err
    assert files_of(folder) == before


def test_where_no_bundle_is_known_the_other_cameras_tell_the_network(folder, bundle, merged, tmp_path, capsys):
    config = tmp_path / "door.toml"
    cameras = "".join(f'[[camera]]\nname = "{name}"\nsource = "/dev/{name}"\n' for name in ("door", "gate"))
    config.write_text(
        f'config_version = 1\n[network]\nbundle = "{tmp_path / "away.ecotta"}"\n[state]\nfolder = "{folder}"\n{cameras}'
    )
    replace(AdaptState.load(merged), network_digest="cd" * 32).save(tmp_path / "other.safetensors")

    code, _, err = state(capsys, "adopt", config, tmp_path / "other.safetensors", "--camera", "gate")

    assert (code, "belongs to network cdcdcdcdcdcd" in err) == (4, True)
    assert state(capsys, "adopt", config, merged, "--camera", "gate")[0] == 0


def test_what_the_network_cannot_go_on_from_is_not_adopted(folder, bundle, merged, tmp_path, capsys):
    good = AdaptState.load(merged)
    replace(good, network_digest="cd" * 32).save(tmp_path / "other.safetensors")
    shapes = {name: np.zeros((7, *array.shape), np.float32) for name, array in good.statistics.items()}
    replace(good, statistics=shapes).save(tmp_path / "shapes.safetensors")
    AdaptState({}, {}, {}, good.network_digest).save(tmp_path / "source.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(merged.read_bytes()[:-1])
    before = files_of(folder)

    def refused(name, camera="door"):
        code, out, err = state(capsys, "adopt", folder, tmp_path / f"{name}.safetensors", "--camera", camera)
        assert out == ""
        return code, err

    for camera in ("door", "yard"):
        code, err = refused("other", camera)
        assert (code, "belongs to network cdcdcdcdcdcd" in err) == (4, True)
        code, err = refused("shapes", camera)
        assert (code, "statistics/" in err, "is not as the camera's network has it" in err) == (4, True, True)
    code, err = refused("torn")
    assert (code, "torn.safetensors: not a safetensors file, or a truncated one" in err) == (4, True)
    code, err = refused("source")
    assert (code, "stands for the source" in err) == (2, True)
    code, err = refused("nosuch")
    assert (code, "there is no such file" in err) == (2, True)
    assert [name for name in files_of(folder) if "safetensors" in name] == [n for n in before if "safetensors" in n]


@pytest.mark.parametrize("action", ["rollback", "reset", "adopt"])
def test_what_changes_states_is_refused_while_a_daemon_runs(folder, merged, capsys, action):
    before = files_of(folder)

    with folder_locked(folder):
        code, _, err = state(capsys, action, folder, *([merged] if action == "adopt" else []), "--camera", "door")
        assert state(capsys, "list", folder)[0] == 0  # which only reads

    assert code == 2
    assert "in use by a daemon" in err
    assert "stop it first" in err
    assert files_of(folder) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "net.state"], "2 cameras (door, yard); name one with --camera"),
        (["show", "net.state", "--camera", "gate"], "no states of it in net.state; cameras there: door, yard"),
        (["show", "net.state", "7", "--camera", "door"], "no generation 7; there are: 1, 2, 3"),
        (["show", "net.state", "nosuch", "--camera", "door"], "neither a generation, nor a state's file"),
        (["rollback", "net.state", "--camera", "yard"], "none before the newest"),
        (["rollback", "net.state", "x", "--camera", "yard"], "give the number of a generation"),
        (["diff", "net.state", "--camera", "yard"], "'yard' has 1 valid state;"),
        (["diff", "net.state", "1", "2", "3"], "diff takes at most 2 after WHERE; 1 2 3 is too much"),
        (["list", "net.ecotta"], "is a bundle"),
        (["list", "nosuch"], "there is no such file or folder"),
        (["adopt", "net.state", "--camera", "door"], "adopt takes the file of one state; 0 are given"),
        (["adopt", "net.state", "x", "--camera", "door"], "x: there is no such file"),
        (["adopt", "net.state", "x"], "2 cameras (door, yard); name one with --camera"),
        (["--", "send", "net.state"], "name the action first"),
        (["reset", "empty"], "empty: no states; `ecotta serve` keeps them"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_there_is(folder, tmp_path, monkeypatch, capsys, arguments, said):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    code, out, err = state(capsys, *arguments)

    assert (code, out) == (2, "")
    assert said in err


def test_states_of_different_networks_are_not_compared(folder, tmp_path, capsys):
    AdaptState({}, {}, {}, "cd" * 32).save(tmp_path / "other.safetensors")

    code, _, err = state(capsys, "diff", folder, tmp_path / "other.safetensors", "1", "--camera", "door")

    assert code == 2
    assert "other.safetensors belongs to network cdcdcdcdcdcd" in err


def test_what_a_network_was_prepared_with_is_shown_without_the_marks_of_python(folder, bundle, capsys):
    source = read_bundle(bundle).initial_state()
    note = {"warm_up": "{'epochs': 10, 'matched_start': True}"}
    snapshots_of(folder, source, "yard").write(replace(learned(source, 2), metadata=note), "every 2 s")

    assert "warm_up epochs: 10, matched_start: True" in in_words(state(capsys, "show", folder, "--camera", "yard")[1])


def test_hostile_names_and_reasons_cannot_order_a_terminal_about(folder, bundle, capsys):
    source = read_bundle(bundle).initial_state()
    snapshots = Snapshots(camera_folder(folder, "yard"), source.network_digest)
    snapshots.write(replace(source, metadata={"note": "\x1b[2J"}), "\x1b[2Jgone")

    for action in ("list", "show"):
        out = state(capsys, action, folder, "--camera", "yard")[1]
        assert "\x1b" not in out
        assert r"\x1b[2J" in out


def test_check_reads_all_generations_and_names_what_cannot_be_used(folder, capsys):
    assert state(capsys, "check", folder)[:2] == (0, f"4 states read, 4 can be used, of network {DIGEST}\n")
    newest = sorted((folder / "door").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-1])

    code, out, said = state(capsys, "check", folder)

    assert code == 4
    assert f"4 states read, 3 can be used, of network {DIGEST}\n  cannot be used: {newest}: " in out
    assert f"1 of 4 states cannot be used; the first: {newest}" in said


def test_check_reads_a_folder_of_files_and_a_file(folder, bundle, tmp_path, capsys):
    boards = tmp_path / "boards"
    boards.mkdir()
    source = read_bundle(bundle).initial_state()
    source.save(boards / "a.state.safetensors")
    replace(source, network_digest="cd" * 32).save(boards / "b.state.safetensors")

    code, out, said = state(capsys, "check", boards, "--bundle", bundle, "--json")

    assert code == 4
    assert [one["path"] for one in json.loads(out)["refused"]] == [str(boards / "b.state.safetensors")]
    assert f"belongs to network cdcdcdcdcdcd, not to {DIGEST}" in said
    assert state(capsys, "check", boards / "a.state.safetensors")[0] == 0
    assert state(capsys, "check", tmp_path / "net.state" / "door")[0] == 0


@pytest.fixture
def from_boards(folder, tmp_path):
    """A folder as a gateway has it: two boards' states, and a broken one."""
    boards = tmp_path / "from-boards"
    boards.mkdir()
    for name, generation in (("door", 1), ("yard", 2)):
        newest = sorted((folder / "door").glob("*.safetensors"))[generation]
        shutil.copy(newest, boards / f"{name}.state.safetensors")
    (boards / "gate.state.safetensors").write_bytes(b"rubbish")
    return boards


def test_states_of_boards_are_listed(from_boards, capsys):
    code, out, _ = state(capsys, "list", from_boards)

    assert code == 0
    assert "3 states of boards" in out
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert lines["door"][:3] == [DIGEST, "2,000", "2"]
    assert lines["yard"][:3] == [DIGEST, "3,000", "3"]
    assert "gate.state.safetensors: not a safetensors file" in out
    files = json.loads(state(capsys, "list", from_boards, "--json")[1])["files"]
    assert [one.get("frames_followed") for one in files] == [2000, None, 3000]
    files = json.loads(state(capsys, "list", from_boards, "--camera", "yard", "--json")[1])["files"]
    assert [one.get("frames_followed") for one in files] == [3000]


def test_a_line_break_in_a_boards_name_breaks_no_table(from_boards, capsys):
    shutil.copy(from_boards / "yard.state.safetensors", from_boards / "ya\nrd.state.safetensors")

    out = state(capsys, "list", from_boards)[1]

    assert [line.split()[1] for line in out.splitlines() if line.startswith("ya\\nrd ")] == [DIGEST]


def test_one_of_them_is_shown_by_its_boards_name_and_two_are_compared(from_boards, capsys):
    code, out, _ = state(capsys, "show", from_boards, "yard")
    assert (code, "3,000 followed" in in_words(out)) == (0, True)
    assert "3,000 followed" in in_words(state(capsys, "show", from_boards, "--camera", "yard")[1])
    code, out, _ = state(capsys, "diff", from_boards, "door", "yard")
    assert (code, "door against yard" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "from-boards"], "states of boards, each a file without generations: door, gate, yard; name one"),
        (["show", "from-boards", "attic"], "the boards are door, gate, yard"),
        (["rollback", "from-boards"], "each a file without generations"),
        (["list", "from-boards", "--camera", "attic"], "each a file without generations"),
    ],
)
def test_what_boards_have_not_is_refused(from_boards, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)

    code, out, err = state(capsys, *arguments)

    assert (code, out) == (2, "")
    assert said in err


def test_a_state_with_another_held_norm_is_named_and_not_adopted(folder, bundle, tmp_path, monkeypatch, capsys):
    held = read_bundle(bundle)
    source = held.initial_state()
    layout = StateLayout.of(source, ("norm",))
    held.manifest = replace(held.manifest, layout=layout)
    monkeypatch.setattr("ecotta_rt.cli.state_location.read_bundle", lambda path, verify: held)
    learned(source, 1).save(tmp_path / "moved.safetensors")

    for arguments in (["check", tmp_path / "moved.safetensors"], ["adopt", folder, tmp_path / "moved.safetensors"]):
        where = [] if arguments[0] == "check" else ["--camera", "door"]
        code, _, err = state(capsys, *arguments, *where, "--bundle", bundle)
        assert code == 4
        assert "its norm.mean is not the bundle's: a norm that boards hold" in err


def test_of_a_merged_state_it_is_said_of_how_many(folder, tmp_path, capsys):
    given = AdaptState.load(sorted((folder / "door").glob("*.safetensors"))[0])
    said = {**given.metadata, "merged.states": "6", "merged.rule": "mean"}
    replace(given, metadata=said).save(tmp_path / "all.safetensors")

    assert ", merged of 6 by mean, " in state(capsys, "list", tmp_path / "all.safetensors")[1]


def test_check_of_a_folder_without_states_is_refused(tmp_path, capsys):
    code, _, said = state(capsys, "check", tmp_path)

    assert code == 2
    assert "no states" in said
