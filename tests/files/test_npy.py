"""Hostile .npy files: refused in a sentence, whatever they claim."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotta_rt.errors import EcottaError, InputFileError
from ecotta_rt.files.npy import map_npy


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

    mapped = map_npy(tmp_path / "a.npy")

    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, array)
    assert not mapped.flags.writeable


HOSTILE = [
    b"",
    b"PK\x03\x04 a zip",
    b"\x93NUMPY",
    npy(header(), b"abc"),
    npy(header(shape="(2**62,)"), b"abcd"),
    npy(header(shape="(4611686018427387904, 4)"), b"abcd"),
    npy(header(shape="(-4,)"), b"abcd"),
    npy(header(shape="(-2, -2)"), b"abcd"),
    npy(header(shape="'four'"), b"abcd"),
    npy(header("'|O'"), b"abcd"),
    npy(header("'nonsense'"), b"abcd"),
    npy("__import__('os').system('true')"),
    npy("{" * 900),
]


def refusal(path, content):
    path.write_bytes(content)
    with pytest.raises(InputFileError) as caught:
        map_npy(path)
    return str(caught.value)


def test_a_file_that_is_not_what_it_claims_is_refused_by_name(tmp_path):
    path = tmp_path / "fog.npy"

    wrong = [refusal(path, content) for content in HOSTILE]

    assert [said for said in wrong if not said.startswith(f"{path}: not a .npy file, or a truncated one (")] == []
    assert "goes on after its data" in refusal(path, npy(header(), b"abcde"))
    assert "empty" in refusal(path, npy(header(shape="(2, 0)")))


def test_a_header_longer_than_any_of_ours_is_refused(tmp_path):
    for content in (npy(" " * 20000 + header(), b"abcd"), b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"):
        assert "bytes, more than 4096" in refusal(tmp_path / "fog.npy", content)


def test_a_pickled_object_array_is_not_unpickled(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)

    with pytest.raises(InputFileError, match="not a .npy file"):
        map_npy(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputFileError, match=r"labels\.npy: cannot be read \(No such file"):
        map_npy(tmp_path / "labels.npy")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 127), byte=st.integers(0, 255), cut=st.integers(0, 140))
def test_a_damaged_header_gives_the_array_or_one_of_our_errors(tmp_path, at, byte, cut):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(12, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(content[: cut or None])

    try:
        outcome = map_npy(path).nbytes
    except EcottaError as error:
        outcome = str(error)

    assert str(path) in outcome if isinstance(outcome, str) else outcome <= len(content)
