"""The scripts behind `make arm64-smoke`, as far as they run without root and without an emulator."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from ecotta_rt.state import AdaptState


@pytest.fixture(scope="module")
def scripts(checkout):
    return checkout / "scripts"


@pytest.fixture
def compare_replays(scripts):
    spec = importlib.util.spec_from_file_location("compare_replays", scripts / "compare_replays.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def replay(tmp_path):
    """Writes what scripts/replay_frames.py would, with some of it moved."""

    def write(name, *, label=3, probability=0.7, momentum=0.1, tensor="w"):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(
            folder / "answers.npz",
            labels=np.array([label]),
            probabilities=np.array([[probability, 0.3]], np.float32),
            entropy_nats=np.array([0.6], np.float32),
            kept=np.array([True]),
            adapted=np.array([True]),
        )
        values = {tensor: np.ones(2, np.float32)}
        moved = {tensor: np.array([0, momentum], np.float32)}
        AdaptState(values, moved, {"v": np.ones(1, np.float32)}, network_digest="0" * 64).save(
            folder / "state.safetensors"
        )
        return folder

    return write


def verdict(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["compare_replays.py", *map(str, arguments)])
    return module.main()


def test_small_differences_are_alike(compare_replays, replay, monkeypatch, capsys):
    one, other = replay("one"), replay("other", probability=0.70005, momentum=0.10005)

    assert verdict(compare_replays, monkeypatch, one, other) == 0
    assert "alike" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"probability": 0.701}, "probabilities"),
        ({"momentum": 0.2}, "momentum"),
        ({"probability": float("nan")}, "probabilities"),
        ({"label": 4}, "labels"),
    ],
)
def test_a_difference_above_the_tolerance_is_told_with_its_place(
    compare_replays, replay, monkeypatch, capsys, change, kind
):
    one, other = replay("one"), replay("other", **change)

    assert verdict(compare_replays, monkeypatch, one, other) == 1
    shown = capsys.readouterr().out
    assert "NOT ALIKE" in shown
    found = compare_replays.compare(one, other)
    assert max(found, key=lambda name: found[name]["largest"]) == kind


def test_decisions_have_no_tolerance(compare_replays, replay, monkeypatch):
    assert verdict(compare_replays, monkeypatch, replay("one"), replay("other", label=4), "--tolerance", "10") == 1


def test_states_of_other_networks_are_not_compared(compare_replays, replay):
    with pytest.raises(SystemExit, match="from one bundle"):
        compare_replays.compare(replay("one"), replay("other", tensor="u"))


def recipe(scripts, *arguments):
    command = ["sh", str(scripts / "device-install.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_recipe_says_what_it_wants(scripts, tmp_path, checkout):
    wheel = tmp_path / "ecotta_rt-0.whl"
    constraints = checkout / "constraints.txt"
    target = tmp_path / "new"

    assert "give TARGET WHEEL CONSTRAINTS" in recipe(scripts).stderr
    assert "absolute path" in recipe(scripts, "new", wheel, constraints).stderr
    assert "remove it" in recipe(scripts, tmp_path, wheel, constraints).stderr
    done = recipe(scripts, target, wheel, constraints)
    assert done.returncode == 2
    assert "make wheel" in done.stderr
    assert not target.exists()


@pytest.mark.slow
def test_the_recipe_installs_a_wheel_that_works(scripts, tmp_path, checkout):
    """Fetches the base dependencies; needs an index."""
    subprocess.run(["sh", scripts / "build-wheel", tmp_path], env={**os.environ, "PYTHON": sys.executable}, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    done = recipe(scripts, tmp_path / "installed", wheel, checkout / "constraints.txt")

    assert done.returncode == 0, done.stderr
    command = [tmp_path / "installed" / "bin" / "ecotta", "doctor", "--state", tmp_path]
    assert "runs a tiny network" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_smoke_test_explains_itself(scripts, subtests):
    for arguments, code, said in [
        (["--help"], 0, "debootstrap"),
        (["--frmes", "3"], 2, "unknown argument --frmes"),
        (["--frames"], 2, "needs a value"),
        (["--bundle", "/nonexistent.ecotta"], 2, "export_networks.py"),
    ]:
        with subtests.test(arguments=arguments):
            done = subprocess.run([scripts / "arm64-smoke", *arguments], capture_output=True, text=True)

            assert done.returncode == code
            assert said in done.stdout + done.stderr


def test_no_script_names_a_host(scripts):
    """The mirror is apt's own, and packages come from wherever pip is set up to look."""
    for path in scripts.iterdir():
        if path.is_file():
            assert "http" not in path.read_text(encoding="utf-8"), path
