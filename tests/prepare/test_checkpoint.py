"""Network files, ours and foreign: what is written comes back, what does not fit is refused whole."""

import json
import os
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ecotta_rt.errors import CheckpointError, InputFileError, TransferError, UsageError
from ecotta_rt.prepare.checkpoint import load_checkpoint, load_network, read_network_file, save_network
from ecotta_rt.prepare.networks import build_network

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


def trained(classes=10):
    torch.manual_seed(0)
    network = build_network("resnet-20", classes=classes, mean=MEAN, std=STD)
    network(torch.rand(4, 3, 32, 32))  # moves the statistics
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return trained()


@pytest.fixture(scope="module")
def ours(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "resnet-20.safetensors"
    save_network(network, path, model="resnet-20", test_accuracy_percent=91.234, recipe={"seed": 3})
    return path


def same_state(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def rewritten(ours, path, *, metadata=None, tensors=None):
    """`ours` with other metadata or tensors; a value of None leaves the entry out."""
    with safe_open(ours, "pt") as file:
        old, kept = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}
    merged = {**old, **(metadata or {})}
    all_tensors = {**kept, **(tensors or {})}
    save_file(
        {key: value for key, value in all_tensors.items() if value is not None},
        path,
        {key: value for key, value in merged.items() if value is not None},
    )
    return path


# Our own files


def test_a_saved_network_comes_back(network, ours):
    loaded = load_network(ours)

    assert not loaded.training
    assert {value.dtype for key, value in loaded.state_dict().items() if "num_batches" not in key} == {torch.float32}
    for key, value in network.state_dict().items():
        expected = value.half().float() if value.ndim > 1 else value
        if "num_batches" not in key:
            assert torch.equal(loaded.state_dict()[key], expected), key
    assert torch.equal(loaded.normalise.mean, network.normalise.mean)
    assert torch.equal(loaded.normalise.std, network.normalise.std)


def test_a_file_tells_what_it_holds(ours):
    described = read_network_file(ours)

    assert (described.model, described.classes) == ("resnet-20", 10)
    assert (described.mean, described.std) == (MEAN, STD)
    assert described.test_accuracy_percent == 91.23
    assert described.recipe == {"seed": 3}


def test_weights_take_two_bytes_and_counters_none(ours, network):
    weights = sum(parameter.numel() for parameter in network.parameters())

    assert ours.stat().st_size < 2.4 * weights


def test_a_weight_too_large_for_fp16_stays_fp32(tmp_path):
    network = trained()
    with torch.no_grad():
        network.conv1.weight[0, 0, 0, 0] = 1e6
    save_network(network, tmp_path / "large.safetensors", model="resnet-20")

    assert torch.equal(load_network(tmp_path / "large.safetensors").conv1.weight, network.conv1.weight)


def test_saving_leaves_one_file_and_replaces_it(tmp_path, network):
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"older")

    save_network(network, path, model="resnet-20")

    assert os.listdir(tmp_path) == ["network.safetensors"]
    assert load_network(path) is not None


def test_a_failed_save_leaves_the_old_file(tmp_path, network, monkeypatch):
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"older")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(TransferError, match="No space left"):
        save_network(network, path, model="resnet-20")
    assert os.listdir(tmp_path) == ["network.safetensors"]
    assert path.read_bytes() == b"older"


def test_saving_below_a_file_is_an_error(tmp_path, network):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(TransferError, match=r"network\.safetensors cannot be written"):
        save_network(network, tmp_path / "file" / "network.safetensors", model="resnet-20")


@pytest.mark.parametrize("model", ["resnet-56", "resnet-21"])
def test_a_network_is_not_saved_under_another_name(tmp_path, network, model):
    with pytest.raises(UsageError, match=f"cannot save CifarResNet as '{model}'"):
        save_network(network, tmp_path / "network.safetensors", model=model)


def test_a_foreign_network_is_not_saved_as_ours(tmp_path):
    with pytest.raises(UsageError, match="cannot save Linear as 'resnet-20'"):
        save_network(nn.Linear(3, 2), tmp_path / "network.safetensors", model="resnet-20")


def test_a_network_with_nan_is_not_saved(tmp_path):
    network = trained()
    with torch.no_grad():
        network.bn1.weight[0] = float("nan")

    with pytest.raises(UsageError, match=r"NaN or infinite values: bn1\.weight"):
        save_network(network, tmp_path / "network.safetensors", model="resnet-20")


def test_metadata_no_network_can_have_is_refused(ours, tmp_path, subtests):
    for metadata, message in [
        ({"model": None}, "names no model"),
        ({"model": "resnet-19"}, "names the model 'resnet-19'; known models"),
        ({"classes": "1"}, "classes is 1, not a whole number from 2"),
        ({"classes": "1000000000"}, "classes is 1000000000"),
        ({"classes": "ten"}, "classes is not JSON"),
        ({"classes": "true"}, "classes is True"),
        ({"classes": None}, "classes is None"),
        ({"mean": "[0.5, 0.5]"}, "mean is .*, not three finite numbers"),
        ({"mean": "[" * 100_000}, "mean is not JSON"),
        ({"std": "[0.5, NaN, 0.5]"}, "std is .*, not three finite numbers"),
        ({"std": "[0.5, 0, 0.5]"}, "metadata no network can have: std="),
        ({"mean": "[1" + "0" * 400 + ", 0, 0]"}, "mean is .*, not three finite numbers"),
        ({"test_accuracy_percent": "101"}, "test_accuracy_percent is 101"),
        ({"recipe": "[]"}, "recipe is list"),
    ]:
        with subtests.test(message):
            path = rewritten(ours, tmp_path / "hostile.safetensors", metadata=metadata)

            with pytest.raises(InputFileError, match=message):
                load_network(path)


def test_tensors_no_network_can_have_are_refused(ours, tmp_path, subtests):
    for tensors, error, message in [
        ({"linear.bias": torch.zeros(11)}, CheckpointError, "linear.bias 11, network 10"),
        ({"linear.bias": None}, CheckpointError, r"missing \(1\): linear.bias 10"),
        ({"extra": torch.zeros(2, 3)}, CheckpointError, r"unexpected \(1\): extra 2x3"),
        ({"bn1.bias": torch.full((16,), float("nan"))}, InputFileError, "'bn1.bias' holds NaN"),
        ({"bn1.running_var": torch.full((16,), -1.0)}, InputFileError, "variance of -1, below 0"),
        ({"bn1.bias": torch.zeros(16, dtype=torch.int32)}, InputFileError, "'bn1.bias' is torch.int32"),
    ]:
        with subtests.test(message):
            path = rewritten(ours, tmp_path / "hostile.safetensors", tensors=tensors)

            with pytest.raises(error, match=message):
                load_network(path)


def test_a_truncated_file_is_refused_wherever_it_ends(ours, tmp_path):
    whole, path = ours.read_bytes(), tmp_path / "short.safetensors"
    for length in [*range(16), 200, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputFileError, match="not a whole safetensors file"):
            load_network(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.binary(max_size=200), length=st.integers(0, 2**64 - 1) | st.none())
def test_no_header_brings_more_than_an_input_error(tmp_path, header, length):
    path = tmp_path / "fuzzed.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)

    with pytest.raises(InputFileError):
        load_network(path)


def test_a_header_that_lies_about_its_tensors_is_refused(tmp_path):
    header = json.dumps({"conv1.weight": {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 16]}}).encode()
    path = tmp_path / "lying.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))

    with pytest.raises(InputFileError, match="not a whole safetensors file"):
        load_network(path)


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), os.mkfifo], ids=["absent", "folder", "pipe"]
)
def test_what_is_no_file_is_refused(tmp_path, make):
    path = tmp_path / "network.safetensors"
    make(path)

    with pytest.raises(InputFileError, match="No such file|not a file"):
        load_network(path)


def test_a_file_larger_than_any_network_is_refused_unread(tmp_path):
    path = tmp_path / "huge.safetensors"
    with open(path, "wb") as file:
        file.truncate(3 * 1024**3)  # sparse: takes no space

    with pytest.raises(InputFileError, match="3221225472 bytes, more than"):
        load_network(path)


# Foreign checkpoints


def renamed(network, rename):
    return OrderedDict((rename(key), value) for key, value in network.state_dict().items())


def test_a_state_dict_is_found_where_scripts_keep_it(tmp_path, network, subtests):
    for wrapper in [None, "state_dict", "model_state", "model_state_dict", "model", "net", "ema"]:
        with subtests.test(wrapper=wrapper):
            state = network.state_dict()
            torch.save(state if wrapper is None else {"epoch": 3, wrapper: state}, tmp_path / "foreign.pt")
            target = build_network("resnet-20")

            load_checkpoint(target, tmp_path / "foreign.pt")

            assert same_state(network, target)
            assert target.training


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_prefixes_of_wrappers_are_dropped_and_counters_optional(tmp_path, network, legacy):
    state = {f"module._orig_mod.{k}": v for k, v in network.state_dict().items() if "num_batches_tracked" not in k}
    torch.save({"state_dict": state}, tmp_path / "foreign.th", _use_new_zipfile_serialization=not legacy)
    target = build_network("resnet-20")

    load_checkpoint(target, tmp_path / "foreign.th")

    assert torch.equal(target.conv1.weight, network.conv1.weight)
    assert int(target.bn1.num_batches_tracked) == 0


def test_a_child_called_module_keeps_its_name(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Conv2d(3, 4, 1)

    source, target = Wrapped(), Wrapped()
    torch.save(source.state_dict(), tmp_path / "foreign.pt")

    load_checkpoint(target, tmp_path / "foreign.pt")

    assert same_state(source, target)


def test_half_precision_safetensors_load_into_full_precision(tmp_path, network):
    save_file(
        {key: value.half() for key, value in network.state_dict().items() if value.ndim}, tmp_path / "f.safetensors"
    )
    target = build_network("resnet-20")

    load_checkpoint(target, tmp_path / "f.safetensors")

    assert target.conv1.weight.dtype == torch.float32
    assert torch.equal(target.conv1.weight, network.conv1.weight.half().float())


@pytest.mark.parametrize(
    "mapping",
    [
        {"net.": "", "net.head.": "linear.", "ema.": None},
        lambda key: None if key.startswith("ema.") else key.replace("net.head.", "linear.").removeprefix("net."),
    ],
    ids=["prefixes", "function"],
)
def test_a_key_mapping_renames_and_drops(tmp_path, network, mapping):
    state = renamed(network, lambda key: "net." + key.replace("linear.", "head."))
    torch.save({**state, "ema.decay": torch.ones(3)}, tmp_path / "foreign.pt")
    target = build_network("resnet-20")

    load_checkpoint(target, tmp_path / "foreign.pt", mapping)

    assert same_state(network, target)


@pytest.mark.parametrize("beside", [{}, {"loss.weight": torch.ones(3), "metric.total": torch.ones(1)}])
def test_one_prefix_is_taken_off_and_named_when_everything_fits(tmp_path, network, beside):
    torch.save({"state_dict": {**renamed(network, lambda key: f"model.{key}"), **beside}}, tmp_path / "lightning.ckpt")
    target = build_network("resnet-20")

    lines = load_checkpoint(target, tmp_path / "lightning.ckpt")

    assert same_state(network, target)
    assert lines[0] == "the prefix 'model.' of the checkpoint's keys was taken off"
    assert lines[1:] == (("2 tensors outside of it were left out: loss.weight, metric.total",) if beside else ())


def test_a_prefix_of_the_network_is_put_on(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "foreign.pt")
    target = nn.Sequential(OrderedDict(net=build_network("resnet-20")))

    assert load_checkpoint(target, tmp_path / "foreign.pt") == (
        "the checkpoint's keys got the prefix 'net.' of the network",
    )
    assert same_state(network, target.net)


def test_two_networks_in_one_checkpoint_are_a_choice(tmp_path, network):
    both = {**renamed(network, lambda key: f"student.{key}"), **renamed(network, lambda key: f"teacher.{key}")}
    torch.save(both, tmp_path / "foreign.pt")

    with pytest.raises(
        CheckpointError, match=r"2 networks that fit, under student\., teacher\.: .*--key-mapping student\.="
    ):
        load_checkpoint(build_network("resnet-20"), tmp_path / "foreign.pt")
    load_checkpoint(build_network("resnet-20"), tmp_path / "foreign.pt", {"student.": "", "teacher.": None})


def test_averaged_weights_are_found_in_what_holds_them(tmp_path, network):
    torch.save({"epoch": 3, "ema": {"decay": 0.9, "module": network.state_dict()}}, tmp_path / "foreign.pt")
    target = build_network("resnet-20")

    load_checkpoint(target, tmp_path / "foreign.pt")

    assert same_state(network, target)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_other_types_are_converted_and_named(tmp_path, network, kind):
    torch.save(
        {k: v.to(kind) if v.is_floating_point() else v for k, v in network.state_dict().items()}, tmp_path / "f.pt"
    )
    target = build_network("resnet-20")

    assert load_checkpoint(target, tmp_path / "f.pt") == (f"its {kind} weights were converted to torch.float32",)
    assert target.conv1.weight.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_refused_with_the_way_to_its_weights(tmp_path, network):
    torch.jit.save(torch.jit.trace(network.eval(), torch.rand(1, 3, 32, 32)), tmp_path / "scripted.pt")

    with pytest.raises(InputFileError, match=r"a TorchScript archive, .*torch\.jit\.load\(FILE\)\.state_dict\(\)"):
        load_checkpoint(build_network("resnet-20"), tmp_path / "scripted.pt")


def test_two_keys_that_become_one_are_refused(tmp_path, network):
    torch.save({**network.state_dict(), "old.conv1.weight": network.conv1.weight}, tmp_path / "foreign.pt")

    with pytest.raises(CheckpointError, match=r"'conv1\.weight' and 'old\.conv1\.weight' both become 'conv1\.weight'"):
        load_checkpoint(build_network("resnet-20"), tmp_path / "foreign.pt", {"old.": ""})


def test_one_error_lists_what_is_missing_unexpected_and_misshapen(tmp_path):
    torch.save(trained(classes=100).state_dict() | {"head.scale": torch.ones(3, 4)}, tmp_path / "foreign.pt")
    target = build_network("resnet-20")
    before = {key: value.clone() for key, value in target.state_dict().items()}
    target.add_module("more", nn.Sequential(*(nn.Linear(2, 3) for _ in range(5))))

    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(target, tmp_path / "foreign.pt")

    message = str(caught.value)
    assert "does not fit CifarResNet" in message
    assert "missing (10): more.0.weight 3x2; more.0.bias 3;" in message
    assert "and 4 more" in message
    assert "unexpected (1): head.scale 3x4" in message
    assert "misshapen (2): linear.weight 100x64, network 10x64; linear.bias 100, network 10" in message
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    ("rename", "advice"),
    [
        (lambda key: key.replace("linear.", "fc."), "key_mapping={'fc.': 'linear.'} (--key-mapping fc.=linear.)"),
        (
            lambda key: "network." + key.replace("bn1.", "norm1."),
            "a key_mapping from the checkpoint's prefixes to the network's (--key-mapping OLD=NEW)",
        ),
    ],
    ids=["classifier", "several"],
)
def test_the_advice_is_a_mapping_that_works(tmp_path, network, rename, advice):
    torch.save(renamed(network, rename), tmp_path / "foreign.pt")
    target = build_network("resnet-20")

    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(target, tmp_path / "foreign.pt")

    assert f"try: {advice}" in str(caught.value)


def test_the_advice_for_another_number_of_classes_is_that_number(tmp_path):
    torch.save(trained(classes=100).state_dict(), tmp_path / "foreign.pt")

    with pytest.raises(CheckpointError, match="try: a network built with classes=100"):
        load_checkpoint(build_network("resnet-20"), tmp_path / "foreign.pt")


def test_a_refused_checkpoint_leaves_the_network_alone(tmp_path, network):
    torch.save({**network.state_dict(), "linear.bias": torch.full((10,), float("inf"))}, tmp_path / "foreign.pt")
    target = build_network("resnet-20")
    before = {key: value.clone() for key, value in target.state_dict().items()}

    with pytest.raises(InputFileError, match="'linear.bias' holds NaN or infinite"):
        load_checkpoint(target, tmp_path / "foreign.pt")

    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def robustbench(network, mean, std):
    unused = {f"sub_block1.{key}": value for key, value in network.block1.state_dict().items()}
    return {**network.state_dict(), **unused, "mu": torch.tensor(mean).view(1, 3, 1, 1), "sigma": torch.tensor(std)}


def test_robustbench_extras_are_left_out(tmp_path):
    source, target = build_network("wrn-40-2"), build_network("wrn-40-2")
    torch.save(robustbench(source, [0.5] * 3, [0.5] * 3), tmp_path / "foreign.pt")

    load_checkpoint(target, tmp_path / "foreign.pt")

    assert same_state(source, target)


def test_a_checkpoint_with_another_preprocessing_is_refused(tmp_path):
    torch.save(robustbench(build_network("wrn-40-2"), [0.4, 0.5, 0.5], [0.5] * 3), tmp_path / "foreign.pt")

    with pytest.raises(
        CheckpointError, match=r"trained with mu \[0\.4, 0\.5, 0\.5\], the network normalises with \[0\.5"
    ):
        load_checkpoint(build_network("wrn-40-2"), tmp_path / "foreign.pt")


class Payload:
    """Would create a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("content", ["code", "network"])
def test_a_checkpoint_that_needs_code_is_refused_and_not_run(tmp_path, content):
    trap = tmp_path / "ran"
    torch.save({"state_dict": Payload(trap) if content == "code" else nn.Linear(2, 2)}, tmp_path / "hostile.pt")

    with pytest.raises(InputFileError, match="would run code from it; refused.*save only"):
        load_checkpoint(build_network("resnet-20"), tmp_path / "hostile.pt")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [({"epoch": 3}, r"no tensors in it, only the keys \['epoch'\]"), ([1, 2], "holds list, not a state dict")],
)
def test_a_file_without_weights_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "empty.pt")

    with pytest.raises(InputFileError, match=message):
        load_checkpoint(build_network("resnet-20"), tmp_path / "empty.pt")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_truncated_torch_file_is_refused_wherever_it_ends(tmp_path, network, legacy):
    path, target = tmp_path / "foreign.pt", build_network("resnet-20")
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in [0, 1, 2, 9, 100, len(whole) // 3, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputFileError):
            load_checkpoint(target, path)


def test_a_file_that_unpacks_to_more_than_a_network_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data/0", bytes(2 * 1024**2))
    monkeypatch.setattr("ecotta_rt.prepare.weights._LARGEST_FILE_BYTES", 1024**2)

    with pytest.raises(InputFileError, match="unpacks to 2097152 bytes, more than the 1048576"):
        load_checkpoint(build_network("resnet-20"), path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04"]))
def test_no_bytes_bring_more_than_an_input_error(tmp_path, content, start):
    path = tmp_path / "fuzzed.pt"
    path.write_bytes(start + content)

    with pytest.raises(InputFileError):
        load_checkpoint(_TINY, path)


_TINY = nn.Conv2d(1, 1, 1)


# Real checkpoints


def cifar_accuracy_percent(network, frames=250):
    folder = Path(os.environ["ECOTTA_DATA"]) / "cifar-10-batches-bin"
    records = np.fromfile(folder / "test_batch.bin", np.uint8, count=frames * 3073).reshape(-1, 3073)
    images, labels = (
        torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)),
        torch.from_numpy(records[:, 0].astype(np.int64)),
    )
    with torch.no_grad():
        right = int((network(images.float() / 255).argmax(1) == labels).sum())
    return 100 * right / frames


@pytest.mark.parametrize(
    ("model", "file", "measured"),
    [("resnet-20", "resnet20-12fca82f.th", 79.6), ("resnet-56", "resnet56-4bfd9763.th", 82.8)],
)
def test_a_public_checkpoint_loads_and_classifies(model, file, measured):
    """Measured once on the first 250 test images; half a point, one image, covers another machine's rounding."""
    if "ECOTTA_DATA" not in os.environ:
        pytest.skip("ECOTTA_DATA is not set: no CIFAR-10 images")
    path = Path(os.environ["ECOTTA_DATA"]).parent / "models" / file
    if not path.exists():
        pytest.skip(f"no {file} in the folder `models` beside $ECOTTA_DATA")
    network = build_network(model).eval()

    load_checkpoint(network, path)

    assert cifar_accuracy_percent(network) == pytest.approx(measured, abs=0.5)
