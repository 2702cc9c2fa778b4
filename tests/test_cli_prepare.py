import pytest
import torch

from ecotta_rt.cli.main import main
from ecotta_rt.prepare.attach import attach
from ecotta_rt.prepare.checkpoint import load_network, save_network
from ecotta_rt.prepare.engine import TorchEngine
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.partition import partition
from ecotta_rt.state import AdaptState

TINY = ["--data", "fashion-mnist-c", "--frames", "64", "--epochs", "2", "--batch", "32", "--statistics-frames", "32"]


@pytest.fixture
def network_file(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    save_network(build_network("resnet-20"), path, model="resnet-20")
    return path


def test_a_network_becomes_a_warmed_up_one_that_an_engine_takes(network_file, capsys):
    assert main(["prepare", str(network_file), *TINY]) == 0

    warmed = network_file.with_name("net.ecotta-k4.safetensors")
    shown = capsys.readouterr()
    assert shown.out.strip() == str(warmed)
    assert "epoch 2/2" in shown.err
    assert sorted(p.name for p in warmed.parent.iterdir()) == ["net.ecotta-k4.safetensors", "net.safetensors"]
    network = attach(partition(load_network(network_file), torch.zeros(1, 3, 32, 32), 4))
    assert TorchEngine(network, state=AdaptState.load(warmed))(torch.rand(4, 3, 32, 32)).shape == (4, 10)


def test_foreign_weights_are_stored_beside_the_state_that_fits_them(tmp_path, capsys):
    torch.manual_seed(0)
    torch.save({"state_dict": build_network("resnet-20").state_dict()}, tmp_path / "foreign.pt")
    out = tmp_path / "mine"

    code = main(["prepare", "resnet-20", "--checkpoint", str(tmp_path / "foreign.pt"), "--out", str(out), *TINY])

    assert code == 0, capsys.readouterr().err
    network = attach(partition(load_network(tmp_path / "mine.safetensors"), torch.zeros(1, 3, 32, 32), 4))
    TorchEngine(network, state=AdaptState.load(tmp_path / "mine.ecotta-k4.safetensors"))


def test_a_warmed_up_state_is_not_overwritten_unless_asked(network_file, capsys):
    warmed = network_file.with_name("net.ecotta-k5.safetensors")
    warmed.write_bytes(b"precious")

    assert main(["prepare", str(network_file), "--parts", "5", *TINY]) == 2
    assert "--force" in capsys.readouterr().err
    assert warmed.read_bytes() == b"precious"
    assert main(["prepare", str(network_file), "--parts", "5", "--force", *TINY]) == 0
    assert len(AdaptState.load(warmed).parameters) == 25


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["resnet-20", "--data", "fashion-mnist-c"], 2, "--checkpoint"),
        (["resnet-21", "--data", "fashion-mnist-c"], 2, "unknown network 'resnet-21'"),
        (["nowhere.safetensors", "--data", "fashion-mnist-c"], 4, "nowhere.safetensors"),
        (["NET", "--data", "nowhere"], 2, "nowhere"),
        (["NET", *TINY, "--frames", "8"], 2, "8 frames"),
        (["NET", *TINY, "--kernel", "2"], 2, "kernel=2"),
        (["NET", *TINY, "--parts", "99"], 2, "99 parts"),
        (["NET", *TINY, "--jitter", "7"], 2, "jitter=7"),
        (["NET", *TINY, "--epochs", "0"], 2, "epochs=0"),
    ],
)
def test_a_users_mistake_is_one_line_and_writes_nothing(network_file, capsys, arguments, code, reason):
    arguments = [str(network_file) if word == "NET" else word for word in arguments]

    assert main(["prepare", *arguments]) == code

    message = capsys.readouterr().err
    assert reason in message
    assert "Traceback" not in message
    assert [p.name for p in network_file.parent.iterdir()] == ["net.safetensors"]
