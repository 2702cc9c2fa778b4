"""The cache of corrupted frames: faster, never different, and never trusted blindly."""

import numpy as np
import pytest

from ecotta_rt.data import corrupted
from ecotta_rt.data.stream import open_stream
from ecotta_rt.errors import TransferError


def opened(cache, **options):
    return open_stream(corruptions="fog", frames=3, cache=cache, **options).segments[0].frames


def forbidden(*args, **kwargs):
    raise AssertionError("corrupted anew")


def test_a_second_opening_reads_what_the_first_one_made(tmp_path, monkeypatch):
    plain = opened(None)
    first = opened(tmp_path / "cache")
    monkeypatch.setattr(corrupted, "corrupt", forbidden)

    second = opened(tmp_path / "cache")

    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(second, plain)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # and nothing temporary is left


@pytest.mark.parametrize("other", [{"severity": 2}, {"seed": 1}])
def test_another_severity_or_seed_is_another_file(tmp_path, other):
    opened(tmp_path)

    np.testing.assert_array_equal(opened(tmp_path, **other), opened(None, **other))

    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    plain = opened(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)

    np.testing.assert_array_equal(opened(tmp_path), plain)

    assert path.stat().st_size > plain.nbytes


def test_a_cache_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(TransferError, match="No space left on device"):
        opened(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_one_damaged_frame_is_made_anew(tmp_path):
    plain = opened(tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    at = content.index(plain[1].tobytes())
    content[at] ^= 1
    path.write_bytes(content)

    np.testing.assert_array_equal(opened(tmp_path), plain)

    assert path.read_bytes()[at : at + plain[1].nbytes] == plain[1].tobytes()


def test_more_images_are_added_to_the_same_file(tmp_path, monkeypatch):
    opened(tmp_path)
    asked = []
    really = corrupted.corrupt

    def counted(frames, *args, **kwargs):
        asked.append(len(frames))
        return really(frames, *args, **kwargs)

    monkeypatch.setattr(corrupted, "corrupt", counted)

    frames = open_stream(corruptions="fog", frames=5, cache=tmp_path).segments[0].frames

    assert asked == [2]
    np.testing.assert_array_equal(frames, open_stream(corruptions="fog", frames=5).segments[0].frames)
    assert len(list(tmp_path.iterdir())) == 1
