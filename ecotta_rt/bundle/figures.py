"""What a graph needs when onnxruntime runs it, as the planner found when the bundle was made."""

from dataclasses import dataclass
from typing import Annotated

from ecotta_rt.files.fields import Limit, OneOf, Since
from ecotta_rt.options import OPTIMISATIONS

__all__ = ["SessionFigures", "Tenant"]


_Bytes = Annotated[int, Limit(0, 1 << 50)]


@dataclass(frozen=True)
class Tenant:
    """What takes memory at the worst moment: a tensor, or a part of the process.

    Attributes:
        name: Of a tensor what makes it, in words: `Conv block2.layer.1.conv1.weight, 64x64x16x16`.
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
