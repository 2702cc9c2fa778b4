"""A network of somebody's own, from a file of Python: unwrapped, in float32, with the weights of a checkpoint."""

import pytest
import torch
from torch import nn

from ecotta_rt.errors import CheckpointError, NetworkError, UsageError
from ecotta_rt.prepare.open_network import open_network

OWN = """
import torch
from torch import nn
def bare():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
def make():
    return {}
"""


def opened(tmp_path, code, **given):
    heard = []
    (tmp_path / "own.py").write_text(OWN.replace("{}", code))
    return open_network(f"{tmp_path / 'own.py'}:make", tell=heard.append, **given), heard


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "code", ["nn.DataParallel(bare())", pytest.param("torch.compile(bare())", marks=pytest.mark.slow), "bare()"]
)
def test_wrappers_are_taken_off(tmp_path, code):
    network, heard = opened(tmp_path, code)

    assert type(network) is nn.Sequential
    assert heard == []


@pytest.mark.parametrize(("cast", "kind"), [("half", "float16"), ("double", "float64"), ("bfloat16", "bfloat16")])
def test_other_types_of_weights_are_converted_and_named(tmp_path, cast, kind):
    network, heard = opened(tmp_path, f"bare().{cast}()")

    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert heard == [f"weights of torch.{kind} were converted to torch.float32"]


def test_weight_norm_is_computed_once_from_the_checkpoints_weights(tmp_path):
    wrapped = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    torch.save(wrapped.state_dict(), tmp_path / "own.pt")

    network, heard = opened(
        tmp_path, "nn.Sequential(nn.utils.parametrizations.weight_norm(bare()[0]))", checkpoint=tmp_path / "own.pt"
    )

    assert type(network[0]) is nn.Conv2d
    assert torch.equal(network[0].weight, wrapped[0].weight)
    assert heard == ["the weight of 0 was computed at each call; as it is frozen it is now computed once"]


def test_what_was_done_to_a_checkpoint_is_heard(tmp_path):
    torch.save({f"net.{k}": v for k, v in bare().double().state_dict().items()}, tmp_path / "own.pt")

    _, heard = opened(tmp_path, "bare()", checkpoint=tmp_path / "own.pt")

    assert heard == [
        "the prefix 'net.' of the checkpoint's keys was taken off",
        "its torch.float64 weights were converted to torch.float32",
    ]


def bare():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_a_key_mapping_is_for_a_checkpoint(tmp_path):
    with pytest.raises(UsageError, match="--key-mapping renames the keys of a --checkpoint, and none is given"):
        opened(tmp_path, "bare()", key_mapping={"net.": ""})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("bare().to('meta')", r"0\.weight has no values \(device 'meta'\)"),
        ("torch.jit.script(bare())", "the network is a TorchScript module, .*: give the module it was scripted"),
        ("nn.Sequential(nn.LazyConv2d(4, 3))", "^0 is lazy and has no shape yet"),
        ("bare().to(torch.complex64)", r"0\.weight is torch\.complex64: adaptation wants float32 weights"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:Lazy modules:UserWarning")
@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
def test_what_has_no_plain_weights_is_refused(tmp_path, code, message):
    with pytest.raises(NetworkError, match=message):
        opened(tmp_path, code)


def test_a_factory_that_fails_is_one_line(tmp_path):
    with pytest.raises(UsageError) as caught:
        opened(tmp_path, "bare().load_state_dict({'x': 1})")

    assert str(caught.value).startswith(f"{tmp_path / 'own.py'}:make: make() raised RuntimeError: Error(s) in loading")
    assert "\n" not in str(caught.value)
    assert caught.type is not CheckpointError
