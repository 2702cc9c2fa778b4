"""The functions for Python: they do what the commands do, with arrays and networks too."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ecotta_rt
from ecotta_rt import student
from ecotta_rt.cli.main import main
from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.checkpoint import load_network, read_network_file
from ecotta_rt.student.slimda.bank import save_bank

TRAINING = student.TrainingOptions(epochs=1, batch=8, augmentation=Augmentation(()), seed=3)


_KEPT = ("small.safetensors", "small.teacher-1.safetensors")


def coloured(count=24, seed=0):
    """Two classes that a colour tells apart."""
    labels = np.arange(count) % 2
    frames = np.random.default_rng(seed).integers(0, 120, (count, 8, 8, 3), dtype=np.uint8)
    frames[..., 0] += (100 * labels[:, None, None]).astype(np.uint8)
    return frames, labels


def small(classes=2, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


def class_folders(folder):
    frames, labels = coloured()
    for place, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(folder / str(label) / f"{place}.png")
    return folder


def test_importing_the_names_loads_no_torch():
    code = "import sys, ecotta_rt; ecotta_rt.student; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_without_torch_the_extra_is_named():
    code = "import sys; sys.modules['torch'] = None; from ecotta_rt import student; student.distil"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert "Unavailable: torch is not installed" in done.stderr


def test_every_name_is_there_and_no_other():
    assert dir(student) == sorted(student.__all__)
    assert all(getattr(student, name) is not None for name in student.__all__)
    assert ecotta_rt.student is student
    with pytest.raises(AttributeError, match="no attribute 'teach'"):
        student.teach  # noqa: B018


def test_arrays_and_networks_are_distilled_in_place_with_nothing_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, teacher = small(seed=0), small(seed=1)
    before, taught_before = network[0].weight.clone(), teacher[0].weight.clone()

    made = student.distil(
        network,
        coloured(),
        {"night": coloured(seed=1)[0]},
        teachers=[teacher],
        training=TRAINING,
        tests={"night": coloured(seed=2)},
    )

    assert made.network is network and not network.training
    assert not torch.equal(network[0].weight, before) and not torch.equal(teacher[0].weight, taught_before)
    assert made.recipe["method"] == "kd-stda" and made.recipe["frame"] == [8, 8]
    assert len(made.history) == 1 and 0 <= made.error_percent["night"] <= 100
    assert made.files == () and list(tmp_path.iterdir()) == []


_FEW = "5 pictures of night; statistics need 16"


@pytest.mark.parametrize(("norms", "why"), [("all", _FEW), ("targets", _FEW), ("bogus", "choose trained")])
def test_norms_of_too_few_pictures_are_refused_before_anything_is_decoded(norms, why, monkeypatch):
    monkeypatch.setattr("ecotta_rt.student.tasks.distil.decoded", None)
    targets = {"fog": coloured(seed=2)[0], "night": coloured(5, seed=1)[0]}

    with pytest.raises(UsageError, match=why):
        student.distil(small(), coloured(), targets, teachers=[small()], training=TRAINING, norms=norms)
    with pytest.raises(UsageError, match="no target"):
        student.distil(small(), coloured(), options=student.DistilOptions("source-only"), norms="targets")


def test_norms_of_a_network_that_has_none_are_refused_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr("ecotta_rt.student.tasks.distil.decoded", None)
    grouped = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )

    with pytest.raises(UsageError, match="norms all: the student has no batch norm"):
        student.distil(
            grouped, coloured(), {"night": coloured(seed=1)[0]}, teachers=[small()], training=TRAINING, norms="all"
        )


def test_one_network_may_teach_every_target_as_copies():
    teacher = small(seed=1)
    targets = {"night": coloured(seed=1)[0], "fog": coloured(seed=2)[0]}

    made = student.distil(small(), coloured(), targets, teachers=[teacher], training=TRAINING)

    assert made.recipe["method"] == "mt-mtda" and made.recipe["targets"] == ["night", "fog"]


def test_a_network_does_not_teach_itself():
    network, targets = small(), {"night": coloured(seed=1)[0], "fog": coloured(seed=2)[0]}
    before = {name: value.clone() for name, value in network.state_dict().items()}

    with pytest.raises(UsageError, match="the student is among its teachers"):
        student.distil(network, coloured(), targets, teachers=[network], training=TRAINING)
    with pytest.raises(UsageError, match="two teachers are the same object; give it once"):
        student.distil(small(), coloured(), targets, teachers=[network, network], training=TRAINING)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_teachers_that_are_kept_do_not_claim_the_norms_of_the_student(tmp_path):
    student.distil(
        "resnet-8",
        coloured(),
        {"night": coloured(seed=1)[0]},
        teachers=["resnet-8"],
        training=TRAINING,
        norms="targets",
        out=tmp_path / "small",
        keep_teachers=True,
    )

    said = [read_network_file(tmp_path / name).recipe["norms"] for name in _KEPT]
    assert said == ["targets", "trained"]


def test_the_command_and_the_function_make_the_same_student(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "day")
    np.save("night.npy", coloured(seed=1)[0])
    words = ["--teacher", "resnet-8", "--source", "day", "--target", "night=night.npy", "--size", "8", "--epochs", "1"]
    words += ["--batch", "8", "--augment", "none", "--seed", "3", "--threads", "1"]
    assert main(["student", "distil", "resnet-8", *words, "--out", "one", "--json", "one.json"]) == 0

    made = student.distil(
        "resnet-8",
        "day",
        {"night": "night.npy"},
        teachers=["resnet-8"],
        training=TRAINING,
        pictures=student.Pictures(size=(8, 8)),
        out="two",
    )

    one, two = load_network("one.safetensors").state_dict(), load_network("two.safetensors").state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert [path.name for path in made.files] == ["two.safetensors"]
    assert json.loads((tmp_path / "one.json").read_text())["history"] == [dict(epoch) for epoch in made.history]
    assert {path.name for path in tmp_path.iterdir()} == {
        "day",
        "night.npy",
        "one.json",
        "one.safetensors",
        "two.safetensors",
    }


def test_networks_are_ranked_by_arrays_and_taught_from(tmp_path):
    student.distil("resnet-8", coloured(), options=student.DistilOptions("source-only"), training=TRAINING).save(
        tmp_path / "knows.safetensors"
    )

    ranking = student.rank([tmp_path], coloured(), measures=("cka",))
    options = student.RankedOptions("nearest", measure="cka")
    made = student.distil(small(), coloured(), teachers=[tmp_path], options=options, training=TRAINING)

    assert [one.name for one in ranking.sources] == ["knows"] and ranking.frame == (8, 8)
    assert ranking.left_out == ()
    assert made.recipe["teachers"] == {"knows": 1.0}


def test_a_bank_of_arrays_is_picked_from(tmp_path):
    made = student.slim("resnet-8", coloured(), {"night": coloured(seed=1)[0]}, training=TRAINING)

    save_bank(made.bank, tmp_path / "bank.safetensors")
    out = tmp_path / "fits.safetensors"
    picked = student.pick(tmp_path / "bank.safetensors", "raspberry-pi-4-2gb", out, parts=1, tries=0)

    assert picked.chosen.bundle == tmp_path / "fits.ecotta" and picked.chosen.bundle.is_file()
    assert out.is_file() and picked.refusal is None
    assert {path.name for path in tmp_path.iterdir()} == {
        "fits.ecotta",
        "fits.safetensors",
        "bank.safetensors",
        "bank.safetensors.costs.json",
    }


@pytest.mark.parametrize(
    ("out", "options", "why"),
    [
        ("bank.safetensors", {}, "is the bank itself"),
        ("out.pt", {}, "give a .safetensors file"),
        ("out.safetensors", {"parts": 0}, "parts 0: at least 1"),
        ("out.safetensors", {"tries": -1}, "tries -1: 0 or more"),
        ("out.safetensors", {"ms": float("nan")}, "ms nan"),
        ("out.safetensors", {"ms": -1}, "ms -1"),
    ],
)
def test_a_pick_that_cannot_be_is_refused_and_keeps_the_bank(tmp_path, out, options, why):
    (tmp_path / "bank.safetensors").write_bytes(b"kept")

    with pytest.raises(UsageError, match=why):
        student.pick(tmp_path / "bank.safetensors", "raspberry-pi-4-2gb", tmp_path / out, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["bank.safetensors"]
    assert (tmp_path / "bank.safetensors").read_bytes() == b"kept"


def test_slimming_leaves_a_network_in_memory_as_it_was():
    network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    made = student.slim(network, coloured(), {"night": coloured(seed=1)[0]}, training=TRAINING)

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert made.bank.network == "Sequential" and len(made.history) == 1


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ((np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2), r"source: uint8 \[4, 8, 8\]; expected frames"),
        ((np.zeros((4, 8, 8, 3)), np.arange(4) % 2), "float64"),
        ((np.zeros((4, 8, 8, 3), np.uint8), np.arange(3) % 2), "for 4 frames; expected one for each"),
        ((np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, -1, 0])), "from 0"),
        ((np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, int)), "of 1 class"),
    ],
)
def test_arrays_that_are_no_labelled_pictures_are_refused(source, why):
    with pytest.raises(UsageError, match=why):
        student.distil(small(), source, options=student.DistilOptions("source-only"))


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UsageError, match="one for each, or none"):
        student.distil(
            small(), coloured(), {"night": coloured()[0]}, teachers=[small()], teacher_checkpoints=["one", "two"]
        )
    with pytest.raises(UsageError, match="takes 1 teachers; 0 are given"):
        student.distil(small(), coloured(), {"night": coloured()[0]}, training=TRAINING)
    with pytest.raises(UsageError, match="target"):
        student.slim(small(), coloured(), {})
    with pytest.raises(UsageError, match="leaves teachers as they are"):
        student.distil(small(), coloured(), options=student.RankedOptions(), teacher_epochs=1)
    with pytest.raises(UsageError, match="not a network in memory; save it"):
        student.distil(small(), coloured(), teachers=[small()], options=student.RankedOptions())
    with pytest.raises(UsageError, match="nearest, weighted"):
        student.RankedOptions("best")
    with pytest.raises(UsageError, match="above 0"):
        student.RankedOptions(label_share=0)
    gray = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(NetworkError, match="channels"):
        student.distil(small(), coloured(), {"night": coloured()[0]}, teachers=[gray], training=TRAINING)
