"""What an arena that keeps what it has once had grows to when programs are run in it again and again.

    programs  ->  arena_bytes()

Played after the description of onnxruntime's arena as the runtime sets it up: each request is rounded up, goes to the
smallest free piece that is large enough, and only where there is none the arena grows, by what was asked for. A piece
is cut in two only where it is at least twice too large; pieces of one growth that lie side by side and are free become
one again. So tensors of many sizes leave holes.

Part of `verify`, which see.

Source: onnxruntime, core/framework/bfc_arena.cc (arena_extend_strategy kSameAsRequested).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ecotta_rt.verifier.lives import Lives, find_lives, working_bytes
from ecotta_rt.verifier.program import Program

__all__ = ["Arena", "arena_bytes"]

_UNIT_BYTES = 256
_DEAD_BYTES = 128 << 20
"""So much too large a piece is cut, too."""

_RUNS = 3
"""Pieces lie otherwise after a run than before the first; later runs changed nothing in the graphs tried."""


@dataclass
class _Piece:
    """Neighbours are those of the same growth."""

    size_bytes: int
    number: int
    free: bool = True
    before: "_Piece | None" = None
    after: "_Piece | None" = None


@dataclass
class Arena:
    """Hands out pieces, and takes them back.

    >>> arena = Arena()
    >>> first = arena.take(1000)
    >>> arena.give(first)
    >>> arena.take(600) is first, arena.size_bytes  # less than twice too large: not cut
    (True, 1024)

    Attributes:
        size_bytes: What it has grown to.
    """

    size_bytes: int = 0
    _free: list[_Piece] = field(default_factory=list)
    _count: int = 0

    def take(self, asked_bytes: int) -> _Piece:
        """A piece of at least so many bytes."""
        rounded_bytes = max(-(-asked_bytes // _UNIT_BYTES), 1) * _UNIT_BYTES
        fitting = [piece for piece in self._free if piece.size_bytes >= rounded_bytes]
        if not fitting:
            self.size_bytes += rounded_bytes
            return self._piece(rounded_bytes, free=False)
        piece = min(fitting, key=lambda piece: (piece.size_bytes, piece.number))
        self._free.remove(piece)
        piece.free = False
        if piece.size_bytes >= min(2 * rounded_bytes, rounded_bytes + _DEAD_BYTES):
            self._cut(piece, rounded_bytes)
        return piece

    def give(self, piece: _Piece) -> None:
        """Take back a piece."""
        piece.free = True
        after, before = piece.after, piece.before
        if after is not None and after.free:
            self._free.remove(after)
            _join(piece, after)
        if before is not None and before.free:
            self._free.remove(before)
            _join(before, piece)
            piece = before
        self._free.append(piece)

    def _cut(self, piece: _Piece, size_bytes: int) -> None:
        rest = self._piece(piece.size_bytes - size_bytes, free=True)
        piece.size_bytes = size_bytes
        rest.before, rest.after, piece.after = piece, piece.after, rest
        if rest.after is not None:
            rest.after.before = rest
        self._free.append(rest)

    def _piece(self, size_bytes: int, *, free: bool) -> _Piece:
        self._count += 1
        return _Piece(size_bytes, self._count, free)


def _join(piece: _Piece, after: _Piece) -> None:
    piece.size_bytes += after.size_bytes
    piece.after = after.after
    if piece.after is not None:
        piece.after.before = piece


def arena_bytes(programs: Sequence[Program], runs: int = _RUNS) -> int:
    """What the arena has grown to after some runs.

    Args:
        programs: From `read_program`; run one after the other in one arena.
        runs: How many times.
    """
    arena = Arena()
    lives = [find_lives(program) for program in programs]
    for _ in range(runs):
        for program, its_lives in zip(programs, lives, strict=True):
            _play(program, its_lives, arena)
    return arena.size_bytes


def _play(program: Program, lives: Lives, arena: Arena) -> None:
    coming, leaving = defaultdict(list), defaultdict(list)
    for place in lives.places:
        coming[place.first].append(place)
        leaving[place.last].append(place)
    held: dict[int, _Piece] = {}  # by the identity of its place
    for index, operation in enumerate(program.operations):
        held.update((id(place), arena.take(place.size_bytes)) for place in coming[index])
        working = [arena.take(size_bytes) for size_bytes in working_bytes(operation, program)]
        if operation.branches:
            branches = [(branch, find_lives(branch)) for branch in operation.branches]
            _play(*max(branches, key=lambda pair: pair[1].most_bytes), arena)
        for piece in (*working, *(held.pop(id(place)) for place in leaving[index])):
            arena.give(piece)
