"""What a graph needs when onnxruntime runs it, as the planner found when the bundle was made."""

from dataclasses import dataclass
from typing import Annotated

from ecotta_rt.files.fields import Limit, OneOf, Since
from ecotta_rt.options import OPTIMISATIONS

__all__ = ["SessionFigures", "Tenant", "arena_doubles", "arena_overhead"]


def arena_doubles(frames: int) -> bool:
    """Whether the arena of a graph grows in regions of double size, instead of by each request.

    Feature maps of many frames are of few, large sizes. In a region far larger than any of them freed neighbours become
    one, and what is never reached of it is no memory; in regions of one tensor each, every larger tensor needs a new
    one. WRN-40-2, 64 frames: 236 MiB a process against 301 (benchmarks/results/sessions.json). For single frames it is
    the other way round, if at all (WRN-28-10: 352 against 327).

    Args:
        frames: Of a run.
    """
    return frames > 1


def arena_overhead(frames: int) -> float:
    """What malloc takes for an arena, as a multiple of its planned bytes.

    Regions are rounded to pages. Where they double, how tensors come to lie in them depends on the order of requests
    within an operator, which is not known.

    Args:
        frames: Of a run.
    """
    return 1.07 if arena_doubles(frames) else 1.05


_Bytes = Annotated[int, Limit(0, 1 << 50)]


@dataclass(frozen=True)
class Tenant:
    """A tensor that is alive at the worst moment.

    Attributes:
        name: What makes it, in words: `Conv block2.layer.1.conv1.weight, 64x64x16x16`.
        bytes: Its size.
    """

    name: Annotated[str, Limit(most=200)]
    bytes: _Bytes


@dataclass(frozen=True)
class SessionFigures:
    """One way to run one graph. Inputs, outputs and weights are not among the live tensors.

    Attributes:
        optimisation: One of `OPTIMISATIONS`.
        nodes: Nodes it has then, those of nested graphs included.
        live_bytes: Most bytes of buffers alive at any moment of a run.
        arena_bytes: What onnxruntime's arena takes for them: more, since chunks do not fit exactly.
        copied_bytes: Weights that are laid out anew at load: private memory of the process.
        mapped_bytes: Weights that are used where they lie in the file.
        tenants: The largest tensors that are alive at the peak, the largest first.
    """

    optimisation: Annotated[str, OneOf(OPTIMISATIONS)]
    nodes: Annotated[int, Limit(0, 1 << 16)]
    live_bytes: _Bytes
    arena_bytes: _Bytes
    copied_bytes: _Bytes
    mapped_bytes: _Bytes
    tenants: Annotated[tuple[Tenant, ...], Limit(most=16), Since(1)] = ()
