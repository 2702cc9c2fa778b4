import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.plan.arena import Arena


def test_a_request_takes_whole_pieces_of_256_bytes():
    arena = Arena()

    arena.take(1)
    arena.take(257)

    assert (arena.held_bytes, arena.used_bytes) == (256 + 512, 256 + 512)


def test_what_was_given_back_is_used_again():
    arena = Arena()

    arena.give_back(arena.take(1024))
    arena.take(1000)

    assert arena.held_bytes == 1024


def test_a_request_of_more_than_half_a_chunk_gets_all_of_it():
    """So 1,024 bytes lie idle, and a further request takes new memory."""
    arena = Arena()
    arena.give_back(arena.take(3072))

    arena.take(2048)

    assert arena.used_bytes == 3072
    arena.take(1024)
    assert arena.held_bytes == 3072 + 1024


def test_a_request_of_at_most_half_a_chunk_leaves_the_rest_to_others():
    arena = Arena()
    arena.give_back(arena.take(4096))

    arena.take(2048)
    arena.take(2048)

    assert (arena.held_bytes, arena.used_bytes) == (4096, 4096)


def test_the_smallest_chunk_that_fits_is_taken():
    arena = Arena()
    large, small = arena.take(4096), arena.take(1024)
    arena.give_back(large)
    arena.give_back(small)

    assert arena.take(1024) is small


def test_free_neighbours_of_one_region_grow_together():
    arena = Arena()
    arena.give_back(arena.take(4096))
    pieces = [arena.take(1024) for _ in range(4)]
    for piece in (pieces[1], pieces[3], pieces[2], pieces[0]):
        arena.give_back(piece)

    arena.take(4096)

    assert arena.held_bytes == 4096


def test_regions_never_grow_together():
    arena = Arena()
    for piece in [arena.take(1024), arena.take(1024)]:
        arena.give_back(piece)

    arena.take(2048)

    assert arena.held_bytes == 4096


def test_pieces_of_a_large_region_are_not_taken_for_those_of_the_next():
    """Half of a region of 512 MiB, and a whole one of 256 MiB: alike in size, but only one has a neighbour."""
    half = 256 << 20
    arena = Arena()
    arena.give_back(arena.take(2 * half))
    left, right, next_region = (arena.take(half) for _ in range(3))
    for piece in (next_region, right, left):
        arena.give_back(piece)

    arena.take(2 * half)
    arena.take(half)

    assert (arena.used_bytes, arena.held_bytes) == (3 * half, 3 * half)
    arena.take(half)
    assert arena.held_bytes == 4 * half


@given(st.lists(st.one_of(st.integers(1, 9000), st.integers(-20, -1)), max_size=80))
def test_whatever_is_taken_and_given_back_nothing_is_lost(actions):
    """A positive number is a request, a negative one gives back the n-th last that is still there."""
    arena, taken = Arena(), []
    for action in actions:
        if action > 0:
            chunk = arena.take(action)
            assert action <= chunk.size < 2 * max(-(-action // 256) * 256, 1) or chunk.size == 256
            taken.append(chunk)
        elif taken:
            arena.give_back(taken.pop(max(action, -len(taken))))
        assert arena.used_bytes == sum(chunk.size for chunk in taken) <= arena.held_bytes
    held = arena.held_bytes
    for chunk in taken:
        arena.give_back(chunk)
    assert (arena.used_bytes, arena.held_bytes) == (0, held)
    if held:
        sizes = sorted(entry[1].size for entry in arena._free)
        assert sum(sizes) == held
        assert arena.take(sizes[-1]).size == pytest.approx(sizes[-1])
        assert arena.held_bytes == held


# Regions that double

MIB = 1 << 20


def test_regions_double_and_what_is_never_reached_of_them_is_no_memory():
    arena = Arena(doubling=True)

    chunk = arena.take(100 * 1024)
    assert (arena.held_bytes, arena.resident_bytes) == (MIB, 100 * 1024)

    arena.take(MIB)  # what is left of the first is too small: the second has 2 MiB
    assert (arena.held_bytes, arena.resident_bytes) == (3 * MIB, MIB + 100 * 1024)

    arena.give_back(chunk)
    arena.take(90 * 1024)  # where the first was
    assert arena.resident_bytes == MIB + 100 * 1024


def test_a_region_that_had_to_be_larger_than_foreseen_is_the_measure_of_the_next():
    arena = Arena(doubling=True)

    arena.take(5 * MIB)
    assert arena.held_bytes == 8 * MIB
    arena.take(7 * MIB)
    assert arena.held_bytes == 16 * MIB
    arena.take(9 * MIB)
    assert arena.held_bytes == 32 * MIB


def test_neighbours_in_a_large_region_make_room_for_a_larger_tensor():
    def grown(doubling):
        arena = Arena(doubling)
        for chunk in [arena.take(3 * MIB), arena.take(3 * MIB)]:
            arena.give_back(chunk)
        arena.take(4 * MIB)
        return arena.resident_bytes

    assert grown(False) == 10 * MIB
    assert grown(True) == 7 * MIB  # 3, and 4 in a region of 4


@given(st.lists(st.one_of(st.integers(1, 3 << 20), st.integers(-20, -1)), max_size=80))
def test_it_never_takes_more_memory_than_it_holds(actions):
    arena, taken = Arena(doubling=True), []
    for action in actions:
        if action > 0:
            taken.append(arena.take(action))
        elif taken:
            arena.give_back(taken.pop(max(action, -len(taken))))
        assert arena.used_bytes == sum(chunk.size for chunk in taken) <= arena.held_bytes
        assert arena.resident_bytes <= arena.held_bytes
