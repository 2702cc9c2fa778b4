"""`ecotta merge --networks`: from network files and checkpoints to a file that opens again, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ecotta_rt.cli.main import main
from ecotta_rt.prepare.checkpoint import load_network, read_network_file, save_network
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.open_network import open_network

FACTORY = """
from torch import nn

def make(classes=3):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""


def merge(*words):
    return main(["merge", "--networks", *map(str, words)])


def moved(network, seed, by=0.02):
    """As if it had been fine-tuned: each weight a little elsewhere, other statistics."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += by * torch.randn_like(parameter)
    network.train()
    for _ in range(2):
        network(torch.rand(8, 3, 16, 16) ** (1 + seed))
    return network.eval()


def resnet(seed, classes=3, start=0):
    torch.manual_seed(start)
    network = build_network("resnet-8", classes=3)
    if classes != 3:
        network.linear = torch.nn.Linear(network.linear.in_features, classes)
    return moved(network, seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two networks of one checkpoint, one of another, one of other classes; the same as checkpoints of a factory."""
    folder = tmp_path_factory.mktemp("networks")
    for name, network in {
        "one": resnet(1),
        "two": resnet(2),
        "stranger": resnet(3, start=9),
        "five": resnet(4, classes=5),
    }.items():
        save_network(network, folder / f"{name}.safetensors", model="resnet-8", recipe={"frame": [16, 16]})
    (folder / "net.py").write_text(FACTORY, encoding="utf-8")
    for seed, name in ((1, "one.pt"), (2, "two.pt")):
        torch.manual_seed(0)
        torch.save({"state_dict": moved(open_network(f"{folder / 'net.py'}:make"), seed).state_dict()}, folder / name)
    np.save(folder / "frames.npy", np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), np.uint8))
    return folder


def test_network_files_become_one_that_opens_as_they_do(folder, tmp_path, capsys):
    out, told = tmp_path / "out.safetensors", tmp_path / "told.json"

    assert merge(folder / "one.safetensors", folder / "two.safetensors", "-o", out, "--json", told) == 0

    merged, (one, two) = load_network(out), (load_network(folder / f"{name}.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(merged.linear.bias, (one.linear.bias + two.linear.bias) / 2)
    assert read_network_file(out).recipe["frame"] == [16, 16]
    facts = json.loads(told.read_text())
    assert facts["files"] == [str(out)] and facts["pooled_by"] == "weights" and facts["cosines"][0] > 0.9
    assert "out.safetensors" in capsys.readouterr().out


def content(path):
    """Tensors and metadata, whose order in the file is the writer's chance."""
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()}, file.metadata()


def test_the_order_and_the_names_change_nothing(folder, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    renamed = tmp_path / "renamed.safetensors"
    renamed.write_bytes((folder / "one.safetensors").read_bytes())

    assert merge(folder / "one.safetensors", folder / "two.safetensors", "-o", first) == 0
    assert merge(folder / "two.safetensors", renamed, "-o", second) == 0

    assert content(first) == content(second)


def test_checkpoints_of_a_factory_become_one_that_it_takes_with_its_counts(folder, tmp_path):
    out = tmp_path / "out.safetensors"
    network = f"{folder / 'net.py'}:make"

    assert merge(network, "--checkpoint", folder / "one.pt", folder / "two.pt", "-o", out, "--weights", "3,1") == 0

    one, two = (torch.load(folder / name)["state_dict"] for name in ("one.pt", "two.pt"))
    merged = load_file(out)
    torch.testing.assert_close(merged["8.weight"], (3 * one["8.weight"] + two["8.weight"]) / 4)
    torch.testing.assert_close(merged["1.running_mean"], (one["1.running_mean"] + two["1.running_mean"]) / 2)
    assert int(merged["1.num_batches_tracked"]) == 4
    assert torch.equal(open_network(network, checkpoint=out)[8].weight, merged["8.weight"])


def test_with_heads_of_their_own_there_is_a_file_a_network(folder, tmp_path):
    out = tmp_path / "out.safetensors"

    assert merge(folder / "one.safetensors", folder / "five.safetensors", "-o", out, "--head", "auto") == 0

    assert not out.exists()
    first, second = (load_network(tmp_path / f"out-{number}.safetensors") for number in (1, 2))
    assert torch.equal(first.linear.weight, load_network(folder / "one.safetensors").linear.weight)
    assert second.linear.out_features == 5
    assert torch.equal(first.conv1.weight, second.conv1.weight)


def test_statistics_can_be_measured_on_pictures(folder, tmp_path):
    out = tmp_path / "out.safetensors"
    data = ["--data", folder / "frames.npy", "--recalibrate"]

    assert merge(folder / "one.safetensors", folder / "two.safetensors", "-o", out, *data) == 0

    merged, seen = load_network(out), []
    merged.bn1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    merged(torch.from_numpy(np.load(folder / "frames.npy")).permute(0, 3, 1, 2) / 255)
    torch.testing.assert_close(merged.bn1.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-3)


def test_networks_of_two_origins_are_refused_by_their_weights_and_nothing_is_written(folder, tmp_path, capsys):
    out = tmp_path / "out.safetensors"

    assert (
        merge(folder / "one.safetensors", folder / "two.safetensors", folder / "stranger.safetensors", "-o", out) == 4
    )

    error = capsys.readouterr().err
    assert "stranger.safetensors and " in error and "do not come from one checkpoint" in error and "0.3" in error
    assert not list(tmp_path.iterdir())


def test_networks_that_are_not_connected_are_refused_by_pictures(folder, tmp_path, capsys, monkeypatch):
    from ecotta_rt.merging import connectivity

    monkeypatch.setattr(connectivity, "HIGHEST_BARRIER", -1.0)
    same = shutil.copy(folder / "one.safetensors", tmp_path / "same.safetensors")
    words = [folder / "one.safetensors", same, "-o", tmp_path / "out.safetensors"]

    assert merge(*words, "--data", folder / "frames.npy") == 4

    assert "are not connected: the network half-way between them has gone 0.00" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["same.safetensors"]


def test_pictures_on_which_networks_do_not_agree_tell_nothing_and_that_is_said(folder, tmp_path, capsys):
    np.save(tmp_path / "few.npy", np.load(folder / "frames.npy")[:20])
    told = tmp_path / "told.json"
    words = [folder / "one.safetensors", folder / "two.safetensors", "-o", tmp_path / "out.safetensors"]

    assert merge(*words, "--data", tmp_path / "few.npy", "--json", told) == 0

    assert "of 20 pictures, too few to tell whether they are connected" in capsys.readouterr().err
    assert json.loads(told.read_text())["barriers"] == [None]


def rewritten(source, path, **tensors):
    with safe_open(source, "pt") as file:
        kept, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    save_file({key: value for key, value in {**kept, **tensors}.items() if value is not None}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"linear.bias": torch.full((3,), float("nan"))}, "'linear.bias' holds NaN"),
        ({"conv1.weight": None}, "missing (1): conv1.weight"),
        ({"conv1.weight": torch.zeros(16, 3, 1, 1)}, "misshapen (1): conv1.weight"),
    ],
)
def test_damaged_networks_are_refused_with_file_and_tensor(folder, tmp_path, capsys, change, says):
    bad = rewritten(folder / "two.safetensors", tmp_path / "bad.safetensors", **change)
    out = tmp_path / "out.safetensors"

    assert merge(folder / "one.safetensors", bad, "-o", out) == 4

    error = capsys.readouterr().err
    assert "bad.safetensors" in error and says in error
    assert not out.exists()


def test_files_of_ours_of_other_classes_or_models_are_refused(folder, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    save_network(build_network("resnet-20", classes=3), other, model="resnet-20")

    assert merge(folder / "one.safetensors", folder / "five.safetensors", "-o", tmp_path / "out.safetensors") == 4
    assert "five.safetensors: its classes is 5" in capsys.readouterr().err
    assert merge(folder / "one.safetensors", other, "-o", tmp_path / "out.safetensors") == 4
    assert "other.safetensors: its model is resnet-20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["one.safetensors"], "1 network to merge"),
        (["resnet-8", "resnet-8"], "resnet-8: its weights are needed"),
        (["one.safetensors", "two.safetensors", "--weights", "1"], "--weights: 1 numbers for 2 networks"),
        (["one.safetensors", "two.safetensors", "--weights", "1,0"], "weight 0 of"),
        (["one.safetensors", "two.safetensors", "--weights", "counts"], "--weights counts"),
        (["one.safetensors", "two.safetensors", "--recalibrate"], "--recalibrate measures on pictures"),
        (["one.safetensors", "two.safetensors", "--head", "fc"], "--head fc"),
        (["one.safetensors", "--checkpoint", "one.pt", "two.pt"], "all of them belong to one network"),
        (["one.safetensors", "two.safetensors", "--robust"], "--robust: for states of boards"),
        (["one.safetensors", "two.safetensors", "--source-share", "0.3"], "--source-share: for states of boards"),
        (["one.safetensors", "two.safetensors", "--most-left-out", "0"], "--most-left-out: for states of boards"),
        (["one.safetensors", "two.safetensors", "--clusters", "0"], "--clusters: for states of boards"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(folder, tmp_path, capsys, monkeypatch, words, says):
    monkeypatch.chdir(folder)

    assert merge(*words, "-o", tmp_path / "out.safetensors") == 2

    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_are_replaced_only_where_that_is_asked(folder, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    words = [folder / "one.safetensors", folder / "two.safetensors", "-o", out]

    assert merge(*words) == 0
    assert merge(*words) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert merge(*words, "--force") == 0
    assert merge(folder / "one.safetensors", out, "-o", out, "--force") == 2


def test_a_network_that_is_named_twice_is_refused(folder, tmp_path, capsys):
    one = folder / "one.safetensors"

    assert merge(one, folder / ".." / folder.name / "one.safetensors", "-o", tmp_path / "out.safetensors") == 2
    assert "is named twice" in capsys.readouterr().err
