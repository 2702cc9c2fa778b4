"""Hostile .npy files: refused in a sentence, whatever they claim."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotta_rt.data.npy_file import open_npy
from ecotta_rt.errors import EcottaError, InputFileError


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def header(descr: str = "'|u1'", fortran: bool = False, shape: str = "(4,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4"])
def test_integers_are_mapped_as_they_were_saved(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    np.save(tmp_path / "a.npy", array)

    mapped = open_npy(tmp_path / "a.npy")

    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, array)
    assert not mapped.flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .npy file"),
        (b"PK\x03\x04 a zip", "not a .npy file"),
        (b"\x93NUMPY", "not a .npy file"),
        (npy(header(), b"abc"), r"ends early: uint8 of shape \(4,\) takes 4 bytes, and 3 are there"),
        (npy(header(), b"abcde"), "goes on after its data"),
        (npy(header(shape="(2, 0)")), "empty"),
        (npy(header(shape="(2**62,)"), b"abcd"), "not a .npy file"),
        (npy(header(shape="(4611686018427387904, 4)"), b"abcd"), "ends early"),
        (npy(header(shape="(-4,)"), b"abcd"), "negative shape|ends early"),
        (npy(header(shape="(-2, -2)"), b"abcd"), "negative shape"),
        (npy(header(shape="'four'"), b"abcd"), "not a .npy file"),
        (npy(header("'|O'"), b"abcd"), "elements of dtype object, expected integers"),
        (npy(header("'<f4'", shape="(1,)"), b"abcd"), "elements of dtype float32"),
        (npy(header("[('a', '|u1')]"), b"abcd"), "expected integers"),
        (npy(header("'nonsense'"), b"abcd"), "not a .npy file"),
        (npy(header(fortran=True, shape="(2, 2)"), b"abcd"), "in Fortran order"),
        (npy("__import__('os').system('true')"), "not a .npy file"),
        (npy("{" * 900), "not a .npy file"),
        (npy(" " * 20000 + header(), b"abcd"), "a .npy header of 20[0-9]{3} bytes, more than 4096"),
        (npy(header(), b"abcd", version=(3, 0)), "format version 3.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "a .npy header of 4294967295 bytes, more than 4096"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused(tmp_path, content, message):
    path = tmp_path / "fog.npy"
    path.write_bytes(content)

    with pytest.raises(InputFileError, match=message) as caught:
        open_npy(path)

    assert str(path) in str(caught.value)


def test_a_pickled_object_array_is_not_unpickled(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)

    with pytest.raises(InputFileError, match="dtype object"):
        open_npy(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputFileError, match=r"labels\.npy: no such file"):
        open_npy(tmp_path / "labels.npy")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 127), byte=st.integers(0, 255), cut=st.integers(0, 140))
def test_a_damaged_header_gives_the_array_or_one_of_our_errors(tmp_path, at, byte, cut):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(12, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(content[: cut or None])

    try:
        outcome = open_npy(path).nbytes
    except EcottaError as error:
        outcome = str(error)

    assert str(path) in outcome if isinstance(outcome, str) else outcome <= len(content)
