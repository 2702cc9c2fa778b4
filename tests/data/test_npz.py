import io
import zipfile

import numpy as np
import pytest

from ecotta_rt.data.npz import read_npz
from ecotta_rt.errors import InputFileError


def write(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def test_reads_grey_and_coloured_pictures_with_and_without_labels(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (5, 4, 6), dtype=np.uint8)
    coloured = rng.integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    path = write(tmp_path / "set.npz", x_train=grey, y_train=np.array([1, 0, 2, 1, 0], np.uint8), x_test=coloured)

    frames, labels = read_npz(path)
    assert np.array_equal(frames[..., 0], grey) and frames.shape == (5, 4, 6, 1)
    assert labels.dtype == np.int64 and labels.tolist() == [1, 0, 2, 1, 0]
    frames, labels = read_npz(path, "test")
    assert np.array_equal(frames, coloured) and labels is None


def test_reads_members_of_any_compression(tmp_path):
    array, content = np.zeros((2, 3, 3), np.uint8), io.BytesIO()
    np.save(content, array)
    with zipfile.ZipFile(tmp_path / "set.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x_train.npy", content.getvalue())

    assert read_npz(tmp_path / "set.npz")[0].shape == (2, 3, 3, 1)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"pictures": np.zeros(3)}, "no array x_train in it, only pictures"),
        ({"x_train": np.zeros((2, 4, 4))}, "x_train is float64"),
        ({"x_train": np.zeros((2, 4, 4, 4), np.uint8)}, "expected uint8"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8)}, "N > 0"),
        ({"x_train": np.zeros((2, 4, 4), np.uint8), "y_train": np.zeros(3, np.int64)}, r"shape \[3\] for 2 pictures"),
        ({"x_train": np.zeros((2, 4, 4), np.uint8), "y_train": np.array([0, -1])}, "goes from -1 to 0"),
        ({"x_train": np.array([{}, {}], object)}, "x_train is object"),
    ],
)
def test_refuses_arrays_of_another_kind(tmp_path, arrays, why):
    with pytest.raises(InputFileError, match=why):
        read_npz(write(tmp_path / "set.npz", **arrays))


def test_refuses_what_is_missing_damaged_or_no_archive(tmp_path):
    with pytest.raises(InputFileError, match="No such file"):
        read_npz(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputFileError, match="not a whole .npz"):
        read_npz(tmp_path / "text.npz")
    whole = write(tmp_path / "whole.npz", x_train=np.random.default_rng(0).integers(0, 256, (9, 9, 9), dtype=np.uint8))
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:500])
    with pytest.raises(InputFileError, match="not a whole .npz"):
        read_npz(tmp_path / "cut.npz")


def test_a_header_that_claims_more_than_there_is_allocates_nothing(tmp_path):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 32, 32)})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("x_train.npy", content.getvalue())

    with pytest.raises(InputFileError, match="claims 1,024,000,000,000,000 bytes"):
        read_npz(tmp_path / "bomb.npz")
