import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.state import AdaptState


def state(**changes):
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(4, 3, 3, 3)).astype(np.float32)
    values = {
        "parameters": {"groups.0.conv.weight": weight},
        "momentum": {"groups.0.conv.weight": 0 * weight},
        "statistics": {"bn1.mean": weight[:, 0, 0, 0], "bn1.variance": weight[:, 0, 0, 1] ** 2},
        "network_digest": "ab" * 32,
        "metadata": {"seed": "0"},
    }
    return AdaptState(**{**values, **changes})


def test_a_state_survives_the_disk_bit_for_bit(tmp_path):
    state().save(tmp_path / "s.safetensors")

    loaded = AdaptState.load(tmp_path / "s.safetensors")

    assert set(state().compare(loaded).values()) == {0.0}
    assert loaded.network_digest == "ab" * 32
    assert loaded.metadata == {"seed": "0"}


REMEMBERED = {"filter.beliefs": np.array([0.25, 0.75], np.float32), "places": np.zeros((0, 3), np.float32)}


def test_what_a_run_remembers_survives_the_disk_bit_for_bit(tmp_path):
    state(adaptation=REMEMBERED).save(tmp_path / "s.safetensors")

    loaded = AdaptState.load(tmp_path / "s.safetensors")

    assert loaded.adaptation.keys() == REMEMBERED.keys()
    assert all(np.array_equal(array, loaded.adaptation[name]) for name, array in REMEMBERED.items())
    assert set(state(adaptation=REMEMBERED).compare(loaded).values()) == {0.0}
    assert loaded.metadata == {"seed": "0"}


def test_a_state_that_remembers_nothing_is_written_as_before():
    assert b"ecotta-state-1" in state().to_bytes()
    assert b"ecotta-state-2" in state(adaptation=REMEMBERED).to_bytes()


def test_equal_states_have_equal_bytes_and_keep_the_order_of_their_names():
    one = state(metadata={str(number): "é" for number in range(9)})

    contents = {one.to_bytes() for _ in range(9)}
    names = {tuple(AdaptState.from_bytes(content, "s").statistics) for content in contents for _ in range(9)}

    assert len(contents) == 1
    assert names == {("bn1.mean", "bn1.variance")}
    assert AdaptState.from_bytes(contents.pop(), "s").metadata == one.metadata


def test_a_loaded_state_may_be_changed_in_place_by_whoever_owns_it():
    loaded = AdaptState.from_bytes(state().to_bytes(), "s")

    assert all(array.flags.writeable for _, _, array in loaded._each())


def test_comparing_tells_the_relative_difference_by_name_and_infinity_for_what_is_missing():
    weight = np.array([1.0, -4.0], np.float32)
    one, other = (
        state(parameters={"w": weight}, momentum={}),
        state(parameters={"w": weight + 1}, momentum={"w": weight}),
    )

    difference = one.compare(other)

    assert difference["parameters/w"] == 1 / 4
    assert difference["momentum/w"] == float("inf")
    assert difference["statistics/bn1.mean"] == 0.0


def test_a_state_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "s.safetensors").mkdir()

    with pytest.raises(UsageError, match=r"s\.safetensors is a folder"):
        state().save(tmp_path / "s.safetensors")


def test_a_diverged_state_does_not_replace_a_good_one(tmp_path):
    path = tmp_path / "s.safetensors"
    state().save(path)
    before = path.read_bytes()

    with pytest.raises(UsageError, match=r"parameters/w holds NaN"):
        state(parameters={"w": np.array([1.0, np.nan], np.float32)}).save(path)

    assert path.read_bytes() == before


@given(cut=st.floats(0, 0.999))
def test_a_truncated_state_is_refused_wherever_it_ends(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("state") / "s.safetensors"
    state().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))])

    with pytest.raises(InputFileError):
        AdaptState.load(path)


def raw(header, data=b"\0" * 16):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
OURS = {"format": "ecotta-state-1", "network_digest": "x"}
SECOND = {**OURS, "format": "ecotta-state-2"}


def test_a_hostile_state_is_refused_with_the_reason(tmp_path, subtests):
    for content, reason in [
        (b"", "safetensors"),
        (b"PK\x03\x04 a zip, not a state", "safetensors"),
        (struct.pack("<Q", 1 << 60) + b"{}", "safetensors"),
        (raw({"__metadata__": OURS, "parameters/w": {**ENTRY, "shape": [1 << 40]}}), "safetensors"),
        (raw({"parameters/w": ENTRY}), "ecotta-state-1"),
        (raw({"__metadata__": {"format": "ecotta-state-1"}, "parameters/w": ENTRY}), "ecotta-state-1"),
        (raw({"__metadata__": OURS, "weights/w": ENTRY}), "unknown entry 'weights/w'"),
        (raw({"__metadata__": OURS, "adaptation/w": ENTRY}), "unknown entry 'adaptation/w'"),
        (raw({"__metadata__": {**OURS, "format": "ecotta-state-3"}, "parameters/w": ENTRY}), "no ecotta-state-1 or"),
        (raw({"__metadata__": SECOND, "adaptation/": ENTRY}), "unknown entry 'adaptation/'"),
        (raw({"__metadata__": SECOND, "adaptation/w": {**ENTRY, "dtype": "I32"}}), "adaptation/w is I32, not float32"),
        (raw({"__metadata__": SECOND, "adaptation/w": ENTRY}, struct.pack("<4f", 1, float("nan"), 0, 0)), "NaN"),
        (raw({"__metadata__": SECOND, "adaptation/w": {**ENTRY, "shape": [4, *70 * [1]]}}), "71 axes, more than 8"),
        (raw({"__metadata__": OURS, "w": ENTRY}), "unknown entry 'w'"),
        (raw({"__metadata__": OURS, "parameters/w": {**ENTRY, "shape": [4, *70 * [1]]}}), "71 axes, more than 8"),
        (raw({"__metadata__": OURS, "parameters/w": {**ENTRY, "dtype": "I32"}}), "expected float32"),
        (raw({"__metadata__": OURS, "parameters/w": {**ENTRY, "dtype": "BF16", "shape": [8]}}), "not float32"),
        (raw({"__metadata__": OURS, "parameters/w": {**ENTRY, "dtype": "F8_E4M3", "shape": [16]}}), "not float32"),
        (raw({"__metadata__": OURS, "statistics/n.variance": ENTRY}, struct.pack("<4f", 1, -1, 0, 0)), "negative"),
        (raw({"__metadata__": OURS, "parameters/w": ENTRY}, struct.pack("<4f", 1, float("nan"), 0, 0)), "NaN"),
        (raw({"__metadata__": OURS, "parameters/w": ENTRY}, struct.pack("<4f", 1, float("inf"), 0, 0)), "infinity"),
    ]:
        with subtests.test(reason):
            path = tmp_path / "s.safetensors"
            path.write_bytes(content)

            with pytest.raises(InputFileError, match=reason) as refusal:
                AdaptState.load(path)

            assert str(path) in str(refusal.value)


def test_a_missing_state_is_refused_by_its_name(tmp_path):
    with pytest.raises(InputFileError, match=r"nowhere\.safetensors"):
        AdaptState.load(tmp_path / "nowhere.safetensors")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InputFileError, match="it is a pipe, not a regular file"):
        AdaptState.load(tmp_path / "pipe")


def test_a_folder_is_refused_as_one(tmp_path):
    with pytest.raises(InputFileError, match="it is a folder, not a regular file"):
        AdaptState.load(tmp_path)


def test_names_that_are_no_utf_8_may_stand_in_the_metadata(tmp_path):
    state(metadata={"data": "caf\udce9"}).save(tmp_path / "s")

    assert AdaptState.load(tmp_path / "s").metadata == {"data": "caf\\xe9"}
