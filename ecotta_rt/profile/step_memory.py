"""Account for a step's storages as it runs: which are alive, which of them autograd keeps, and the peak of both.

    an operator makes a storage  -> allocate     the storage dies           -> free
    autograd saves it            -> keep         autograd lets go of it     -> release

Only sums and the storages of the present peak are stored, so a block may run for as long as it likes. Knows nothing of
torch: storages are known by a number, their origin by text.
"""

import weakref
from dataclasses import dataclass, field

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.profile.profile_report import PeakPoint, in_mib

__all__ = ["Block", "StepMemory", "Tally"]


@dataclass(slots=True, eq=False)
class Block:
    """One storage that was allocated inside the profiled block."""

    nbytes: int
    name: str
    operator: str
    shape: tuple[int, ...]
    dtype: str
    made_in: str
    lifetime: weakref.ref[object] | None = field(default=None, repr=False)
    keepers: int = 0
    kept_by: str = ""
    kept_until_freed: bool = False


class Tally:
    """A sum of blocks that come and go, with its peak and what it was made of."""

    def __init__(self) -> None:
        self.bytes = 0
        self.peak_bytes = 0
        self.peak_at: PeakPoint | None = None
        self._clock = 0
        self._peak_clock = 0
        self._present: dict[int, tuple[int, Block]] = {}  # by id, with the time of entry
        # What was there at the present peak and has left since. Whatever left before a peak can't be part of it or of a
        # later one, so a new peak empties the list.
        self._left: list[tuple[int, Block]] = []

    def add(self, block: Block, at: PeakPoint) -> None:
        """Count a block."""
        self._clock += 1
        self._present[id(block)] = (self._clock, block)
        self._grow(block.nbytes, at)

    def remove(self, block: Block) -> None:
        """Stop counting a block."""
        entry = self._present.pop(id(block))
        self.bytes -= block.nbytes
        if entry[0] <= self._peak_clock:
            self._left.append(entry)

    def resize(self, block: Block, nbytes: int, at: PeakPoint) -> None:
        """Count a block, if present, with another size from now on."""
        if id(block) in self._present:
            self._grow(nbytes - block.nbytes, at)

    def present(self) -> list[Block]:
        """The blocks counted now."""
        return [block for _, block in self._present.values()]

    def at_peak(self) -> list[Block]:
        """The blocks of the peak, in the order in which they came."""
        still = [entry for entry in self._present.values() if entry[0] <= self._peak_clock]
        return [block for _, block in sorted(still + self._left, key=lambda entry: entry[0])]

    def _grow(self, nbytes: int, at: PeakPoint) -> None:
        self.bytes += nbytes
        if self.bytes > self.peak_bytes:
            self.peak_bytes, self.peak_at, self._peak_clock = self.bytes, at, self._clock
            self._left.clear()


class StepMemory:
    """The live and the kept bytes of a step.

    Args:
        limit_bytes: Largest sum of kept bytes allowed, or None.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.live = Tally()
        self.kept = Tally()
        self._blocks: dict[int, Block] = {}

    def find(self, key: int) -> Block | None:
        """The live block of a storage, or None for a storage that is not this step's."""
        return self._blocks.get(key)

    def allocate(self, key: int, block: Block, at: PeakPoint) -> None:
        """Begin to count a new storage."""
        self._blocks[key] = block
        self.live.add(block, at)

    def resize(self, block: Block, nbytes: int, at: PeakPoint) -> None:
        """Follow a storage that was resized in place."""
        for tally in (self.live, self.kept):
            tally.resize(block, nbytes, at)
        block.nbytes = nbytes

    def free(self, key: int) -> None:
        """Stop counting a storage that has died."""
        block = self._blocks.pop(key, None)
        if block is None:
            return
        self.live.remove(block)
        if block.kept_until_freed:
            self.release(block)

    def keep(self, block: Block, at: PeakPoint) -> None:
        """Count one more reference of autograd's to a block.

        Raises:
            BudgetExceeded: The kept bytes have passed the limit; the reference is then not counted.
        """
        block.keepers += 1
        if block.keepers == 1:
            block.kept_by = at.module
            self.kept.add(block, at)
            self._check_limit(block, at)

    def keep_until_freed(self, block: Block, at: PeakPoint) -> None:
        """Count a block as kept for as long as its storage lives."""
        if not block.kept_until_freed:
            self.keep(block, at)
            block.kept_until_freed = True

    def release(self, block: Block) -> None:
        """Take back one reference of autograd's."""
        block.keepers -= 1
        if block.keepers == 0:
            self.kept.remove(block)

    def close(self) -> None:
        """Let go of every storage; what dies later is no longer followed."""
        self._blocks.clear()

    def _check_limit(self, block: Block, at: PeakPoint) -> None:
        need_bytes = self.kept.bytes
        if self.limit_bytes is None or need_bytes <= self.limit_bytes:
            return
        largest = max(self.kept.present(), key=lambda kept: kept.nbytes)
        self.release(block)
        raise BudgetExceeded(
            f"the step keeps {in_mib(need_bytes)} for its backward so far, over the limit of "
            f"{in_mib(self.limit_bytes)}, at {at}; the largest tenant is {largest.name} "
            f"({in_mib(largest.nbytes)}, {list(largest.shape)} {largest.dtype}, kept by {largest.kept_by}). "
            "Try a smaller batch, recomputation (checkpointing), fewer parameters that train, or a higher limit",
            need_bytes=need_bytes,
            limit_bytes=self.limit_bytes,
            largest_tenant=largest.name,
        )
