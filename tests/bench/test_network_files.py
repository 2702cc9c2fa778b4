import hashlib

import pytest

from ecotta_rt.bench.network_files import dataset_of, find_network
from ecotta_rt.errors import Unavailable, UsageError


@pytest.fixture
def networks(tmp_path, monkeypatch):
    folder = tmp_path / "assets" / "networks"
    folder.mkdir(parents=True)
    for name in (
        "wrn-40-2-fashion-mnist",
        "resnet-20-fashion-mnist",
        "wrn-40-2-cifar-10",
        "wrn-40-2-cifar-10.ecotta-k4",
    ):
        (folder / f"{name}.safetensors").write_bytes(name.encode())
    monkeypatch.setenv("ECOTTA_ASSETS", str(folder.parent))
    return folder


@pytest.mark.parametrize(
    ("stream", "dataset"),
    [
        ("fashion-mnist-c", "fashion-mnist"),
        ("cifar-10-c", "cifar-10"),
        ("cifar-100-c", "cifar-100"),
        ("cifar-10 (corrupted here)", "cifar-10"),
    ],
)
def test_a_stream_tells_its_data_set(stream, dataset):
    assert dataset_of(stream) == dataset


def test_a_network_is_found_by_model_and_data_set(networks):
    files = find_network("wrn-40-2", "cifar-10")

    assert files.network == networks / "wrn-40-2-cifar-10.safetensors"
    assert files.beside("ecotta-k4") == networks / "wrn-40-2-cifar-10.ecotta-k4.safetensors"
    assert files.digest() == hashlib.sha256(b"wrn-40-2-cifar-10").hexdigest()


@pytest.mark.parametrize("model", ["wrn-40-3", "", "../networks/wrn-40-2", "wrn-40-2-cifar-10.ecotta-k4"])
def test_an_unknown_model_is_refused_with_those_there_are(networks, model):
    with pytest.raises(
        UsageError, match="there are: resnet-20-fashion-mnist, wrn-40-2-cifar-10, wrn-40-2-fashion-mnist"
    ):
        find_network(model, "fashion-mnist")


def test_the_nearest_model_is_named(networks):
    with pytest.raises(UsageError, match=r"did you mean wrn-40-2\?"):
        find_network("wrn40-2", "fashion-mnist")


def test_a_model_may_be_a_file(networks, tmp_path):
    own = tmp_path / "mine.safetensors"
    own.write_bytes(b"")

    files = find_network(str(own), "fashion-mnist")

    assert files.network == own
    assert files.model == "mine"
    assert files.beside("ecotta-k5") == tmp_path / "mine.ecotta-k5.safetensors"


def test_a_model_file_that_is_not_there_is_told(networks):
    with pytest.raises(UsageError, match="no such file"):
        find_network("none.safetensors", "fashion-mnist")


def test_assets_without_any_network_are_unavailable(networks):
    for path in networks.iterdir():
        path.unlink()

    with pytest.raises(Unavailable, match="no trained network"):
        find_network("wrn-40-2", "fashion-mnist")
