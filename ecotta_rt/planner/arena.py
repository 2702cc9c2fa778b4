"""onnxruntime's arena on paper: which memory it takes from the system for a sequence of requests.

Best fit among free chunks; a chunk is split only where the request fills less than half of it, so that up to half of
one may lie idle; a request that nothing fits takes a region of its own size from the system (the extension strategy
`kSameAsRequested`, which `ecotta_rt.runtime.session` asks for); neighbours in one region grow together when both are
free; nothing is given back. So what it holds is more than what lives in it, and depends on the order of requests.

Source: onnxruntime/core/framework/bfc_arena.cc.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

__all__ = ["Arena"]

_ALIGNMENT_BYTES = 256
_MAX_DEAD_BYTES = 128 << 20


@dataclass(eq=False)
class _Chunk:
    size: int
    order: int  # stands for the address
    free: bool = True
    before: "_Chunk | None" = None
    after: "_Chunk | None" = None

    def key(self) -> tuple[int, int]:
        return self.size, self.order


class Arena:
    """The arena.

    Attributes:
        held_bytes: Taken from the system so far.
        used_bytes: In chunks that are in use.
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        self.used_bytes = 0
        self._free: list[tuple[tuple[int, int], _Chunk]] = []
        self._next_order = 0

    def take(self, size_bytes: int) -> _Chunk:
        """A chunk for a request of this size; to be handed to `give_back`."""
        size = max(-(-size_bytes // _ALIGNMENT_BYTES), 1) * _ALIGNMENT_BYTES
        position = bisect_left(self._free, (size, -1), key=lambda entry: entry[0])
        if position < len(self._free):
            chunk = self._free.pop(position)[1]
        else:
            chunk = _Chunk(size, self._next_order)
            self._next_order += size // _ALIGNMENT_BYTES
            self.held_bytes += size
        if chunk.size >= 2 * size or chunk.size - size >= _MAX_DEAD_BYTES:
            self._split(chunk, size)
        chunk.free = False
        self.used_bytes += chunk.size
        return chunk

    def give_back(self, chunk: _Chunk) -> None:
        """The chunk is free again."""
        self.used_bytes -= chunk.size
        chunk.free = True
        if chunk.after is not None and chunk.after.free:
            self._join(chunk, chunk.after)
        if chunk.before is not None and chunk.before.free:
            before = chunk.before
            self._remove(before)
            self._absorb(before, chunk)
            chunk = before
        insort(self._free, (chunk.key(), chunk), key=lambda entry: entry[0])

    def _split(self, chunk: _Chunk, size: int) -> None:
        rest = _Chunk(chunk.size - size, chunk.order + size // _ALIGNMENT_BYTES, before=chunk, after=chunk.after)
        if chunk.after is not None:
            chunk.after.before = rest
        chunk.size, chunk.after = size, rest
        insort(self._free, (rest.key(), rest), key=lambda entry: entry[0])

    def _join(self, chunk: _Chunk, after: _Chunk) -> None:
        self._remove(after)
        self._absorb(chunk, after)

    def _absorb(self, chunk: _Chunk, after: _Chunk) -> None:
        chunk.size += after.size
        chunk.after = after.after
        if after.after is not None:
            after.after.before = chunk

    def _remove(self, chunk: _Chunk) -> None:
        del self._free[bisect_left(self._free, chunk.key(), key=lambda entry: entry[0])]
