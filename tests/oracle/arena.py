"""What an arena that keeps what it has once had grows to when programs are run in it again and again.

    programs  ->  arena_bytes()

Played after the description of onnxruntime's arena as the runtime sets it up: each request is rounded up, goes to the
smallest free piece that is large enough, and only where there is none the arena grows: for single frames by what was
asked for, for batches by twice its last growth or as often that as it takes. A piece is cut in two only where it is at
least twice too large; pieces of one growth that lie side by side and are free become one again. So tensors of many
sizes leave holes; and a growth is memory only as far as somebody has written to it.

Part of `verify`, which see.

Source: onnxruntime, core/framework/bfc_arena.cc (arena_extend_strategy kSameAsRequested and kNextPowerOfTwo).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from oracle.lives import Lives, find_lives, working_bytes
from oracle.program import Program

__all__ = ["Arena", "arena_bytes"]

_UNIT_BYTES = 256
_DEAD_BYTES = 128 << 20
"""So much too large a piece is cut, too."""

_SMALLEST_GROWTH_BYTES, _LARGEST_GROWTH_BYTES = 1 << 20, 1 << 30
"""Where growths double."""

_RUNS = 3
"""Pieces lie otherwise after a run than before the first; later runs changed nothing in the graphs tried."""


@dataclass
class _Piece:
    """Neighbours are those of the same growth."""

    size_bytes: int
    number: int
    growth: int
    start_bytes: int
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
        doubling: How it grows.
        size_bytes: What it has grown to.
    """

    doubling: bool = False
    size_bytes: int = 0
    _growth_bytes: int = _SMALLEST_GROWTH_BYTES
    _growths: int = 0
    _written: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    _free: list[_Piece] = field(default_factory=list)
    _count: int = 0

    def take(self, asked_bytes: int) -> _Piece:
        """A piece of at least so many bytes."""
        rounded_bytes = max(-(-asked_bytes // _UNIT_BYTES), 1) * _UNIT_BYTES
        fitting = [piece for piece in self._free if piece.size_bytes >= rounded_bytes]
        if fitting:
            piece = min(fitting, key=lambda piece: (piece.size_bytes, piece.number))
            self._free.remove(piece)
            piece.free = False
        else:
            piece = self._grow(rounded_bytes)
        if piece.size_bytes >= min(2 * rounded_bytes, rounded_bytes + _DEAD_BYTES):
            self._cut(piece, rounded_bytes)
        self._written[piece.growth].append((piece.start_bytes, piece.start_bytes + rounded_bytes))
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

    @property
    def written_bytes(self) -> int:
        """As much of it as somebody has written to."""
        return sum(_covered(spans) for spans in self._written.values())

    def _grow(self, asked_bytes: int) -> _Piece:
        size_bytes = asked_bytes
        if self.doubling:
            size_bytes = self._growth_bytes
            while size_bytes < asked_bytes:
                size_bytes *= 2
            # A growth that had to be larger than foreseen is the measure of the next.
            foreseen = size_bytes == self._growth_bytes
            self._growth_bytes = min(size_bytes * 2 if foreseen else size_bytes, _LARGEST_GROWTH_BYTES)
        self.size_bytes += size_bytes
        self._growths += 1
        return self._piece(size_bytes, self._growths, 0, free=False)

    def _cut(self, piece: _Piece, size_bytes: int) -> None:
        rest = self._piece(piece.size_bytes - size_bytes, piece.growth, piece.start_bytes + size_bytes, free=True)
        piece.size_bytes = size_bytes
        rest.before, rest.after, piece.after = piece, piece.after, rest
        if rest.after is not None:
            rest.after.before = rest
        self._free.append(rest)

    def _piece(self, size_bytes: int, growth: int, start_bytes: int, *, free: bool) -> _Piece:
        self._count += 1
        return _Piece(size_bytes, self._count, growth, start_bytes, free)


def _join(piece: _Piece, after: _Piece) -> None:
    piece.size_bytes += after.size_bytes
    piece.after = after.after
    if piece.after is not None:
        piece.after.before = piece


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Length of what they cover together."""
    covered = reached = 0
    for start, end in sorted(set(spans)):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def arena_bytes(programs: Sequence[Program], runs: int = _RUNS, *, doubling: bool = False) -> int:
    """What the arena takes, after some runs.

    Args:
        programs: From `read_program`; run one after the other in one arena.
        runs: How many times.
        doubling: How it grows.
    """
    arena = Arena(doubling)
    lives = [find_lives(program) for program in programs]
    for _ in range(runs):
        for program, its_lives in zip(programs, lives, strict=True):
            _play(program, its_lives, arena)
    return arena.written_bytes


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
