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
_DEAD_BYTES = 128 << 20  # so much too large a piece is cut, too
_SMALLEST_GROWTH_BYTES, _LARGEST_GROWTH_BYTES = 1 << 20, 1 << 30  # where growths double
_RUNS = 3  # pieces lie otherwise after a run than before the first; later runs changed nothing in the graphs tried


@dataclass(eq=False)
class _Piece:
    size_bytes: int
    number: int
    start_bytes: int
    growth: "list[_Piece]"  # the pieces side by side in one growth, in their order
    free: bool = False


@dataclass
class Arena:
    """Hands out pieces, and takes them back.

    Attributes:
        doubling: How it grows.
        size_bytes: What it has grown to.
    """

    doubling: bool = False
    size_bytes: int = 0
    _growth_bytes: int = _SMALLEST_GROWTH_BYTES
    _growths: list[list[_Piece]] = field(default_factory=list)
    _written: dict[int, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))
    _count: int = 0

    def take(self, asked_bytes: int) -> _Piece:
        """A piece of at least so many bytes."""
        size_bytes = max(-(-asked_bytes // _UNIT_BYTES), 1) * _UNIT_BYTES
        fitting = [
            piece for growth in self._growths for piece in growth if piece.free and piece.size_bytes >= size_bytes
        ]
        piece = min(fitting, key=lambda piece: (piece.size_bytes, piece.number), default=None) or self._grow(size_bytes)
        piece.free = False
        if piece.size_bytes >= min(2 * size_bytes, size_bytes + _DEAD_BYTES):
            start_bytes = piece.start_bytes + size_bytes
            rest = self._piece(piece.size_bytes - size_bytes, start_bytes, piece.growth, free=True)
            piece.growth.insert(piece.growth.index(piece) + 1, rest)
            piece.size_bytes = size_bytes
        self._written[id(piece.growth)].add((piece.start_bytes, piece.start_bytes + size_bytes))
        return piece

    def give(self, piece: _Piece) -> None:
        """Take back a piece; free neighbours become one."""
        piece.free = True
        at = piece.growth.index(piece)
        for left in (at, at - 1):
            pair = piece.growth[left : left + 2] if left >= 0 else []
            if len(pair) == 2 and pair[0].free and pair[1].free:
                pair[0].size_bytes += pair[1].size_bytes
                del piece.growth[left + 1]

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
        growth: list[_Piece] = []
        growth.append(self._piece(size_bytes, 0, growth))
        self._growths.append(growth)
        return growth[0]

    def _piece(self, size_bytes: int, start_bytes: int, growth: list[_Piece], free: bool = False) -> _Piece:
        self._count += 1
        return _Piece(size_bytes, self._count, start_bytes, growth, free)


def _covered(spans: set[tuple[int, int]]) -> int:
    """Length of what they cover together."""
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def arena_bytes(programs: Sequence[Program], runs: int = _RUNS, *, doubling: bool = False) -> int:
    """What the arena takes after some runs of programs, one after the other."""
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
