"""Changes of place are noticed soon, and known places are recalled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Channels, Moments
from ecotta_rt.adapt.places import _NUMBERS as NUMBERS
from ecotta_rt.adapt.places import Key, Places, saved_numbers
from ecotta_rt.errors import UsageError

Floats = NDArray[np.float32]

USUAL = np.array([0.01, 0.01, 0.01, 0.01, 0], np.float32)
CHANNELS, KEYS = 5, 18
HOME, FOREST, SEA = (np.full(KEYS, level, np.float32) * np.float32(3) for level in (0, 1, -1))


def statistics_of(place: Floats) -> Moments:
    return Moments(np.full(CHANNELS, place[0], np.float32), np.full(CHANNELS, 1 + abs(place[0]), np.float32))


def frames_at(place: Floats, count: int, seed: int = 0) -> Floats:
    noise = np.random.default_rng((seed, int(10 * place[0]) + 100)).normal(size=(count, KEYS))
    return (place + noise).astype(np.float32)


def places(capacity: int = 8) -> Places:
    return Places(statistics_of(HOME), KEYS, capacity)


def play(memory: Places, stays: list[tuple[Floats, int]]) -> list[int]:
    """Frames of stays at places, whose statistics are taken to be known at once; where a place was recalled."""
    recalled, frame = [], 0
    for turn, (place, count) in enumerate(stays):
        for key in frames_at(place, count, turn):
            found = memory.notice(key, statistics_of(place))
            if found is not None:
                assert found.means.tolist() == statistics_of(place).means.tolist(), "another place was recalled"
                recalled.append(frame)
            frame += 1
    return recalled


def test_nothing_is_noticed_where_nothing_changes() -> None:
    memory = places()
    play(memory, [(HOME, 3000)])
    assert memory.changes == 0 and memory.momentum(USUAL).tolist() == USUAL.tolist()


def test_a_new_place_is_noticed_in_a_few_frames_and_hurried_after_until_it_is_known() -> None:
    memory = places()
    play(memory, [(HOME, 100), (FOREST, 8)])
    assert memory.changes == 1 and memory.recalls == 0
    assert (memory.momentum(USUAL) > 0.06).tolist() == [True, True, True, True, False], "0 stays 0"
    play(memory, [(FOREST, 100)])
    assert memory.changes == 1 and memory.momentum(USUAL).tolist() == USUAL.tolist()


def test_a_change_is_told_with_its_size_and_whether_the_place_is_known() -> None:
    memory = places()
    play(memory, [(HOME, 100)])
    assert memory.change is None
    play(memory, [(FOREST, 50)])
    far = memory.change
    assert far is not None and not far.known and 8 / 0.6 <= far.size <= 16 / 0.05, (
        "about 3 in each number, and 4 at most"
    )
    memory.change = None
    play(memory, [(HOME, 20)])
    assert memory.change is not None and memory.change.known


def test_one_odd_frame_is_no_change() -> None:
    memory = places()
    play(memory, [(HOME, 100)])
    memory.notice(np.full(KEYS, 50, np.float32), statistics_of(HOME))
    play(memory, [(HOME, 50)])
    assert memory.changes == 0


def test_garbage_among_the_frames_is_no_place_and_moves_nothing() -> None:
    memory, draws = places(), np.random.default_rng(5)
    black, noise, clothes = (np.array(key, np.float32) for key in ([-4], [4, -3, 3, -2, 3, -3], [1, -1, 1.5, 1, -1, 1]))
    black, noise, clothes = (np.resize(key, KEYS) for key in (black, noise, clothes))
    moved_by = []
    for place, turn in ((HOME, 0), (FOREST, 1), (HOME, 2)):
        for key in frames_at(place, 1500, turn):
            kind = draws.integers(10)
            if kind < 3:  # each kind looks much alike
                key = (black, noise, clothes)[kind] + np.float32(0.3) * draws.normal(size=KEYS).astype(np.float32)
            memory.notice(key, statistics_of(place))
            if kind < 2:
                moved_by.append(memory.momentum(USUAL).max() > 0)
    assert memory.changes <= 4, "two, but for a few that are none"
    assert np.mean(moved_by) < 0.1


def test_a_known_place_is_recalled_in_a_few_frames_the_source_among_them() -> None:
    memory = places()
    recalled = play(memory, [(FOREST, 100), (SEA, 100), (FOREST, 100), (HOME, 100)])
    assert memory.recalls == 2 and memory.changes == 4
    assert [start <= frame < start + 6 for start, frame in zip((200, 300), recalled, strict=True)] == [True, True]


def test_without_room_changes_are_noticed_and_nothing_is_recalled() -> None:
    memory = places(capacity=0)
    assert play(memory, [(FOREST, 100), (SEA, 100), (FOREST, 100), (HOME, 100)]) == [] and memory.changes == 4


def test_the_place_left_longest_ago_makes_room() -> None:
    memory = places(capacity=1)
    far = HOME + np.float32(8)
    recalled = play(memory, [(FOREST, 100), (SEA, 100), (far, 100), (SEA, 100), (FOREST, 100)])
    assert len(recalled) == 1 and 300 <= recalled[0] < 306


def test_a_short_visit_is_not_remembered() -> None:
    memory = places()
    assert play(memory, [(HOME, 100), (FOREST, 20), (SEA, 100), (FOREST, 100)]) == []


def test_two_short_visits_are_not_a_long_one() -> None:
    memory = places()
    assert play(memory, [(HOME, 100), (FOREST, 24), (SEA, 24), (FOREST, 100), (SEA, 100)]) == []


@pytest.mark.parametrize("frames_before", [0, 999_960])
def test_what_is_remembered_is_from_before_the_change(frames_before: int) -> None:
    memory = places()
    begun = memory.arrays()
    begun["numbers"][NUMBERS.index("stay")] += frames_before
    memory.restore(begun)
    for frame, key in enumerate(frames_at(HOME, 200)):
        memory.notice(key, Moments(*np.full((2, CHANNELS), frame, np.float32)))

    older, newer = memory.arrays()["snapshots"][:, 0, 0].tolist()

    assert newer - older == 16 and newer >= 200 - 16


def test_after_a_picture_that_stood_still_for_long_statistics_follow_again() -> None:
    memory, still = places(), FOREST.copy()
    play(memory, [(HOME, 100)])
    for _ in range(5000):
        memory.notice(still, statistics_of(FOREST))
    gains = []
    for key in frames_at(SEA, 600):
        memory.notice(key, statistics_of(SEA))
        gains.append(memory.momentum(USUAL)[0])
    assert np.mean(np.array(gains[-300:]) > 0) > 0.9


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 259))
def test_a_run_in_two_halves_is_the_whole_run(split: int) -> None:
    keys = np.concatenate([frames_at(FOREST, 90), frames_at(SEA, 90), frames_at(FOREST, 80, 1)])
    whole, first, second = places(2), places(2), places(2)
    found = [whole.notice(key, statistics_of(HOME)) is not None for key in keys]
    halves = [first.notice(key, statistics_of(HOME)) is not None for key in keys[:split]]
    second.restore(first.arrays())
    halves += [second.notice(key, statistics_of(HOME)) is not None for key in keys[split:]]
    assert halves == found
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(second.arrays()[name], array, err_msg=name)


def test_what_cannot_be_a_memory_is_refused_and_changes_nothing() -> None:
    memory, other = places(2), places(3)
    play(memory, [(FOREST, 100), (SEA, 100)])
    before = memory.arrays()
    with pytest.raises(UsageError, match="saved with other options"):
        memory.restore(other.arrays())
    damaged = {"known": (3, 0.5, -1), "changes": (1.5, 1e30), "snapshots": (3,), "usual": (0, 1e9)}
    for name, values in damaged.items():
        for value in values:
            numbers = before["numbers"].copy()
            numbers[NUMBERS.index(name)] = value
            with pytest.raises(UsageError, match="damaged, expected .* start afresh"):
                memory.restore({**before, "numbers": numbers})
    for name, array in memory.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_keys_of_the_source_are_white() -> None:
    generator = np.random.default_rng(0)
    spread = np.exp(generator.normal(size=(4000, 3))).astype(np.float32)
    means = (generator.normal(size=(4000, 3)) @ generator.normal(size=(3, 3))).astype(np.float32)
    key = Key.measured("first", Moments(means, spread))
    keys = np.stack([key.of(Moments(mean, variance)) for mean, variance in zip(means, spread, strict=True)])
    np.testing.assert_allclose(keys.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(keys.T), np.eye(6), atol=1e-2)
    with pytest.raises(UsageError, match="1 frames"):
        Key.measured("first", Moments(means[:1], spread[:1]))


def test_a_key_is_read_as_it_was_stored_and_a_damaged_one_is_refused() -> None:
    channels = Channels.of([("a.mean", 2), ("a.variance", 2), ("first.mean", 3), ("first.variance", 3)])
    seen = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    key = Key.measured("first", Moments(seen[0], seen[1] ** 2))
    stored = key.arrays(channels)
    again = Key.from_arrays({**stored, "other": seen}, channels)
    assert again is not None and again.norm == "first"
    np.testing.assert_array_equal(again.whitening, key.whitening)
    assert Key.from_arrays({"other": seen}, channels) is None
    nan = np.full(6, np.nan, np.float32)
    for name, wrong in (("key_norm", np.array([7])), ("key_centre", np.zeros(2)), ("key_centre", nan)):
        with pytest.raises(UsageError, match="key of places"):
            Key.from_arrays({**stored, name: wrong}, channels)
    with pytest.raises(UsageError, match="lacks 'key_norm'"):
        Key.from_arrays({"key_centre": key.centre}, channels)


def test_the_counts_of_a_saved_memory_are_told() -> None:
    memory = places(2)
    play(memory, [(FOREST, 100), (SEA, 100), (HOME, 100)])
    saved = memory.arrays()

    told = saved_numbers(saved)
    assert told is not None
    assert (told["known"], told["changes"], told["recalls"]) == (2, memory.changes, memory.recalls)
    assert saved_numbers({}) is None
    assert saved_numbers({"numbers": saved["numbers"][:3]}) is None
    assert saved_numbers({"numbers": saved["numbers"] + np.float32(0.5)}) is None
