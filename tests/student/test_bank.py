"""The file of a bank: comes back as it was, is refused when it cannot be one, and runs no code that it names."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.prepare.checkpoint import load_network, read_network_file
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.open_network import made_for, open_network
from ecotta_rt.student.slimda.bank import Bank, chosen_frames, load_bank, save_bank
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.slimmable.widths import at_ratio

FRAME = FrameSpec(3, 16, 16, "stretch")

FACTORY = """
from torch import nn
from ecotta_rt.prepare.networks.wide_resnet import WideResNet

def make():
    return WideResNet(10, 1, 3)
"""


def frames(count=8):
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def bank():
    torch.manual_seed(0)
    network = build_network("resnet-8", classes=3)
    return Bank(Slimmable.for_frame(network, FRAME), "resnet-8", ("a", "b", "c"), FRAME, 0.25, frames(), {"epochs": 2})


@pytest.fixture(scope="module")
def stored(bank, tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    save_bank(bank, path)
    return path


def rewritten(source, path, tensors=None, **metadata):
    with safe_open(source, "pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys()}
        merged = {**file.metadata(), **metadata}
    kept = {key: value for key, value in {**kept, **(tensors or {})}.items() if value is not None}
    save_file(kept, path, {key: value for key, value in merged.items() if value is not None})
    return path


def test_a_bank_comes_back_as_it_was(bank, stored):
    found = load_bank(stored)

    assert (found.network, found.classes, found.frame, found.least) == ("resnet-8", ("a", "b", "c"), FRAME, 0.25)
    assert np.array_equal(found.frames, bank.frames) and found.recipe == {"epochs": 2}
    widths = at_ratio(bank.slimmable.groups, 0.5)
    assert torch.equal(found.slimmable(bank.floats(), widths), bank.slimmable(bank.floats(), widths))


def test_a_width_of_it_is_a_network_file_of_ours_and_what_is_returned_is_what_is_loaded(bank, tmp_path):
    widths = at_ratio(bank.slimmable.groups, 0.5)

    network = bank.save_at(widths, tmp_path / "small.safetensors")

    loaded, x = load_network(tmp_path / "small.safetensors"), bank.floats()
    assert torch.equal(network(x), loaded(x))
    assert read_network_file(tmp_path / "small.safetensors").channels == widths
    recipe = {"epochs": 2, "classes": ["a", "b", "c"], "frame": [16, 16]}
    assert read_network_file(tmp_path / "small.safetensors").recipe == recipe
    assert made_for(str(tmp_path / "small.safetensors"), loaded) == (16, 16)


def test_a_bank_of_ones_own_network_asks_for_its_factory_and_gives_its_checkpoint(tmp_path):
    (tmp_path / "net.py").write_text(FACTORY, encoding="utf-8")
    name = f"{tmp_path / 'net.py'}:make"
    made = Bank(Slimmable.for_frame(open_network(name), FRAME), name, ("a", "b", "c"), FRAME, 0.25, frames())
    save_bank(made, tmp_path / "bank.safetensors")

    with pytest.raises(UsageError, match=r"name that network as FILE.py:FACTORY"):
        load_bank(tmp_path / "bank.safetensors")
    with pytest.raises(UsageError, match="no model of ours"):
        load_bank(tmp_path / "bank.safetensors", "resnet-8")
    found = load_bank(tmp_path / "bank.safetensors", name)
    widths = at_ratio(found.slimmable.groups, 0.5)
    small = found.save_at(widths, tmp_path / "small.safetensors")

    again = open_network(name, checkpoint=tmp_path / "small.safetensors").eval()
    assert torch.equal(small(made.floats()), again(made.floats()))


def test_a_bank_of_ours_takes_no_factory(stored):
    with pytest.raises(UsageError, match="is a bank of resnet-8; leave it out"):
        load_bank(stored, "net.py:make")


def test_the_frames_of_a_bank_are_few_and_of_all_targets():
    one, other = np.zeros((2000, 32, 32, 3), np.uint8), np.ones((100, 32, 32, 3), np.uint8)

    found = chosen_frames([one, other], seed=0)

    assert len(found) == 256 + 100 and int(found.max(axis=(1, 2, 3)).sum()) == 100
    assert len(chosen_frames([np.zeros((400, 224, 224, 3), np.uint8)], 0)) == (16 << 20) // (224 * 224 * 3)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"bank": None}, "no bank of ours"),
        ({"bank": "2"}, "no bank of ours"),
        ({"classes": '["a"]'}, "not a list of 2 names"),
        ({"classes": "[" * 50_000}, "classes is not JSON"),
        ({"classes": '["a", "b"]'}, "misshapen"),
        ({"frame": "[]"}, "not what a network takes"),
        ({"frame": '{"height": 1e9, "width": 16, "channels": 3, "resize": "cover", "crop": 1}'}, "not what a network"),
        (
            {"frame": '{"height": 900, "width": 16, "channels": 3, "resize": "cover", "crop": 1}'},
            "frames are not uint8",
        ),
        ({"frame": '{"height": 16, "width": 16, "channels": 3, "resize": "cut", "crop": 1}'}, "not what a network"),
        ({"least": "0"}, "not a ratio"),
        ({"least": "true"}, "not a ratio"),
        ({"mean": "3"}, "metadata no network can have"),
        ({"std": "[0, 0, 0]"}, "metadata no network can have"),
        ({"recipe": "{"}, "recipe is not JSON"),
    ],
)
def test_metadata_that_no_bank_has_is_refused(stored, tmp_path, metadata, sentence):
    with pytest.raises(InputFileError, match=sentence) as caught:
        load_bank(rewritten(stored, tmp_path / "hostile.safetensors", **metadata))
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"frames": None}, "frames are not uint8"),
        ({"frames": torch.zeros(4, 16, 16, 3)}, "frames are not uint8"),
        ({"frames": torch.zeros(1, 16, 16, 3, dtype=torch.uint8)}, "at least 2"),
        ({"network.conv1.weight": None}, "missing"),
        ({"network.conv1.weight": torch.full((16, 3, 3, 3), float("nan"))}, "NaN"),
        ({"network.more": torch.zeros(2)}, "unexpected"),
    ],
)
def test_tensors_that_no_bank_has_are_refused(stored, tmp_path, tensors, sentence):
    with pytest.raises(InputFileError, match=sentence):
        load_bank(rewritten(stored, tmp_path / "hostile.safetensors", tensors))


def test_a_network_that_is_named_in_a_file_is_not_run(stored, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit(99)", encoding="utf-8")
    hostile = rewritten(stored, tmp_path / "x.safetensors", network=f"{tmp_path / 'evil.py'}:make")

    with pytest.raises(UsageError, match="name that network"):
        load_bank(hostile)


def test_a_bank_with_nan_is_not_written(bank, tmp_path):
    torch.manual_seed(0)
    broken = Slimmable.for_frame(build_network("resnet-8", classes=3), FRAME)
    with torch.no_grad():
        broken.network.conv1.weight[0] = float("nan")

    with pytest.raises(UsageError, match=r"NaN or infinite values: conv1.weight"):
        save_bank(Bank(broken, "resnet-8", bank.classes, FRAME, 0.25, frames()), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
