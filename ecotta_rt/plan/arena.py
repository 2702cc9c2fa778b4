"""onnxruntime's arena on paper: which memory it takes from the system for a sequence of requests.

Best fit among free chunks; a chunk is split only where the request fills less than half of it, so that up to half of
one may lie idle; neighbours in one region grow together when both are free; nothing is given back. A request that
nothing fits takes a new region from the system: of its own size (the extension strategy `kSameAsRequested`), or of
twice the size of the region before, if that is enough (`kNextPowerOfTwo`); `ecotta_rt.session.costs.arena_doubles`
says which. So what it holds is more than what lives in it, and depends on the order of requests; and of a large region
only the pages that some request has reached are memory.

Source: onnxruntime/core/framework/bfc_arena.cc.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

__all__ = ["Arena"]

_ALIGNMENT_BYTES = 256
_MAX_DEAD_BYTES = 128 << 20
_FIRST_REGION_BYTES = 1 << 20
_LARGEST_REGION_BYTES = 1 << 30
_PAGE_BYTES = 4096


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

    Args:
        doubling: Whether each region is twice as large as the one before.

    Attributes:
        held_bytes: Taken from the system so far.
        used_bytes: In chunks that are in use.
    """

    def __init__(self, doubling: bool = False) -> None:
        self.held_bytes = 0
        self.used_bytes = 0
        self._next_region_bytes = _FIRST_REGION_BYTES if doubling else 0
        self._reached = bytearray()  # 1 for each page that some request has reached
        self._free: list[tuple[tuple[int, int], _Chunk]] = []
        self._next_order = 0

    def take(self, size_bytes: int) -> _Chunk:
        """A chunk for a request of this size; to be handed to `give_back`."""
        size = max(-(-size_bytes // _ALIGNMENT_BYTES), 1) * _ALIGNMENT_BYTES
        position = bisect_left(self._free, (size, -1), key=lambda entry: entry[0])
        chunk = self._free.pop(position)[1] if position < len(self._free) else self._region(size)
        if chunk.size >= 2 * size or chunk.size - size >= _MAX_DEAD_BYTES:
            self._split(chunk, size)
        chunk.free = False
        self.used_bytes += chunk.size
        self._reach(chunk.order * _ALIGNMENT_BYTES, size)
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

    @property
    def resident_bytes(self) -> int:
        """What of it is memory: all pages that some request has reached."""
        return min(self._reached.count(1) * _PAGE_BYTES, self.held_bytes)

    def _region(self, size: int) -> _Chunk:
        """A new one for a request of this size, as a single chunk."""
        region = size
        if self._next_region_bytes:
            region = self._next_region_bytes
            while region < size:
                region *= 2
            grown = region if region > self._next_region_bytes else 2 * region
            self._next_region_bytes = min(grown, _LARGEST_REGION_BYTES)
        chunk = _Chunk(region, self._next_order)
        self._next_order += region // _ALIGNMENT_BYTES
        self.held_bytes += region
        return chunk

    def _reach(self, start: int, size: int) -> None:
        first, last = start // _PAGE_BYTES, -(-(start + size) // _PAGE_BYTES)
        self._reached.extend(bytes(max(0, last - len(self._reached))))
        self._reached[first:last] = b"\1" * (last - first)

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
