"""`ecotta prepare` with a checkpoint alone, and with pictures of which nobody says what they show."""

import importlib.util

import numpy as np
import pytest
import torch

from ecotta_rt.bundle import read_bundle
from ecotta_rt.cli.main import main
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.state import AdaptState

SOURCE = """
import torch.nn.functional as F
from torch import nn

class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks, self.fc = nn.Sequential(Block(3, 4), Block(4, 6), Block(6, 8)), nn.Linear(8, 10)

    def forward(self, frames):
        return self.fc(F.adaptive_avg_pool2d(self.blocks(frames), 1).flatten(1))
"""
LEARN = ["--epochs", "1", "--batch", "4", "--no-bundle"]


@pytest.fixture
def owned(tmp_path):
    """The words of a command that name a network of one's own and its weights, and the network."""
    (tmp_path / "own.py").write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("own", tmp_path / "own.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    network = module.Network()
    for norm in (block.bn for block in network.blocks):
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
    torch.save(network.state_dict(), tmp_path / "own.pt")
    words = [f"{tmp_path / 'own.py'}:Network", "--checkpoint", str(tmp_path / "own.pt"), "--parts", "2"]
    return ["prepare", *words, "--out", str(tmp_path / "own")], network.eval()


def test_a_checkpoint_alone_becomes_a_bundle_that_answers_as_the_network(owned, tmp_path, capsys):
    words, network = owned

    code = main([*words, "--size", "16", "--normalisation", "source", "--step-batch", "2"])

    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "the groups start as an identity" in shown.err
    assert "statistics follow" not in shown.err
    assert 'answers will be "0", "1" and so on; --classes NAMES' in shown.err
    runtime = Runtime.load(tmp_path / "own.ecotta")
    assert runtime.class_names == tuple("0123456789")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255).softmax(1)
    np.testing.assert_allclose(runtime.predict(pictures).probabilities, expected, atol=1e-5)
    manifest = read_bundle(tmp_path / "own.ecotta").manifest
    assert manifest.metadata["warm_up"].startswith("none") and "groups.0.norm" in manifest.metadata["momenta"]


def test_in_batches_the_norms_of_a_checkpoint_alone_learn_too_unless_the_groups_alone_are_asked_for(owned, tmp_path):
    words, _ = owned
    batches = ["--size", "16", "--normalisation", "batch", "--step-batch", "4"]
    for learn, optimiser in ((["--learn", "groups"], "sgd"), (["--force"], "signum")):
        assert main([*words, *batches, *learn]) == 0

        manifest = read_bundle(tmp_path / "own.ecotta").manifest
        learned = {array.name for array in manifest.layout.parameters}
        assert ("blocks.2.bn.weight" in learned) == (optimiser == "signum")
        assert manifest.options["optimiser"] == optimiser
    assert main([*words, *batches, "--bundle", str(tmp_path / "again.ecotta")]) == 0
    again = read_bundle(tmp_path / "again.ecotta").manifest
    assert (again.options["optimiser"], again.options["lr"]) == ("signum", 1e-3)


def test_names_may_be_given_to_a_checkpoint_alone(owned, tmp_path, capsys):
    words, _ = owned

    assert main([*words, "--size", "16", "--classes", "ant,bee,cat"]) == 2
    assert "3 class names" in capsys.readouterr().err
    assert main([*words, "--size", "16", "--no-bundle"]) == 0
    assert "statistics follow the stream from the first frame; --normalisation source" in capsys.readouterr().err
    assert AdaptState.load(tmp_path / "own.ecotta-k2.safetensors").metadata["parts"] == "2"


def test_without_data_a_network_that_does_not_say_its_frames_needs_their_size(owned, capsys):
    assert main(owned[0]) == 2
    assert "--size HxW" in capsys.readouterr().err


def test_a_folder_of_pictures_without_classes_warms_up_from_the_networks_own_answers(owned, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")

    code = main([*owned[0], "--data", str(tmp_path / "pictures"), *LEARN])

    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "the network's own answers" in shown.err
    assert AdaptState.load(tmp_path / "own.ecotta-k2.safetensors").metadata["labels"] == "the network's own answers"


def test_labels_that_are_there_are_left_alone_where_asked(owned, tmp_path, capsys):
    code = main([*owned[0], "--data", "fashion-mnist-c", "--frames", "16", "--unlabelled", *LEARN])

    assert code == 0, capsys.readouterr().err
    assert AdaptState.load(tmp_path / "own.ecotta-k2.safetensors").metadata["labels"] == "the network's own answers"


def test_unlabelled_data_have_to_be_somewhere(owned, capsys):
    assert main([*owned[0], "--unlabelled", "--size", "16"]) == 2
    assert "--unlabelled without --data" in capsys.readouterr().err
