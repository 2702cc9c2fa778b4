"""Fashion-MNIST: the embedded sample and the reader of the official files."""

import gzip
import os
import runpy
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotta_rt.data.fashion_mnist import CLASSES, is_fashion_mnist, read_fashion_mnist, read_idx
from ecotta_rt.errors import EcottaError, InputFileError, TransferError
from ecotta_rt.files.npy import map_npy

CHECKOUT = Path(__file__).parents[2]
SAMPLE = CHECKOUT / "benchmarks" / "data" / "fashion-mnist-sample"


def idx(array: np.ndarray, shape: tuple[int, ...] | None = None, kind: int = 8) -> bytes:
    shape = shape or array.shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + array.tobytes()


def write(folder: Path, split: str, images: bytes, labels: bytes) -> None:
    (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


@pytest.mark.parametrize(("split", "count"), [("train", 4000), ("t10k", 2500)])
def test_the_sample_is_balanced_and_shuffled(split, count):
    frames, labels = read_fashion_mnist(SAMPLE, split)

    assert frames.shape == (count, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(labels), [count // 10] * 10)
    assert len(set(labels[:20].tolist())) > 5


def test_no_image_of_the_sample_is_in_both_splits():
    train, test = ({frame.tobytes() for frame in read_fashion_mnist(SAMPLE, split)[0]} for split in ("train", "t10k"))

    assert not train & test


def test_the_sample_stays_small_and_carries_its_licence():
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) <= 3_000_000
    licence = (SAMPLE / "LICENSE").read_text()
    assert "Copyright (c) 2017 Zalando SE" in licence
    assert "MIT License" in licence


def test_frames_are_padded_by_two_and_grey(tmp_path):
    image = np.arange(784).astype(np.uint8).reshape(1, 28, 28)
    write(tmp_path, "t10k", idx(image), idx(np.array([4], np.uint8)))

    frames, labels = read_fashion_mnist(tmp_path, "t10k")

    assert is_fashion_mnist(tmp_path)
    for channel in range(3):
        np.testing.assert_array_equal(frames[0, 2:30, 2:30, channel], image[0])
    assert frames.sum() == 3 * image.sum()  # the border is zero
    np.testing.assert_array_equal(labels, [4])


ONE = np.zeros((1, 28, 28), np.uint8)


def test_a_damaged_file_is_refused_by_name(tmp_path, subtests):
    for images, labels, message in [
        (idx(np.zeros((1, 32, 32), np.uint8)), idx(np.zeros(1, np.uint8)), "images of 32x32 pixels, expected 28x28"),
        (idx(ONE), idx(np.zeros(2, np.uint8)), r"labels-idx1-ubyte\.gz: 2 labels for the 1 images"),
        (idx(ONE), idx(np.array([10], np.uint8)), "label 10, expected 0 to 9"),
        (idx(ONE)[:-1], idx(np.zeros(1, np.uint8)), r"ends early: its header promises 784 elements"),
        (idx(ONE) + b"x", idx(np.zeros(1, np.uint8)), "goes on: its header promises 784"),
        (idx(ONE, kind=13), idx(np.zeros(1, np.uint8)), "not an idx file of uint8"),
        (idx(ONE)[:9], idx(np.zeros(1, np.uint8)), "not an idx file"),
        (idx(ONE, shape=(2**31, 28, 28)), idx(np.zeros(1, np.uint8)), "claims a shape of"),
        (idx(ONE, shape=(1, 2**20, 28)), idx(np.zeros(1, np.uint8)), "claims a shape of"),
    ]:
        with subtests.test(message):
            write(tmp_path, "t10k", images, labels)

            with pytest.raises(InputFileError, match=message):
                read_fashion_mnist(tmp_path, "t10k")


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(idx(ONE), mtime=0)[:-9]])
def test_a_file_that_is_not_whole_gzip_is_refused(tmp_path, content):
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(content)

    with pytest.raises(InputFileError, match="not a whole gzip file|not an idx file"):
        read_idx(path, axes=3)


def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(TransferError, match="it is a pipe, not a regular file"):
        read_idx(tmp_path / "pipe", axes=1)
    with pytest.raises(InputFileError, match="it is a pipe, not a regular file"):
        map_npy(tmp_path / "pipe")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputFileError, match=r"train-images-idx3-ubyte\.gz: no such file"):
        read_fashion_mnist(tmp_path, "train")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 60), byte=st.integers(0, 255))
def test_a_damaged_byte_gives_an_array_or_one_of_our_errors(tmp_path, at, byte):
    path = tmp_path / "labels.gz"
    content = bytearray(gzip.compress(idx(np.arange(40, dtype=np.uint8)), mtime=0))
    content[at % len(content)] = byte
    path.write_bytes(content)

    try:
        outcome = str(read_idx(path, axes=1).shape)
    except EcottaError as error:
        outcome = str(error)

    assert outcome == "(40,)" or str(path) in outcome


def test_the_script_makes_a_balanced_sample_and_the_same_bytes_again(tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    generator = np.random.default_rng(0)
    for split in ("train", "t10k"):
        labels = np.repeat(np.arange(10, dtype=np.uint8), 6)
        images = generator.integers(0, 256, (60, 28, 28), np.uint8)
        write(full, split, idx(images), idx(labels))
    main = runpy.run_path(str(CHECKOUT / "benchmarks" / "make_fashion_mnist_sample.py"))["main"]

    made = []
    for name in ("first", "second"):
        out = tmp_path / name
        assert main(["--data", str(full), "--out", str(out), "--train", "30", "--test", "20"]) == 0
        made.append({path.name: path.read_bytes() for path in out.iterdir()})

    assert "30 training and 20 test images" in capsys.readouterr().out
    assert made[0] == made[1]
    assert sorted(made[0]) == sorted(path.name for path in SAMPLE.iterdir())
    _, labels = read_fashion_mnist(tmp_path / "first", "t10k")
    np.testing.assert_array_equal(np.bincount(labels), [2] * len(CLASSES))
