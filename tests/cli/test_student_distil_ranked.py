"""`ecotta student distil --method nearest` and `weighted`: few labels, networks of other tasks, a file for prepare."""

import json

import numpy as np
import pytest
import torch

from ecotta_rt.cli.main import main
from ecotta_rt.cli.progress import WorkProgress
from ecotta_rt.prepare.checkpoint import load_network, read_network_file, save_network
from ecotta_rt.prepare.networks import build_network


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with few.npz (labelled), many.npz and networks/ of 2 and 5 classes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, count in {"few": 12, "many": 24}.items():
        labels = np.arange(count) % 3
        frames = rng.integers(0, 120, (count, 8, 8, 3), dtype=np.uint8)
        frames[np.arange(count), :, :, labels] += 100
        np.savez(f"{name}.npz", x_train=frames, y_train=labels, x_test=frames, y_test=labels)
    (tmp_path / "networks").mkdir()
    for seed, (name, classes) in enumerate({"two": 2, "five": 5}.items()):
        torch.manual_seed(seed)
        save_network(
            build_network("resnet-8", classes=classes).eval(), f"networks/{name}.safetensors", model="resnet-8"
        )
    return tmp_path


def distil(*words, method="weighted"):
    data = ["--source", "few.npz", "--size", "8", "--threads", "1"]
    usual = ["--epochs", "2", "--batch", "8", "--out", "small", "--method", method]
    return main(["student", "distil", "resnet-8", *data, *usual, *words])


MANY = ("--target", "all=many.npz")
TEACHERS = ("--teachers", "networks")


def test_a_student_learns_from_networks_with_other_classes(place, capsys):
    assert distil(*MANY, *TEACHERS, "--power", "0", "--test", "all=many.npz", "--json", "run.json") == 0

    facts = json.loads((place / "run.json").read_text())
    assert facts["method"] == "weighted"
    assert facts["teachers"].keys() == {"two", "five"}
    assert sum(facts["teachers"].values()) == pytest.approx(1, abs=1e-3)
    assert [set(epoch) for epoch in facts["history"]] == [{"label loss", "source loss"}] * 2
    assert 0 <= facts["error_percent"]["all"] <= 100
    described = read_network_file("small.safetensors")
    assert (described.classes, described.recipe["frame"]) == (3, [8, 8])
    assert load_network("small.safetensors")(torch.rand(2, 3, 8, 8)).shape == (2, 3)
    assert "teachers by logme and their weights: " in capsys.readouterr().err
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("small")) == ["small.safetensors"]


def test_nearest_takes_the_first_of_the_ranking(place, capsys):
    assert main(["student", "rank", "networks", "--data", "few.npz", "--size", "8", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["networks"][0]["name"]

    assert distil(*MANY, *TEACHERS, "--json", "run.json", method="nearest") == 0
    assert json.loads((place / "run.json").read_text())["teachers"] == {first: 1.0}


def test_ranking_says_how_far_it_is(place, monkeypatch):
    told = []
    monkeypatch.setattr(WorkProgress, "update", lambda self, *given: told.append(given))

    assert distil(*TEACHERS) == 0
    assert [given for given in told if given[2:] in (("five",), ("two",))] == [(0, 2, "five"), (1, 2, "two")]


def test_without_targets_the_few_pictures_are_all(place):
    assert distil(*TEACHERS) == 0
    assert (place / "small.safetensors").exists()


def test_several_targets_are_one_set(place, capsys):
    assert distil(*MANY, "--target", "more=few.npz", *TEACHERS, "--json") == 0
    assert json.loads(capsys.readouterr().out)["targets"] == ["all", "more"]


def test_a_bad_network_is_named_before_anything_else_and_left_out_when_asked(place, capsys):
    (place / "networks" / "torn.safetensors").write_bytes(b"torn")

    assert distil(*MANY, *TEACHERS) == 4
    assert "torn" in capsys.readouterr().err
    assert not list(place.glob("small*"))
    assert distil(*MANY, *TEACHERS, "--leave-out") == 0
    assert "left out: torn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ([], 2, "--method weighted without --teachers"),
        ([*TEACHERS, "--teacher", "resnet-20"], 2, "takes its teachers from --teachers"),
        ([*TEACHERS, "--label-share", "0"], 2, "label share 0"),
        ([*TEACHERS, "--measure", "likeness"], 2, "known: parc"),
        ([*TEACHERS, "--power", "-2"], 2, "p must be 0"),
        (["--teachers", "nowhere"], 4, "no such folder"),
        ([*TEACHERS, "--batch", "64"], 2, "batch 64"),
        ([*TEACHERS, "--gamma", "0", "--consistency"], 2, "--gamma, --consistency: no constant of weighted"),
    ],
)
def test_what_cannot_be_meant_is_refused(place, capsys, words, code, why):
    assert distil(*MANY, *words) == code
    assert why in capsys.readouterr().err
    assert not list(place.glob("small*"))


def test_teachers_go_with_these_methods_alone(place, capsys):
    assert distil(*MANY, *TEACHERS, method="kd-stda") == 2
    assert "--teachers goes with --method nearest or weighted" in capsys.readouterr().err


def test_what_ranks_is_refused_where_nothing_is_ranked(place, capsys):
    words = (*MANY, "--teacher", "resnet-8", "--power", "0", "--leave-out")
    assert distil(*words, method="kd-stda") == 2
    assert "--power, --leave-out: goes with --method nearest or weighted" in capsys.readouterr().err
    assert not list(place.glob("small*"))


def test_few_pictures_are_told(place, capsys):
    assert distil(*MANY, *TEACHERS, "--epochs", "1") == 0
    assert "warning: fewer than 5 pictures a class say little" in capsys.readouterr().err


def test_nearest_has_no_power(place, capsys):
    assert distil(*MANY, *TEACHERS, "--power", "12", method="nearest") == 2
    assert "--power goes with --method weighted" in capsys.readouterr().err
