import numpy as np
import pytest
import torch

from ecotta_rt.bundle import read_bundle
from ecotta_rt.cli.main import main
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.prepare.checkpoint import load_network, save_network
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.runtime.engine import Runtime
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
    assert shown.out.split() == [str(warmed), str(network_file.with_name("net.ecotta"))]
    assert "epoch 2/2" in shown.err
    written = sorted(p.name for p in warmed.parent.iterdir())
    assert written == ["net.ecotta", "net.ecotta-k4.safetensors", "net.safetensors"]
    network = attach(partition(load_network(network_file), torch.zeros(1, 3, 32, 32), 4))
    assert TorchEngine(network, state=AdaptState.load(warmed))(torch.rand(4, 3, 32, 32)).shape == (4, 10)


def test_foreign_weights_are_stored_beside_the_state_that_fits_them(tmp_path, capsys):
    torch.manual_seed(0)
    torch.save({"state_dict": build_network("resnet-20").state_dict()}, tmp_path / "foreign.pt")
    out = tmp_path / "mine"

    given = ["--checkpoint", str(tmp_path / "foreign.pt"), "--out", str(out), "--no-bundle"]

    code = main(["prepare", "resnet-20", *given, *TINY])

    assert code == 0, capsys.readouterr().err
    network = attach(partition(load_network(tmp_path / "mine.safetensors"), torch.zeros(1, 3, 32, 32), 4))
    TorchEngine(network, state=AdaptState.load(tmp_path / "mine.ecotta-k4.safetensors"))


def test_weights_that_stand_where_the_network_would_go_are_not_overwritten(network_file, capsys):
    """The default for OUT is the model id, and so may be the name of the checkpoint."""
    before = network_file.read_bytes()
    arguments = ["resnet-20", "--out", str(network_file.with_suffix("")), *TINY]
    foreign = network_file.with_name("foreign.pt")
    torch.save(build_network("resnet-20").state_dict(), foreign)

    for checkpoint in (network_file, foreign):
        assert main(["prepare", *arguments, "--checkpoint", str(checkpoint)]) == 2
        assert "--out" in capsys.readouterr().err
    assert network_file.read_bytes() == before


def test_a_network_of_ones_own_is_frozen_in_evaluation_mode(tmp_path, capsys):
    """A factory returns it in training mode; a functional dropout would stay on, and no two steps would agree."""
    (tmp_path / "own.py").write_text(
        "import torch.nn.functional as F\n"
        "from ecotta_rt.prepare.networks.wide_resnet import WideResNet\n"
        "class Own(WideResNet):\n"
        "    def forward(self, frames):\n"
        "        assert not self.training\n"
        "        return super().forward(F.dropout(frames, 0.5, training=self.training))\n"
        "def make():\n"
        "    return Own(10, 1)\n"
    )

    code = main(["prepare", f"{tmp_path / 'own.py'}:make", "--parts", "2", "--out", str(tmp_path / "own"), *TINY])

    assert code == 0, capsys.readouterr().err


def test_a_warmed_up_state_is_not_overwritten_unless_asked(network_file, capsys):
    warmed = network_file.with_name("net.ecotta-k5.safetensors")
    warmed.write_bytes(b"precious")
    alone = ["prepare", str(network_file), "--parts", "5", "--no-bundle", *TINY]

    assert main(alone) == 2
    assert "--force" in capsys.readouterr().err
    assert warmed.read_bytes() == b"precious"
    assert main([*alone, "--force"]) == 0
    assert len(AdaptState.load(warmed).parameters) == 25


def test_a_state_that_exists_is_exported_as_it_is_and_the_bundle_runs(network_file, capsys):
    warmed = network_file.with_name("net.ecotta-k4.safetensors")
    TorchEngine(attach(partition(load_network(network_file), torch.zeros(1, 3, 32, 32), 4))).state.save(warmed)
    before = warmed.read_bytes()
    bundle = network_file.with_name("other.ecotta")

    assert main(["prepare", str(network_file), "--bundle", str(bundle), "--l1-weight", "0.1", *TINY]) == 0

    assert read_bundle(bundle).manifest.options["l1_weight"] == 0.1
    assert "exported as it is" in capsys.readouterr().err
    assert warmed.read_bytes() == before
    runtime = Runtime.load(bundle)
    assert runtime.class_names[9] == "Ankle boot"
    assert runtime(np.zeros((1, 32, 32, 3), np.uint8)).probabilities.shape == (1, 10)
    assert main(["prepare", str(network_file), "--bundle", str(bundle), *TINY]) == 2
    assert f"{bundle} exists" in capsys.readouterr().err


def test_who_interrupts_a_warm_up_hears_how_it_goes_on(network_file, monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ecotta_rt.prepare.pipeline.prepare", interrupted)

    assert main(["prepare", str(network_file), *TINY]) == 130
    assert "the same command goes on after the last whole tenth of an epoch" in capsys.readouterr().err


def test_a_damaged_state_is_not_exported(network_file, capsys):
    network_file.with_name("net.ecotta-k4.safetensors").write_bytes(b"precious")

    assert main(["prepare", str(network_file), *TINY]) == 4
    assert "net.ecotta-k4.safetensors" in capsys.readouterr().err
    assert not network_file.with_name("net.ecotta").exists()


def test_a_users_mistake_is_one_line_and_writes_nothing(network_file, capsys, subtests):
    for arguments, code, reason in [
        (["resnet-20", "--data", "fashion-mnist-c"], 2, "--checkpoint"),
        (["resnet-21", "--data", "fashion-mnist-c"], 2, "unknown network 'resnet-21'"),
        (["nowhere.safetensors", "--data", "fashion-mnist-c"], 4, "nowhere.safetensors"),
        (["NET", "--data", "nowhere"], 2, "nowhere"),
        (["NET", *TINY, "--frames", "8"], 2, "8 frames"),
        (["NET", *TINY, "--kernel", "2"], 2, "kernel=2"),
        (["NET", *TINY, "--kernel", "0"], 2, "kernel=0"),
        (["NET", *TINY, "--threads", "0"], 2, "threads=0"),
        (["NET", *TINY, "--milestones", "3", "6"], 2, "milestones"),
        (["NET", *TINY, "--parts", "99"], 2, "99 parts"),
        (["NET", *TINY, "--augment", "jitter:7"], 2, "jitter:7"),
        (["NET", *TINY, "--augment", "jitter:much"], 2, "'much' is no strength"),
        (["NET", *TINY, "--augment", "augmax"], 2, "did you mean augmix?"),
        (["NET", *TINY, "--augment-draws", "0"], 2, "draws=0"),
        (["NET", *TINY, "--epochs", "0"], 2, "epochs=0"),
        (["NET", *TINY, "--normalisation", "batch", "--step-batch", "1"], 2, "batch 1"),
        (["NET", *TINY, "--step-batch", "0"], 2, "batches [0]"),
        (["NET", *TINY, "--normalisation", "batch", "--frame-by-frame"], 2, "frame_by_frame"),
        (["NET", *TINY, "--step-lr", "-1"], 2, "lr=-1"),
        (["NET", *TINY, "--l1-weight", "-1"], 2, "l1_weight=-1"),
    ]:
        with subtests.test(arguments=arguments):
            arguments = [str(network_file) if word == "NET" else word for word in arguments]

            assert main(["prepare", *arguments]) == code

            message = capsys.readouterr().err
            assert reason in message
            assert "Traceback" not in message
            assert [p.name for p in network_file.parent.iterdir()] == ["net.safetensors"]
