"""What the graphs of a method take and give: declared in the manifest, and the same for makers and readers of bundles.

A runtime binds its buffers by these names and sizes. A graph that lacks one, has one more or has one of another size
would fail, or write past what was meant, in the middle of a stream; so it is refused when the bundle is opened.

    step        frames, state vectors                          ->  logits, report, moved, next state vectors, seen
    predict     frames, parameters, statistics                 ->  logits
    observe     frames, parameters, statistics                 ->  logits, seen
    accumulate  frames, parameters, gradients, statistics      ->  logits, report, next gradients, seen
    update      parameters, optimiser, gradients, two counts   ->  moved, next parameters, next optimiser

`seen` and `observe` are there in `running` normalisation. Before version 5 graphs moved the statistics themselves:
`predict`, `step` and `accumulate` gave their next value, and nothing was seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ecotta_rt.bundle.layout import ArrayShape, Shape
from ecotta_rt.files.fields import Limit
from ecotta_rt.options import TRACKED

__all__ = ["SEEN", "SINGLE_FRAME", "MethodPorts", "ReportPort", "StateVector", "find_other_port", "required_ports"]

Role = Literal["learned", "optimiser", "observed", "tracked", "held"]
"""What becomes of a state vector:

    learned     every graph reads it, those that learn write it
    optimiser   those that update read and write it
    observed    all graphs of frames read it; all but `predict` tell each frame's own in `seen`, to be moved by
    tracked     up to version 4: all graphs of frames read it and write its next value
    held        in no graph: constants, or nobody's
"""

_READ_BY: Mapping[Role, tuple[str, ...]] = {
    "learned": ("step", "predict", "observe", "accumulate", "update"),
    "optimiser": ("step", "update"),
    "observed": ("step", "predict", "observe", "accumulate"),
    "tracked": ("step", "predict", "accumulate"),
    "held": (),
}
_WRITTEN_BY: Mapping[Role, tuple[str, ...]] = {**_READ_BY, "learned": ("step", "update"), "observed": ()}
_SEEN_BY = ("step", "observe", "accumulate")

SEEN = "seen"
"""The output that tells each frame's own statistics, `[N, S]`."""

SINGLE_FRAME = ("accumulate", "update")
"""Kinds of which there is one size: that of a frame."""

_COUNTS = ("kept_count", "frame_count")
_ALWAYS = ("frames", "logits", "moved", SEEN, *_COUNTS)

_MOST = 16
_MOST_TOLD = 1 << 16  # numbers of one report, as many as there may be logits
_Name = Annotated[str, Limit(most=200)]


def _report_size(shape: tuple[int, ...]) -> str | None:
    return f"{list(shape)} is more than {_MOST_TOLD} numbers" if math.prod(shape) > _MOST_TOLD else None


@dataclass(frozen=True)
class StateVector:
    """A section of the state, laid out as one float32 vector; `next_NAME` is its value after the run.

    Attributes:
        name: The section: `parameters`, `momentum`, `statistics`.
        role: What becomes of it.
    """

    name: _Name
    role: Role


@dataclass(frozen=True)
class ReportPort:
    """Something that a step tells.

    Attributes:
        name: What it is called.
        shape: Its dimensions, behind the frames where it is told of each.
        per: `frame`: its first axis is the frames; or `step`.
        dtype: numpy's word for the number format.
    """

    name: _Name
    shape: Annotated[Shape, _report_size] = ()
    per: Literal["frame", "step"] = "step"
    dtype: Literal["float32", "bool"] = "float32"


_ENTROPY = ReportPort("entropy_nats", per="frame")
_KEPT = ReportPort("kept", per="frame", dtype="bool")


@dataclass(frozen=True)
class MethodPorts:
    """What a method's graphs have beside frames, logits, `moved` and the two counts.

    Attributes:
        name: Of the method.
        state: The state's vectors.
        gradients: Sums that are added up frame by frame, each as long as the parameters.
        report: What a step tells; `kept`, of each frame, is always among it.
    """

    name: _Name
    state: Annotated[tuple[StateVector, ...], Limit(most=_MOST)]
    gradients: Annotated[tuple[_Name, ...], Limit(most=_MOST)]
    report: Annotated[tuple[ReportPort, ...], Limit(most=_MOST)]

    @classmethod
    def of(
        cls,
        name: str,
        gradients: Sequence[str],
        report: Sequence[ReportPort],
        normalisation: str,
        follows: Literal["observed", "tracked"] = "observed",
    ) -> "MethodPorts":
        """Of a method that goes down its gradients by SGD with momentum, in one normalisation mode.

        Args:
            name: Of the method.
            gradients: Its sums.
            report: What a step tells beside entropy and gate.
            normalisation: The mode.
            follows: How statistics that follow the frames do so: `tracked` up to version 4.
        """
        statistics: Role = follows if normalisation in TRACKED else "held"
        state = (
            StateVector("parameters", "learned"),
            StateVector("momentum", "optimiser"),
            StateVector("statistics", statistics),
        )
        return cls(name, state, tuple(gradients), (_ENTROPY, _KEPT, *report))

    @classmethod
    def of_ecotta(
        cls, parts: int, normalisation: str, follows: Literal["observed", "tracked"] = "observed"
    ) -> "MethodPorts":
        """Of EcoTTA. Bundles up to version 3, which declare nothing, hold no other method."""
        report = [ReportPort("l1", (parts,))]
        return cls.of("ecotta", ("entropy_gradient", "l1_gradient"), report, normalisation, follows)

    def read_by(self, kind: str) -> tuple[str, ...]:
        """State vectors that a graph of this kind takes."""
        return tuple(vector.name for vector in self.state if kind in _READ_BY[vector.role])

    def written_by(self, kind: str) -> tuple[str, ...]:
        """State vectors whose next value a graph of this kind gives."""
        return tuple(vector.name for vector in self.state if kind in _WRITTEN_BY[vector.role])

    @property
    def observes(self) -> bool:
        """Whether statistics are told by the graphs, and moved by whoever runs them."""
        return any(vector.role == "observed" for vector in self.state)

    def told_by(self, kind: str) -> tuple[str, ...]:
        """`seen`, where a graph of this kind tells it."""
        return (SEEN,) if self.observes and kind in _SEEN_BY else ()

    def problem(self) -> str | None:
        """What no reader could use, in words; None where all is well."""
        names = [vector.name for vector in self.state] + [port.name for port in self.report]
        names += [*self.gradients, *_ALWAYS]
        twice = next((name for name in names if names.count(name) > 1), None)
        reserved = next((name for name in names if name.startswith("next_")), None)
        if twice or reserved:
            return f"the name {twice!r} is given twice" if twice else f"{reserved!r}: 'next_' begins other names"
        if not self.gradients:
            return "no gradients, expected at least one"
        return None if _KEPT in self.report else "the report lacks 'kept', bool, of each frame"


def required_ports(
    method: MethodPorts, kind: str, batch: int, sizes: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[ArrayShape, ...], tuple[ArrayShape, ...]]:
    """Inputs and outputs of a graph, of which the order is free.

    Args:
        method: What the manifest declares.
        kind: What the graph is for.
        batch: Frames a run.
        sizes: Shapes of one frame, `frames`, its `logits`, what is `seen` in it, and each state vector, by name.
    """
    next_ = "next_{}".format
    report = tuple(
        ArrayShape(port.name, (batch, *port.shape) if port.per == "frame" else port.shape, port.dtype)
        for port in method.report
    )
    gradients = tuple(ArrayShape(name, sizes["parameters"]) for name in method.gradients)
    update = kind == "update"
    takes = [] if update else [ArrayShape("frames", (batch, *sizes["frames"]))]
    takes += [ArrayShape(name, sizes[name]) for name in method.read_by(kind)]
    gives = [] if update else [ArrayShape("logits", (batch, *sizes["logits"]))]
    gives += [ArrayShape(next_(name), sizes[name]) for name in method.written_by(kind)]
    if update:
        takes += [*gradients, *(ArrayShape(name, ()) for name in _COUNTS)]
    gives += [ArrayShape(name, (batch, *sizes[name])) for name in method.told_by(kind)]
    if kind in ("step", "accumulate"):
        gives += report
    if kind in ("step", "update"):
        gives.append(ArrayShape("moved", (), "bool"))
    if kind == "accumulate":
        takes += gradients
        gives += [ArrayShape(next_(port.name), port.shape) for port in gradients]
    return tuple(takes), tuple(gives)


def find_other_port(found: Sequence[ArrayShape], required: Sequence[ArrayShape]) -> str | None:
    """What is wrong with a graph's inputs or outputs, in words; None where they are those required."""
    has = {port.name: port for port in found}
    wants = {port.name: port for port in required}
    for name, port in wants.items():
        if name not in has:
            return f"{name!r} is missing, expected {_shown(port)}"
        if has[name] != port:
            return f"{name!r} is {_shown(has[name])}, expected {_shown(port)}"
    return next((f"{name[:80]!r} is not known; expected {', '.join(wants)}" for name in has if name not in wants), None)


def _shown(port: ArrayShape) -> str:
    return f"{port.dtype} {list(port.shape)}"
