"""An arena by hand, and against the rules that any arena keeps."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from oracle.arena import Arena, arena_bytes
from oracle.lives import find_lives
from oracle.program import Operation, Program, Tensor

KIB = 1024


def test_it_grows_by_what_is_asked_for_rounded_up():
    arena = Arena()

    arena.take(1), arena.take(257), arena.take(4 * KIB)

    assert arena.size_bytes == 256 + 512 + 4 * KIB


def test_a_piece_is_cut_only_where_it_is_twice_too_large():
    arena = Arena()
    piece = arena.take(8 * KIB)

    arena.give(piece)
    whole = arena.take(5 * KIB)  # not cut: 3 KiB of it are a hole
    arena.take(3 * KIB)

    assert (whole is piece, arena.size_bytes) == (True, 8 * KIB + 3 * KIB)

    arena.give(whole)
    arena.take(4 * KIB)  # cut: the other half is free
    arena.take(4 * KIB)

    assert arena.size_bytes == 8 * KIB + 3 * KIB


def test_free_neighbours_become_one_and_pieces_of_different_growths_do_not():
    arena = Arena()
    arena.give(arena.take(8 * KIB))
    halves = [arena.take(4 * KIB), arena.take(2 * KIB), arena.take(2 * KIB)]

    for half in (halves[0], halves[2], halves[1]):
        arena.give(half)
    arena.take(8 * KIB)

    assert arena.size_bytes == 8 * KIB

    arena = Arena()
    for piece in (arena.take(4 * KIB), arena.take(4 * KIB)):
        arena.give(piece)
    arena.take(8 * KIB)

    assert arena.size_bytes == 16 * KIB


def test_the_smallest_piece_that_is_large_enough_is_taken():
    arena = Arena()
    pieces = [arena.take(size * KIB) for size in (9, 5, 7)]
    for piece in pieces:
        arena.give(piece)

    assert arena.take(5 * KIB + 1) is pieces[2]
    assert arena.size_bytes == 21 * KIB


def test_growths_double_and_count_only_as_far_as_somebody_writes():
    arena = Arena(doubling=True)

    first = arena.take(100 * KIB)
    assert (arena.size_bytes, arena.written_bytes) == (1024 * KIB, 100 * KIB)

    arena.take(1000 * KIB)
    assert (arena.size_bytes, arena.written_bytes) == (3 * 1024 * KIB, 1100 * KIB)

    arena.give(first)
    arena.take(60 * KIB)  # where the first was
    assert arena.written_bytes == 1100 * KIB
    arena.take(5000 * KIB)  # more than the 4 MiB that were next
    assert arena.size_bytes == (1 + 2 + 8) * 1024 * KIB


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=40))
def test_it_holds_what_is_asked_for_never_more_than_was_ever_asked_for_and_forgets_nothing(moves):
    """Each move gives back what stands on one of six shelves, if anything does, and else puts something there."""
    arena, shelves, asked_bytes = Arena(), {}, 0
    for shelf, size in moves:
        if shelf in shelves:
            arena.give(shelves.pop(shelf)[0])
        else:
            shelves[shelf] = (arena.take(size * 256), size * 256)
            asked_bytes += size * 256

        assert all(piece.size_bytes >= wanted for piece, wanted in shelves.values())
        assert sum(piece.size_bytes for piece, _ in shelves.values()) <= arena.size_bytes <= asked_bytes
    grown_bytes = arena.size_bytes
    for piece, _ in shelves.values():
        arena.give(piece)
    for piece in [arena.take(256) for _ in range(grown_bytes // 256)]:
        arena.give(piece)

    assert arena.size_bytes == grown_bytes  # all of it was free, and no byte is in two pieces


def chain(*sides):
    """Each operation reads the tensor before; 256 bytes a unit."""
    names = ["x", *(f"t{index}" for index in range(len(sides))), "y"]
    lines = [Operation("Softmax", (a,), (b,)) for a, b in pairwise(names)]
    tensors = {name: Tensor((64 * side,)) for name, side in zip(names, (1, *sides, 1), strict=True)}
    return Program(tuple(lines), tensors, ("y",))


def test_a_program_grows_it_by_its_places_and_the_holes_between_them():
    program = chain(4, 10, 6)  # 4 | 4 10 | 10 6 | 6: the 6 does not fit where the 4 was

    assert find_lives(program).most_bytes == 16 * 256
    assert arena_bytes([program], runs=1) == 20 * 256


def test_a_second_run_and_a_second_program_find_what_the_first_has_left():
    assert arena_bytes([chain(4, 10, 6)], runs=2) == 20 * 256
    assert arena_bytes([chain(4, 10, 6), chain(3, 9)], runs=3) == 20 * 256


def test_the_dearer_branch_is_played_inside_its_operation():
    branches = chain(4, 4), chain(8, 8)
    lines = [Operation("Softmax", ("x",), ("a",)), Operation("If", ("c",), ("b",), {}, branches)]
    sides = {"x": (64,), "a": (128,), "b": (64,), "c": (), "y": (64,)}
    tensors = {name: Tensor(shape) for name, shape in sides.items()}
    outer = Program((*lines, Operation("Neg", ("b",), ("y",))), tensors, ("y",))

    assert arena_bytes([outer], runs=1) == (2 + 8 + 8) * 256  # b goes where a was: 256 bytes of 512
