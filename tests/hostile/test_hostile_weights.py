"""What may stand in weights.bin and how large a state may be, digests put right."""

import hashlib

import numpy as np
import pytest

from ecotta_rt.bundle import WeightEntry, read_bundle
from ecotta_rt.bundle.weight_bytes import WeightBytes
from ecotta_rt.errors import InputFileError

BIAS_AT, WEIGHT_BYTES = 64, 72


def with_weights(parts, content):
    parts.members["weights.bin"] = content
    parts.manifest["weights_sha256"] = hashlib.sha256(content).hexdigest()
    parts.manifest["weights_bytes"] = len(content)
    return parts.pack()


@pytest.fixture
def weights(parts):
    content = bytearray(parts.members["weights.bin"])
    assert len(content) == WEIGHT_BYTES
    return content


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(parts, weights, number):
    weights[BIAS_AT + 4 :] = np.float32(number).tobytes()

    with pytest.raises(InputFileError, match="weights.bin: weight 'pick.bias' holds NaN or infinity .at byte 68."):
        read_bundle(with_weights(parts, bytes(weights)))


@pytest.mark.parametrize("place", [24, 40, 63])
def test_anything_but_zeros_between_weights_is_refused(parts, weights, place):
    weights[place] = 1

    with pytest.raises(InputFileError, match="weights.bin: bytes 24 to 64 lie between two arrays and are not zero"):
        read_bundle(with_weights(parts, bytes(weights)))


@pytest.mark.parametrize("more", [b"\0", b"\0" * 64, b"hidden"])
def test_bytes_after_the_last_weight_are_refused(parts, weights, more):
    with pytest.raises(InputFileError, match="'pick.bias' ends at byte 72, and weights.bin has"):
        read_bundle(with_weights(parts, bytes(weights) + more))


def test_damage_is_told_as_damage(parts, weights):
    weights[40] = 1
    path = with_weights(parts, bytes(weights))
    path.write_bytes(path.read_bytes().replace(bytes(weights), bytes(weights[:41]) + b"\2" + bytes(weights[42:])))

    with pytest.raises(InputFileError, match="damaged or changed"):
        read_bundle(path)


@pytest.mark.parametrize("piece", [4, 8, 64, 128, 1024])
def test_the_size_of_pieces_does_not_matter(piece):
    entries = [WeightEntry("b", (2, 8), 256), WeightEntry("a", (3,), 0), WeightEntry("none", (0,), 64)]

    def look(content):
        looking = WeightBytes(entries, "w")
        for start in range(0, len(content), piece):
            looking.take(memoryview(content)[start : start + piece])

    content = bytearray(320)
    look(content)
    for place in range(12, 256):
        with pytest.raises(InputFileError, match="bytes 12 to 256 lie between"):
            look(content[:place] + b"\1" + content[place + 1 :])
    for place, name in ((0, "a"), (8, "a"), (256, "b"), (316, "b")):
        with pytest.raises(InputFileError, match=f"weight '{name}' holds NaN or infinity .at byte {place}."):
            look(content[:place] + np.float32(np.nan).tobytes() + content[place + 4 :])


def test_a_state_far_larger_than_its_layout_is_not_read(parts):
    parts.members["state.safetensors"] += bytes(4 << 20)

    with pytest.raises(
        InputFileError, match=r"state.safetensors: \d+ bytes, more than the \d+ that a state of this layout"
    ):
        read_bundle(parts.pack())
