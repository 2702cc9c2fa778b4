"""`ecotta student distil` from folders of pictures to a network file that `ecotta prepare` takes."""

import argparse
import json

import numpy as np
import pytest
import torch

from ecotta_rt.bundle import read_bundle
from ecotta_rt.cli import student_distil
from ecotta_rt.cli.main import main
from ecotta_rt.cli.ranked_teachers import RANKED
from ecotta_rt.errors import TransferError
from ecotta_rt.method.width.groups import find_groups
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.checkpoint import load_network, read_network_file, save_network
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.student import training
from ecotta_rt.student.methods import METHODS

NETWORK = """
from torch import nn


def make(width=4, classes=2):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )


def large():
    return make(8)


def three():
    return make(4, 3)


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = make()

    def forward(self, frames):
        logits = self.network(frames)
        return (logits, logits) if self.training else logits


def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def fixed():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2))
    network.frame_size = 12
    return network
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with day/ (two classes), dusk.npz, night/ (no classes) and net.py; the current one."""
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def pictures(count, brightness):
        labels = np.arange(count) % 2
        frames = rng.integers(brightness, brightness + 60, (count, 8, 8, 3), dtype=np.uint8)
        frames[np.arange(count), :, :, labels] += 90
        return frames, labels

    for frames, label in zip(*pictures(24, 40), strict=True):
        folder = tmp_path / "day" / ("red", "green")[label]
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(frames).save(folder / f"{len(list(folder.iterdir()))}.png")
    dusk = pictures(20, 20)
    np.savez("dusk.npz", x_train=dusk[0], y_train=dusk[1], x_test=dusk[0], y_test=1 - dusk[1])
    (tmp_path / "night").mkdir()
    for number, frames in enumerate(pictures(16, 0)[0]):
        image.fromarray(frames).save(tmp_path / "night" / f"{number}.png")
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    return tmp_path


def distil(*words):
    usual = ["--epochs", "2", "--batch", "8", "--out", "small", "--size", "8", "--threads", "1"]
    return main(["student", "distil", *usual, *words])


DAY = ["--source", "day"]
DUSK = ["--target", "dusk=dusk.npz"]


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith((".small", "small")))


def test_a_student_of_ours_is_a_network_file_that_prepare_takes(place, capsys):
    code = distil(
        "resnet-8", *DAY, *DUSK, "--teacher", "resnet-8", "--teacher-epochs", "1", "--test", "dusk=dusk.npz",
        "--classes", "green,red", "--plot", "curves.svg", "--json", "run.json",
    )  # fmt: skip

    told = capsys.readouterr()
    assert code == 0 and "epoch  teacher loss" in told.out and "error in dusk:" in told.out
    assert "about" in told.err and "to go" in told.err
    assert left_behind(place) == ["small.safetensors"] and "<svg" in (place / "curves.svg").read_text()
    facts = json.loads((place / "run.json").read_text())
    assert facts["method"] == "kd-stda" and facts["targets"] == ["dusk"] and facts["classes"] == ["green", "red"]
    assert len(facts["history"]) == 2 and 0 <= facts["history"][1]["agreement"] <= 1
    described = read_network_file("small.safetensors")
    assert (described.model, described.classes, described.recipe["frame"]) == ("resnet-8", 2, [8, 8])

    # Unchanged, and without a word about the size of its frames.
    words = "prepare small.safetensors --parts 2 --classes green,red --normalisation source --out ready"
    assert main(words.split()) == 0
    assert read_bundle(place / "ready.ecotta").manifest.frame.size == (8, 8)
    assert main(["plan", "ready.ecotta", "--device", "raspberry-pi-zero-2w"]) == 0
    frames = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    logits = load_network("small.safetensors")(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255)
    assert Runtime.load(place / "ready.ecotta")(frames).labels.tolist() == [int(logits.argmax())]


def test_weights_of_a_users_own_network_go_back_into_it(place):
    torch.manual_seed(0)
    torch.save(open_network("net.py:large").state_dict(), "large.pt")

    code = distil(
        "net.py:make", *DAY, *DUSK, "--target", "night=night", "--method", "mt-mtda", "--teacher", "net.py:large",
        "--teacher-checkpoint", "large.pt", "--keep-teachers",
    )  # fmt: skip

    assert code == 0
    assert left_behind(place) == ["small.safetensors", "small.teacher-1.safetensors", "small.teacher-2.safetensors"]
    student = open_network("net.py:make", checkpoint=place / "small.safetensors")
    first, second = (open_network("net.py:large", checkpoint=place / f"small.teacher-{k}.safetensors") for k in (1, 2))
    assert not torch.equal(first[0].weight, second[0].weight)  # each has its own target
    assert student[0].weight.shape == (4, 3, 3, 3)


def test_a_network_that_was_made_narrower_stays_so(place):
    torch.manual_seed(0)
    groups = find_groups(build_network("resnet-8", classes=2).eval(), torch.zeros(1, 3, 32, 32))
    widths = dict.fromkeys(list(groups.groups)[:1], 5)
    narrow_one = narrow(groups, widths)
    save_network(narrow_one, "narrow.safetensors", model="resnet-8", channels=widths)

    assert distil("narrow.safetensors", *DAY, "--method", "source-only") == 0

    assert read_network_file("small.safetensors").channels == widths
    shapes = {name: value.shape for name, value in narrow_one.state_dict().items()}
    assert {name: value.shape for name, value in load_network("small.safetensors").state_dict().items()} == shapes


@pytest.mark.parametrize(("method", "norms"), [("adapted", "all"), ("source-only", "targets")])
def test_norms_are_measured_again_where_asked(place, method, norms):
    source = np.load("dusk.npz")["x_train"]
    np.savez("bright.npz", x_train=255 - source)
    words = ["net.py:make", "--source", "dusk.npz", "--method", method]
    targets = ["--target", "bright=bright.npz"]
    assert distil(*words, *(targets if method == "adapted" else []), "--norms", "trained") == 0
    trained = open_network("net.py:make", checkpoint=place / "small.safetensors").state_dict()
    assert distil(*words, *targets, "--norms", norms, "--force", "--json", "run.json") == 0

    student = open_network("net.py:make", checkpoint=place / "small.safetensors").eval()
    found = student.state_dict()
    assert json.loads((place / "run.json").read_text())["norms"] == norms
    if method == "adapted":  # frames of a target, where there are some, change the order of the source's
        assert all(torch.equal(found[name], trained[name]) for name in ("0.weight", "1.weight", "8.weight"))
    frames = np.concatenate([source, 255 - source] if norms == "all" else [255 - source])
    before_norm = student[0](torch.from_numpy(frames).permute(0, 3, 1, 2) / 255)
    far, near = ((state["1.running_mean"] - before_norm.mean((0, 2, 3))).abs().max() for state in (trained, found))
    assert near < 5e-4 < far / 10  # the file has weights in fp16


@pytest.mark.parametrize("words", [[*DUSK, "--method", "adapted"], ["--method", "source-only"]])
def test_the_peers_are_the_same_command(place, words):
    assert distil("net.py:make", *DAY, *words) == 0
    assert left_behind(place) == ["small.safetensors"]


def test_ctrl_c_keeps_the_last_epoch_and_the_same_command_goes_on(place, capsys, monkeypatch):
    words = ["net.py:make", *DAY, *DUSK, "--teacher", "net.py:large", "--teacher-epochs", "1", "--keep-teachers"]
    torch.manual_seed(0)
    assert distil(*words) == 0
    whole = (place / "small.safetensors").read_bytes(), (place / "small.teacher-1.safetensors").read_bytes()
    for name in left_behind(place):
        (place / name).unlink()
    saved = []
    save = training.save_snapshot

    def interrupt(*args):
        save(*args)
        saved.append(args[0].name)
        if saved[-1] == "small.snapshot":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "save_snapshot", interrupt)
        assert distil(*words) == 130
    assert saved == ["small.teacher-1.snapshot", "small.snapshot"]
    assert "the same command goes on after the last whole epoch" in capsys.readouterr().err
    assert not (place / "small.safetensors").exists()

    assert distil(*words) == 0
    assert ((place / "small.safetensors").read_bytes(), (place / "small.teacher-1.safetensors").read_bytes()) == whole
    assert "epoch 2/2" in capsys.readouterr().err
    assert left_behind(place) == ["small.safetensors", "small.teacher-1.safetensors"]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["resnet-8", *DAY], 2, "no --target: name one"),
        (["resnet-8", *DAY, *DUSK], 2, "0 --teacher are given; kd-stda takes one"),
        (["resnet-8", *DAY, *DUSK, "--method", "adapted", "--teacher", "resnet-8"], 2, "adapted has no teacher"),
        (["resnet-8", *DAY, "--target", "dusk", "--teacher", "resnet-8"], 2, "expected NAME=DATA"),
        (["resnet-8", *DAY, *DUSK, *DUSK, "--teacher", "resnet-8"], 2, "names 'dusk' twice"),
        (["resnet-8", *DAY, *DUSK, "--teacher", "none.safetensors"], 4, "none.safetensors: No such file"),
        (["resnet-8", "--source", "night", *DUSK, "--teacher", "resnet-8"], 2, "no class folders"),
        (["resnet-8", "--source", "day/red", *DUSK, "--teacher", "resnet-8"], 2, "no class folders"),
        (["resnet-8", *DAY, "--target", "none=nowhere", "--teacher", "resnet-8"], 4, "target none: nowhere: no such"),
        (["resnet-8", *DAY, *DUSK, "--teacher", "net.py:three"], 2, "tells 3 classes apart, the source has 2"),
        (
            ["resnet-8", *DAY, *DUSK, "--teacher", "net.py:fixed"],
            2,
            "net.py:fixed: Sequential cannot run on frames 3x8x8",
        ),
        (
            ["net.py:Auxiliary", *DAY, "--method", "source-only"],
            2,
            "net.py:Auxiliary: Auxiliary gives a tuple in training mode",
        ),
        (
            ["net.py:make", *DAY, *DUSK, "--teacher", "net.py:Auxiliary"],
            2,
            "net.py:Auxiliary: Auxiliary gives a tuple in training mode",
        ),
        (
            ["net.py:grey", *DAY, *DUSK, "--teacher", "net.py:make"],
            2,
            "net.py:make takes frames of 3 channels, the student 1: all networks must",
        ),
        (
            ["resnet-8", *DAY, "--method", "source-only", "--norms", "targets"],
            2,
            "--norms targets: there is no --target",
        ),
        (["resnet-8", *DAY, *DUSK, "--method", "source-only"], 2, "--target: source-only learns from the source alone"),
        (["resnet-8", *DAY, "--method", "source-only", "--test", "a=night"], 2, "test a night: no class folders"),
        (["resnet-8", *DAY, "--method", "source-only", "--size", "8000"], 2, "frames of 8000x8000: at most 1024"),
        (["resnet-8", *DAY, *DUSK, "--teacher", "resnet-8", "--beta", "0", "1"], 2, "0 < start <= end"),
        (["resnet-8", *DAY, *DUSK, "--teacher", "resnet-8", "--plot", "curves.pdf"], 2, "no picture format"),
        (["resnet-8", *DAY, *DUSK, "--teacher", "resnet-8", "--checkpoint", "dusk.npz"], 4, "dusk.npz"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_nothing_written(place, capsys, words, code, why):
    assert distil(*words) == code

    assert why in capsys.readouterr().err
    assert left_behind(place) == []


def test_class_folders_of_other_names_and_empty_targets_are_refused(place, capsys):
    (place / "wrong" / "blue").mkdir(parents=True)
    (place / "wrong" / "blue" / "1.png").write_bytes((place / "night" / "1.png").read_bytes())
    (place / "empty").mkdir()

    assert distil("resnet-8", *DAY, "--target", "wrong=wrong", "--teacher", "resnet-8") == 4
    assert "no class of the source: blue; the source has green, red" in capsys.readouterr().err
    assert distil("resnet-8", *DAY, "--target", "empty=empty", "--teacher", "resnet-8") == 4
    assert "no file in it" in capsys.readouterr().err
    assert left_behind(place) == []


def test_a_teacher_of_other_classes_or_made_for_other_frames_is_refused(place, capsys):
    save_network(build_network("resnet-8", classes=7), "seven.safetensors", model="resnet-8")

    assert distil("resnet-8", *DAY, *DUSK, "--teacher", "seven.safetensors") == 4
    assert "seven.safetensors: tells 7 classes apart, the source has 2" in capsys.readouterr().err
    save_network(build_network("resnet-8", classes=2), "two.safetensors", model="resnet-8")
    words = [
        "student",
        "distil",
        "two.safetensors",
        *DAY,
        *DUSK,
        "--teacher",
        "net.py:fixed",
        "--batch",
        "8",
        "--out",
        "small",
    ]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "two.safetensors for 32x32, net.py:fixed for 12x12; say a size" in told
    assert left_behind(place) == []


def test_an_existing_network_is_replaced_only_when_told(place, capsys):
    (place / "small.safetensors").write_text("mine")
    words = ["net.py:make", *DAY, "--method", "source-only"]

    assert distil(*words) == 2 and "--force replaces it" in capsys.readouterr().err
    assert (place / "small.safetensors").read_text() == "mine"
    assert distil(*words, "--force") == 0


def test_kept_teachers_replace_no_file_without_a_word(place, capsys):
    mine = place / "small.teacher-1.safetensors"
    save_network(build_network("resnet-8", classes=2), mine, model="resnet-8")
    before = mine.read_bytes()
    words = ["net.py:make", *DAY, *DUSK, "--keep-teachers"]

    assert distil(*words, "--teacher", "net.py:large") == 2
    assert "small.teacher-1.safetensors exists; --force replaces it" in capsys.readouterr().err
    assert distil(*words, "--teacher", mine.name, "--force") == 2
    assert "--keep-teachers would replace --teacher small.teacher-1.safetensors" in capsys.readouterr().err
    assert mine.read_bytes() == before


@pytest.mark.parametrize(
    ("method", "why"),
    [
        (["--method", "source-only"], "batch 25: from 2 up to the 24 pictures of the source"),
        ([*DUSK, "--method", "nearest", "--teachers", "."], "batch 25: from 2 up to the 20 pictures without labels"),
    ],
)
def test_a_batch_that_is_too_large_is_refused_before_pictures_are_decoded(place, capsys, monkeypatch, method, why):
    monkeypatch.delattr("ecotta_rt.student.tasks.distil.decoded")

    assert distil("net.py:make", *DAY, *method, "--batch", "25") == 2
    assert why in capsys.readouterr().err


def test_a_test_set_of_no_pictures_is_refused_before_the_training(place, capsys):
    for name in ("red", "green"):
        (place / "torn" / name).mkdir(parents=True)
        (place / "torn" / name / "1.png").write_bytes(b"torn")

    assert distil("net.py:make", *DAY, "--method", "source-only", "--test", "night=torn") == 4
    told = capsys.readouterr().err
    assert "torn" in told and "epoch 1" not in told
    assert left_behind(place) == []


def test_the_network_is_there_even_if_its_errors_cannot_be_told(place, monkeypatch):
    def full(*_):
        raise TransferError("no space")

    monkeypatch.setattr("ecotta_rt.student.tasks.distil.error_percent", full)

    assert distil("net.py:make", *DAY, "--method", "source-only", "--test", "day=day") == 74
    assert "small.safetensors" in left_behind(place)
    assert not [name for name in left_behind(place) if "frames" in name]


def test_a_frozen_teacher_may_answer_otherwise_in_training(place):
    words = ["net.py:make", *DAY, *DUSK, "--teacher", "net.py:Auxiliary", "--frozen-teacher", "--epochs", "1"]
    assert distil(*words) == 0


@pytest.mark.parametrize("out", [".", "..", "folder/.."])
def test_an_out_that_names_no_file_is_refused(place, capsys, out):
    assert distil("net.py:make", *DAY, "--method", "source-only", "--out", out) == 2

    assert f"--out {out!r} names no file" in capsys.readouterr().err


def test_the_command_knows_the_methods_that_there_are():
    parser = argparse.ArgumentParser()
    student_distil.add_arguments(parser)
    offered = next(action.choices for action in parser._actions if action.dest == "method")

    assert sorted(offered) == sorted((*METHODS, *RANKED))


def test_the_word_comes_first(capsys):
    assert main(["student", "distil", "--help"]) == 0
    assert "examples:" in capsys.readouterr().out
    assert main(["student", "paint"]) == 2
    assert main(["student"]) == 2
