"""`ecotta student rank` on small networks and a folder of pictures."""

import json

import numpy as np
import pytest
import torch

from ecotta_rt.cli.main import main
from ecotta_rt.prepare.checkpoint import save_network
from ecotta_rt.prepare.networks import build_network

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def pictures(tmp_path):
    """Three classes of eight pictures: mostly red, mostly green, mostly blue."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green", "red")):
        (tmp_path / "few" / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 80, (12, 16, 3)).astype(np.uint8)
            pixels[..., 2 - label] += 150
            Image.fromarray(pixels).save(tmp_path / "few" / name / f"{number}.png")
    return str(tmp_path / "few")


@pytest.fixture
def networks(tmp_path):
    """Two networks with random weights."""
    (tmp_path / "networks").mkdir()
    for seed, (name, classes) in enumerate({"two": 2, "five": 5}.items()):
        torch.manual_seed(seed)
        network = build_network("resnet-8", classes=classes).eval()
        save_network(network, tmp_path / "networks" / f"{name}.safetensors", model="resnet-8")
    return str(tmp_path / "networks")


def test_the_nearest_stands_first_in_table_json_and_picture(networks, pictures, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "ranking.json", tmp_path / "weights.svg"
    line = ["student", "rank", networks, "--data", pictures, "--measure", "parc", "leep"]

    assert main([*line, "--json", str(out), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out.splitlines()
    facts = json.loads(out.read_text())
    names = [one["name"] for one in facts["networks"]]
    assert [row.split()[0] for row in printed[2:4]] == names
    assert sorted(names) == ["five", "two"]
    parc = [one["scores"]["parc"] for one in facts["networks"]]
    assert parc == sorted(parc, reverse=True)
    assert sum(one["weight"] for one in facts["networks"]) == pytest.approx(1)
    assert all(one["standard_error"] > 0 and one["scores"]["leep"] < 0 for one in facts["networks"])
    assert (facts["pictures"], facts["classes"], facts["frame"], facts["measures"]) == (
        24,
        3,
        [32, 32],
        ["parc", "leep"],
    )
    assert "24 labelled pictures of 3 classes; weights by parc, power 12" in printed[0]
    assert "<svg" in plot.read_text()


def test_bare_json_is_alone_and_the_same_twice(networks, pictures, capsys):
    line = ["student", "rank", networks, "--data", pictures, "--json", "--size", "16", "--frames", "12", "--seed", "3"]

    assert main(line) == 0
    first = capsys.readouterr().out
    assert main(line) == 0
    assert capsys.readouterr().out == first
    assert json.loads(first)["pictures"] == 12
    assert json.loads(first)["frame"] == [16, 16]


def test_a_bad_file_is_named_and_left_out_when_asked(networks, pictures, tmp_path, capsys):
    (tmp_path / "networks" / "torn.safetensors").write_bytes(b"torn")
    line = ["student", "rank", networks, "--data", pictures]

    assert main(line) == 4
    assert "torn.safetensors" in capsys.readouterr().err
    assert main([*line, "--leave-out"]) == 0
    assert "left out: torn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "code", "why"),
    [
        (["--measure", "similarity"], 2, "known: parc, cka, h-score, logme, leep"),
        (["--power", "-1"], 2, "p must be 0"),
        (["--frames", "0"], 2, "frames 0"),
        (["--size", "8000"], 2, "frames of 8000x8000: at most 1024"),
        (["--frames", "4"], 2, "too few"),
        (["--plot", "weights.gif"], 2, "no picture format"),
        (["--threads", "0"], 2, "at least 1"),
        (["--data", "nowhere"], 4, "no such folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(networks, pictures, capsys, more, code, why):
    assert main(["student", "rank", networks, "--data", pictures, *more]) == code
    assert why in capsys.readouterr().err


def test_one_class_is_refused_before_a_network_is_opened(networks, pictures, tmp_path, capsys):
    (tmp_path / "one" / "red").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "red" / "1.png")
    (tmp_path / "networks" / "torn.safetensors").write_bytes(b"torn")

    assert main(["student", "rank", networks, "--data", str(tmp_path / "one")]) == 4
    assert "torn" not in capsys.readouterr().err
