"""The official CIFAR layouts: read in full, and refused by name when something is wrong."""

import os

import numpy as np
import pytest

from ecotta_rt.data.cifar import CIFAR_10, CIFAR_100, CifarC, binary_in, read_binary
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.stream import open_stream, source_frames
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.cifar import BINARIES

TEN, HUNDRED = BINARIES


def record(*labels: int, red: int = 1, green: int = 2, blue: int = 3) -> bytes:
    return bytes(labels) + bytes([red]) * 1024 + bytes([green]) * 1024 + bytes([blue]) * 1024


@pytest.fixture
def cifar_c(tmp_path):
    """A CIFAR-10-C folder of 3 images a severity; frame n of a file is filled with n."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    frames = np.broadcast_to(np.arange(15, dtype=np.uint8)[:, None, None, None], (15, 32, 32, 3))
    for name in CORRUPTIONS:
        np.save(folder / f"{name}.npy", frames)
    np.save(folder / "labels.npy", np.tile([3, 1, 9], 5))
    return folder


def test_class_names_are_complete():
    assert len(CIFAR_10) == 10
    assert len(set(CIFAR_100)) == 100
    assert list(CIFAR_100) == sorted(CIFAR_100)  # fine labels are numbered alphabetically


def test_cifar_10_binary_becomes_rgb_frames(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(record(7) + record(0, red=9))

    frames, labels = read_binary(tmp_path, TEN, "test")

    assert binary_in(tmp_path) is TEN
    assert frames.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(frames[:, 0, 0], [[1, 2, 3], [9, 2, 3]])
    np.testing.assert_array_equal(labels, [7, 0])


def test_rows_and_columns_of_a_plane_stay_in_order(tmp_path):
    plane = np.arange(1024).astype(np.uint8).tobytes()
    (tmp_path / "test_batch.bin").write_bytes(b"\0" + plane * 3)

    frames, _ = read_binary(tmp_path, TEN, "test")

    np.testing.assert_array_equal(frames[0, :, :, 1].ravel(), np.frombuffer(plane, np.uint8))


def test_the_five_training_files_are_read_in_order(tmp_path):
    for number, name in enumerate(TEN.train):
        (tmp_path / name).write_bytes(record(number))

    _, labels = read_binary(tmp_path, TEN, "train")

    np.testing.assert_array_equal(labels, [0, 1, 2, 3, 4])


def test_cifar_100_binary_gives_the_fine_label(tmp_path):
    (tmp_path / "test.bin").write_bytes(record(19, 99))

    _, labels = read_binary(tmp_path, HUNDRED, "test")

    assert binary_in(tmp_path) is HUNDRED
    np.testing.assert_array_equal(labels, [99])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes, not whole records"),
        (record(1)[:-1], "3072 bytes, not whole records of 3073, as cifar-10 has; truncated"),
        (record(1) + record(10), "label 10 at position 1, expected 0 to 9"),
    ],
)
def test_a_damaged_binary_file_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "test_batch.bin").write_bytes(content)

    with pytest.raises(InputFileError, match=rf"test_batch\.bin: {message}"):
        read_binary(tmp_path, TEN, "test")


def test_a_binary_file_longer_than_the_set_is_not_read(tmp_path):
    with (tmp_path / "test_batch.bin").open("wb") as file:
        file.truncate(60_001 * 3073)  # sparse: takes no room

    with pytest.raises(InputFileError, match="more than the 60000 records"):
        read_binary(tmp_path, TEN, "test")


def test_training_files_alone_will_do_and_so_will_some_of_them(tmp_path):
    for number in (2, 4):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(record(number))

    frames, labels = source_frames(tmp_path)

    assert frames.shape == (2, 32, 32, 3)
    assert sorted(labels) == [2, 4]
    with pytest.raises(InputFileError, match=r"test_batch\.bin: no such file"):
        open_stream(tmp_path)


def test_a_pipe_in_the_place_of_a_training_file_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "data_batch_1.bin")

    with pytest.raises(InputFileError, match="it is a pipe, not a regular file"):
        read_binary(tmp_path, TEN, "train")


def test_without_any_training_file_the_first_is_named(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(record(0))

    with pytest.raises(InputFileError, match=r"data_batch_1\.bin: no such file"):
        read_binary(tmp_path, TEN, "train")


def test_any_number_of_images_a_severity_is_read(cifar_c):
    files = CifarC(cifar_c)

    frames, labels = files.read("fog", severity=2)

    assert files.count == 3
    np.testing.assert_array_equal(frames[:, 0, 0, 0], [3, 4, 5])
    np.testing.assert_array_equal(labels, [3, 1, 9])
    assert files.classes == CIFAR_10


def test_a_folder_named_after_cifar_100_has_a_hundred_classes(cifar_c):
    hundred = cifar_c.rename(cifar_c.with_name("CIFAR-100-C"))

    assert CifarC(hundred).classes == CIFAR_100


def test_a_folder_of_a_hundred_frames_of_cifar_10_keeps_ten_classes(cifar_c):
    assert CifarC(cifar_c.rename(cifar_c.with_name("CIFAR-10-C-100"))).classes == CIFAR_10


def test_labels_above_nine_make_a_hundred_classes_where_the_folder_does_not_say(cifar_c):
    folder = cifar_c.rename(cifar_c.with_name("corrupted"))
    assert CifarC(folder).classes == CIFAR_10

    np.save(folder / "labels.npy", np.tile([3, 57, 9], 5))

    assert CifarC(folder).classes == CIFAR_100


def test_a_corruption_of_another_kind_is_refused_by_name(cifar_c, subtests):
    for frames, message in [
        (np.zeros((15, 32, 32, 3), np.int16), r"int16 of shape \[15, 32, 32, 3\], expected uint8"),
        (np.zeros((15, 28, 28, 3), np.uint8), r"uint8 of shape \[15, 28, 28, 3\], expected uint8 \[N, 32, 32, 3\]"),
        (np.zeros((15, 3, 32, 32), np.uint8), r"uint8 of shape \[15, 3, 32, 32\]"),
        (np.zeros((15, 3072), np.uint8), r"uint8 of shape \[15, 3072\]"),
        (np.zeros((10, 32, 32, 3), np.uint8), r"10 frames, but .*labels\.npy has 15 labels"),
    ]:
        with subtests.test(message):
            np.save(cifar_c / "snow.npy", frames)

            with pytest.raises(InputFileError, match=rf"snow\.npy: {message}"):
                CifarC(cifar_c).read("snow", severity=1)


def test_labels_of_another_kind_are_refused_by_name(cifar_c, subtests):
    for labels, message in [
        (np.tile([3, 1, 10], 5), "label 10 at position 2, expected 0 to 9"),
        (np.tile([3, 1, -1], 5), "label -1 at position 2"),
        (np.arange(8), r"8 labels, expected \[5 N\]"),
        (np.zeros((15, 1), int), r"int64 of shape \[15, 1\]"),
        (np.zeros(15), "float64 of shape .*, expected a whole number"),
    ]:
        with subtests.test(message):
            np.save(cifar_c / "labels.npy", labels)

            with pytest.raises(InputFileError, match=rf"labels\.npy: .*{message}"):
                CifarC(cifar_c)


def test_a_missing_corruption_is_told_with_those_that_are_there(cifar_c):
    (cifar_c / "snow.npy").unlink()

    with pytest.raises(InputFileError, match=r"no file snow\.npy in it; there are: brightness, .*, zoom_blur"):
        CifarC(cifar_c).read("snow", severity=5)


def test_missing_labels_are_named(cifar_c):
    (cifar_c / "labels.npy").unlink()

    with pytest.raises(InputFileError, match=r"labels\.npy: cannot be read \(No such file"):
        CifarC(cifar_c)
