"""What an activation profile says: plain values, no torch, ready for a table or a JSON file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["ActivationReport", "KeptStorage", "PeakPoint", "in_mib"]

_MIB = 1024 * 1024


def in_mib(size_bytes: int) -> str:
    """`size_bytes` as text in MiB with one decimal, or in bytes where that would round to nothing."""
    if size_bytes < _MIB // 20:
        return f"{size_bytes} bytes"
    return f"{size_bytes / _MIB:.1f} MiB"


@dataclass(frozen=True)
class PeakPoint:
    """A moment of a step.

    Attributes:
        module: Path of the module that was running; in a backward without recomputation, of the module whose
            saved tensors were read last.
        operator: What made the tensor that completed the peak, for example `convolution`.
        phase: `forward`, or `backward` for everything that runs inside an autograd backward, recomputation included.
    """

    module: str
    operator: str
    phase: Literal["forward", "backward"]

    def __str__(self) -> str:
        return f"{self.module} (output of {self.operator}, {self.phase} pass)"


@dataclass(frozen=True)
class KeptStorage:
    """One storage that was there at a peak.

    Attributes:
        name: Where it was made: module path, operator and, where an operator has several outputs, which of them.
        part: The part that keeps it, or that made it where nobody keeps it.
        kept_by: Path of the module for whose backward it was kept first.
        shape: Shape of the tensor as its operator made it; views of it that are kept count as the whole.
        dtype: Its element type, for example `float32`.
        bytes: Size of the whole storage.
    """

    name: str
    part: str
    kept_by: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class ActivationReport:
    """Memory of one profiled block.

    Attributes:
        activation_bytes: Largest sum, over the whole block, of the unique storages kept for a later backward.
        peak_at: When that was; None where nothing was kept.
        tenants: What was kept at that moment, largest first.
        by_part: The same bytes by part, in the order in which the parts first kept something.
        step_peak_bytes: Largest sum of all live tensor storages allocated inside the block, transient ones, gradients
            and optimiser state included.
        step_peak_at: When that was; None where nothing was allocated.
        step_tenants: What was alive at that moment, largest first; `kept_by` is empty for what autograd never kept.
    """

    activation_bytes: int
    peak_at: PeakPoint | None
    tenants: tuple[KeptStorage, ...]
    by_part: Mapping[str, int]
    step_peak_bytes: int
    step_peak_at: PeakPoint | None
    step_tenants: tuple[KeptStorage, ...]

    def to_json(self) -> dict[str, object]:
        """The report as plain dictionaries, lists, strings and integers, for `json.dumps`."""
        return asdict(self)
