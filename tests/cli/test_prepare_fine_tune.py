"""`ecotta prepare --fine-tune` on a stranger's own network and pictures."""

import json

import numpy as np
import pytest
import torch

from ecotta_rt.cli.main import main
from ecotta_rt.prepare.looks import Seen
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.prepare.weights import read_safetensors
from ecotta_rt.state import AdaptState

Image = pytest.importorskip("PIL.Image")

NETWORK = """
import torch
from torch import nn


def cell(inputs, outputs, stride):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def make():
    torch.manual_seed(0)
    cells = cell(3, 4, 1), cell(4, 8, 2), cell(8, 8, 1)
    return nn.Sequential(*cells, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def computed():
    network = make()
    nn.utils.parametrizations.weight_norm(network[5])
    return network
"""
TINY = ["--parts", "2", "--epochs", "1", "--batch", "8", "--size", "8", "--threads", "1"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a network and two classes of twenty pictures each, a quarter of them to be held out."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("red", "green")):
        for number in range(20):
            pixels = rng.integers(0, 80, (8, 8, 3)).astype(np.uint8)
            pixels[..., label] += 150
            path = tmp_path / "pictures" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(*more, network="net.py:make", data="pictures"):
    return main(["prepare", network, "--out", "net", "--data", data, "--held-out", "0.25", *TINY, *more])


def files(here):
    return sorted(path.name for path in here.iterdir() if path.is_file())


def test_one_command_trains_the_network_and_then_its_groups(here, capsys):
    assert (
        prepare("--fine-tune", "3", "--fine-tune-lr", "0.1", "--no-bundle", "--json", "--mean", "0.5", "--std", "1")
        == 0
    )

    shown = capsys.readouterr()
    assert "fine-tuning: before it clean " in shown.err
    assert "fine-tuning: epoch 3/3" in shown.err
    done = json.loads(shown.out)
    tuning = done["fine_tuning"]
    assert tuning["used"] and (tuning["epochs"], tuning["lr"], tuning["pictures"]) == (3, 0.1, 30)
    assert set(tuning["held_out"]["wrong_percent"]["after"]) == {"clean", "corrupted"}
    assert done["files"] == ["net-fine-tuned.safetensors", "net.ecotta-k2.safetensors"]
    assert files(here) == ["net-fine-tuned.safetensors", "net.ecotta-k2.safetensors", "net.py"]
    state = AdaptState.load("net.ecotta-k2.safetensors")
    assert state.metadata["fine_tuned"].startswith("3 x 30 pictures, step size 0.1; held-out pictures wrong: clean ")

    # Its bundle is made of what stands there, with the option or without it, and says what was done.
    assert main(["prepare", "net.py:make", "--out", "net", "--mean", "0.5", "--std", "1", "--json", *TINY]) == 0
    shown = capsys.readouterr()
    assert "was warmed up on the fine-tuned network net-fine-tuned.safetensors" in shown.err
    assert json.loads(shown.out)["files"] == [*done["files"], "net.ecotta"]
    assert main(["inspect", "net.ecotta"]) == 0
    assert "fine_tuned" in capsys.readouterr().out

    # The file is a checkpoint of the owner's own network.
    again = open_network("net.py:make", checkpoint=here / "net-fine-tuned.safetensors")
    stored = read_safetensors("net-fine-tuned.safetensors")[0]
    assert all(torch.equal(value, stored[name].float()) for name, value in again.named_parameters())
    plain = dict(open_network("net.py:make").named_parameters())
    assert not any(torch.equal(value, plain[name]) for name, value in again.named_parameters())


def test_who_interrupts_goes_on_to_the_same_bytes(here, capsys, monkeypatch):
    from ecotta_rt.cli.progress import TrainingProgress

    asked = ["--fine-tune", "1", "--fine-tune-lr", "0.1", "--no-bundle"]
    assert prepare(*asked) == 0
    made = {name: (here / name).read_bytes() for name in files(here) if name != "net.py"}
    for name in made:
        (here / name).unlink()
    told, steps = TrainingProgress.__call__, []

    for title in ("fine-tuning", "warm-up K=2"):

        def interrupted(self, progress, title=title):
            told(self, progress)
            steps.append((self._title, progress.step))
            if self._title == title and progress.step == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(TrainingProgress, "__call__", interrupted)
        assert prepare(*asked) == 130
        assert "the same command goes on" in capsys.readouterr().err

    def noted(self, progress):
        told(self, progress)
        steps.append((self._title, progress.step))

    monkeypatch.setattr(TrainingProgress, "__call__", noted)

    assert prepare(*asked) == 0
    tuned, warmed = "fine-tuning", "warm-up K=2"
    first, second = [(tuned, 1), (tuned, 2)], [(tuned, 2), (tuned, 3), (warmed, 1), (warmed, 2)]
    assert steps == [*first, *second, (warmed, 2), (warmed, 3)]  # each took up what the one before had left
    assert "net-fine-tuned.safetensors exists and is used as it is" in capsys.readouterr().err
    assert {name: (here / name).read_bytes() for name in made} == made
    assert files(here) == sorted([*made, "net.py"])


def test_a_network_that_is_the_worse_for_it_is_prepared_as_it_was(here, capsys, monkeypatch):
    assert prepare("--no-bundle") == 0
    plain = AdaptState.load("net.ecotta-k2.safetensors")
    (here / "net.ecotta-k2.safetensors").unlink()
    wrong = [np.arange(10) < 1, np.arange(10) < 2]
    monkeypatch.setattr("ecotta_rt.prepare.looks.Looks.see", lambda self, network: Seen(wrong.pop(0), None))
    capsys.readouterr()

    code = prepare("--fine-tune", "1", "--no-bundle", "--json")

    shown = capsys.readouterr()
    assert code == 0, shown.err
    tuning = json.loads(shown.out)["fine_tuning"]
    assert tuning["held_out"]["wrong_percent"] == {"before": {"clean": 10.0}, "after": {"clean": 20.0}}
    assert not tuning["used"] and tuning["file"] is None
    assert "fine-tuning made it worse" in shown.err
    assert json.loads(shown.out)["files"] == ["net.ecotta-k2.safetensors"]
    assert files(here) == ["net.ecotta-k2.safetensors", "net.py"]
    state = AdaptState.load("net.ecotta-k2.safetensors")
    assert "fine_tuning_left_out" in state.metadata
    assert state.network_digest == plain.network_digest
    assert set(state.compare(plain).values()) == {0.0}


def test_what_cannot_be_done_is_refused_before_any_training(here, capsys, subtests):
    for more, network, data, reason in [
        (["--fine-tune", "1", "--unlabelled"], "net.py:make", "pictures", "--fine-tune needs labelled pictures"),
        (["--fine-tune", "1"], "net.py:make", "pictures/red", "--fine-tune needs labelled pictures"),
        (["--fine-tune", "0"], "net.py:make", "pictures", "--fine-tune 0"),
        (["--fine-tune", "1", "--fine-tune-lr", "-1"], "net.py:make", "pictures", "--fine-tune-lr -1"),
        (["--fine-tune", "1", "--fine-tune-lr", "nan"], "net.py:make", "pictures", "--fine-tune-lr nan"),
        (["--fine-tune-lr", "0.1"], "net.py:make", "pictures", "without --fine-tune"),
        (["--fine-tune", "1"], "net.py:computed", "pictures", "are computed at each call"),
    ]:
        with subtests.test(more=more, network=network):
            assert prepare(*more, "--no-bundle", network=network, data=data) == 2
            message = capsys.readouterr().err
            assert reason in message
            assert "Traceback" not in message
            assert files(here) == ["net.py"]
    assert main(["prepare", "net.py:make", "--fine-tune", "1", *TINY]) == 2
    assert "--fine-tune needs labelled pictures" in capsys.readouterr().err


def test_what_an_interrupted_fine_tuning_left_is_known_before_pictures_are_decoded(here, capsys, monkeypatch):
    from ecotta_rt.cli.progress import TrainingProgress

    def interrupted(self, progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingProgress, "__call__", interrupted)
        assert prepare("--fine-tune", "1", "--no-bundle") == 130
    left = (here / "net-fine-tuned.snapshot").read_bytes()

    capsys.readouterr()
    assert prepare("--fine-tune", "1", "--fine-tune-lr", "0.02", "--no-bundle") == 4
    message = capsys.readouterr().err
    assert "lr was 0.01 and is 0.02" in message
    assert "decoding" not in message and "pictures to learn from" not in message
    assert prepare("--no-bundle") == 0  # one without it leaves it alone
    assert (here / "net-fine-tuned.snapshot").read_bytes() == left
    assert prepare("--fine-tune", "1", "--fine-tune-lr", "0.02", "--no-bundle", "--force") == 0
    assert not (here / "net-fine-tuned.snapshot").exists()


def test_groups_of_the_network_as_it_was_are_not_taken_for_those_of_the_fine_tuned_one(here, capsys):
    assert prepare("--no-bundle") == 0

    assert prepare("--fine-tune", "1") == 2

    assert "was warmed up without --fine-tune; --force warms up again" in capsys.readouterr().err
    assert files(here) == ["net.ecotta-k2.safetensors", "net.py"]
