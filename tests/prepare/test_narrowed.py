"""The file of a narrower network: `ecotta prepare` and `plan` take it as they take any other."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from ecotta_rt.cli.main import main
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.method.width.groups import find_groups
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.checkpoint import load_network, read_network_file, save_network
from ecotta_rt.prepare.narrowed import parse_channels, save_narrowed
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.open_network import made_for, open_network

CHANNELS = {"conv1": 4, "layer2.0.conv2": 3, "layer1.0.conv1": 2, "layer3.2.conv1": 16}

FACTORY = """
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.conv3, self.bn3 = nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * 16, 3)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(x)))
        y = F.relu(y + self.bn3(self.conv3(y)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        return self.fc(y.reshape(y.size(0), 16 * 16))

def make():
    torch.manual_seed(0)
    return Net()
"""


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    network = build_network("resnet-20", classes=3)
    return narrow(find_groups(network, torch.zeros(1, 3, 32, 32)), CHANNELS).eval()


@pytest.fixture(scope="module")
def ours(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("narrowed") / "slim.safetensors"
    save_network(small, path, model="resnet-20", channels=CHANNELS)
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """FILE.py:make, its narrower checkpoint, and that network."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "net.py").write_text(FACTORY, encoding="utf-8")
    network = open_network(f"{folder / 'net.py'}:make")
    channels = {"conv1": 3, "conv2": 5}
    narrowed = narrow(find_groups(network, torch.zeros(1, 3, 16, 16)), channels).eval()
    save_narrowed(narrowed, folder / "slim.safetensors", channels=channels, frame=(3, 16, 16))
    return f"{folder / 'net.py'}:make", folder / "slim.safetensors", narrowed


def rewritten(source, path, **metadata):
    with safe_open(source, "pt") as file:
        merged = {**file.metadata(), **metadata}
        save_file({key: file.get_tensor(key) for key in file.keys()}, path, {k: v for k, v in merged.items() if v})
    return path


def rounded(network):
    """As a file holds it: weights in fp16."""
    state = {key: value.half().float() if value.ndim > 1 else value for key, value in network.state_dict().items()}
    return torch.func.functional_call(network, state, torch.ones(1, 3, 32, 32) / 2)


def test_a_file_of_ours_comes_back_as_it_was(small, ours):
    assert torch.equal(load_network(ours)(torch.ones(1, 3, 32, 32) / 2), rounded(small))
    assert read_network_file(ours).channels == CHANNELS
    assert made_for(str(ours), load_network(ours)) == (32, 32)


@pytest.mark.parametrize("frame", [[60000, 60000], [32, 1025], [0, 32], [True, True], [32], "32x32", [32.0, 32]])
def test_a_file_that_names_other_frames_than_a_network_may_have_is_refused(tmp_path, frame):
    path = tmp_path / "theirs.safetensors"
    network = build_network("resnet-8", classes=2)
    save_network(network, path, model="resnet-8", recipe={"frame": frame})

    with pytest.raises(InputFileError, match=r"theirs\.safetensors: frame is .* up to 1024"):
        made_for(str(path), network)


def test_a_network_of_ones_own_becomes_as_narrow_as_its_checkpoint(own):
    name, path, narrowed = own
    told = []

    network = open_network(name, checkpoint=path, tell=told.append)

    frames = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(network.eval()(frames), narrowed(frames), rtol=1e-2, atol=1e-3)
    assert [value.shape for value in network.state_dict().values()] == [v.shape for v in narrowed.state_dict().values()]
    assert made_for(name, network) == (16, 16)
    assert told[0].startswith(f"{path} is a narrower network: ")


def test_a_network_of_another_width_cannot_be_saved_as_this_one(small, tmp_path):
    with pytest.raises(UsageError, match="other names or shapes"):
        save_network(small, tmp_path / "x.safetensors", model="resnet-20", channels={**CHANNELS, "conv1": 5})
    with pytest.raises(UsageError, match="other names or shapes"):
        save_network(small, tmp_path / "x.safetensors", model="resnet-20")
    assert not list(tmp_path.iterdir())


def test_prepare_and_plan_take_a_narrow_file_of_ours(ours, tmp_path, capsys):
    bundle = tmp_path / "slim.ecotta"

    assert main(["prepare", str(ours), "--out", str(tmp_path / "slim")]) == 0
    capsys.readouterr()
    assert main(["plan", str(bundle), "--device", "raspberry-pi-zero-2w", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["fits"] is True


def test_prepare_takes_a_model_with_a_narrow_checkpoint(ours, tmp_path):
    out = tmp_path / "slim"

    code = main(
        ["prepare", "resnet-20", "--checkpoint", str(ours), "--classes", "a,b,c", "--no-bundle", "--out", str(out)]
    )

    assert code == 0
    assert read_network_file(out.with_suffix(".safetensors")).channels == CHANNELS


def test_prepare_and_plan_take_a_network_of_ones_own_with_a_narrow_checkpoint(own, tmp_path, capsys):
    name, path, _ = own
    arguments = ["--parts", "1", "--normalisation", "source", "--out", str(tmp_path / "own")]

    assert main(["prepare", name, "--checkpoint", str(path), *arguments]) == 0
    assert main(["plan", str(tmp_path / "own.ecotta"), "--device", "raspberry-pi-zero-2w"]) == 0

    assert "narrower network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"channels": "{"}, "channels is not JSON"),
        ({"channels": "[" * 100_000}, "channels is not JSON"),
        ({"channels": "[1]"}, "not a JSON object"),
        ({"channels": "null"}, "not a JSON object"),
        ({"channels": '{"conv1": 0}'}, "is 0, not a number from 1"),
        ({"channels": '{"conv1": true}'}, "is True, not a number"),
        ({"channels": '{"conv1": 4.0}'}, "is 4.0, not a number"),
        ({"channels": '{"conv1": 1e400}'}, "is inf, not a number"),
        ({"channels": '{"conv1": 17}'}, "from 1 to 16 channels is left"),
        ({"channels": json.dumps({"conv1": 10**30})}, "not a number from 1"),
        ({"channels": '{"stem": 4}'}, "'stem' is no channel group"),
        ({"channels": '{"conv1": 5}'}, "misshapen"),
        ({"channels": "{}"}, "misshapen"),
        ({"channels": json.dumps({str(n): 1 for n in range(20_000)})}, "not a JSON object, group to channels"),
    ],
)
def test_metadata_that_no_network_can_have_is_refused(ours, tmp_path, capsys, metadata, sentence):
    hostile = rewritten(ours, tmp_path / "hostile.safetensors", **metadata)

    code = main(["prepare", str(hostile), "--no-bundle", "--out", str(tmp_path / "out")])

    error = capsys.readouterr().err
    assert code == 4
    assert sentence in error
    assert len(error) < 3000
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.safetensors"]


@pytest.mark.parametrize(
    "frame", ["", "[3, 16]", "[3, 16, 0]", "[3, 16, -1]", "[3, 16, 5000]", "[4, 16, 16]", '["3", 1, 1]', "[true, 9, 9]"]
)
def test_frames_that_no_network_takes_are_refused(own, tmp_path, frame):
    name, path, _ = own

    with pytest.raises(InputFileError, match="frame is"):
        open_network(name, checkpoint=rewritten(path, tmp_path / "x.safetensors", frame=frame))


def test_frames_of_another_size_or_colour_are_refused(own, tmp_path):
    name, path, _ = own

    with pytest.raises(InputFileError, match="frames of 1 channels; this network takes 3"):
        open_network(name, checkpoint=rewritten(path, tmp_path / "x.safetensors", frame="[1, 16, 16]"))
    with pytest.raises(InputFileError, match="says that channels were removed from this network, but"):
        open_network(name, checkpoint=rewritten(path, tmp_path / "x.safetensors", frame="[3, 64, 64]"))


@settings(max_examples=200)
@given(st.text(max_size=40) | st.recursive(st.integers() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_any_metadata_is_refused_or_read(text):
    try:
        found = parse_channels({"channels": text}, "x")
    except InputFileError:
        return
    assert found is not None and all(count >= 1 for count in found.values())
