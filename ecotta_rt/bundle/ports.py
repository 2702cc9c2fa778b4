"""What a graph of each kind takes and gives: the table that makers and readers of bundles share.

A runtime binds its buffers by these names and sizes. A graph that lacks one, has one more or has one of another size
would fail, or write past what was meant, in the middle of a stream; so it is refused when the bundle is opened.
"""

from collections.abc import Mapping, Sequence

from ecotta_rt.bundle.layout import ArrayShape

__all__ = ["SINGLE_FRAME", "find_other_port", "required_ports"]

_SIZES: dict[str, tuple[str, ...]] = {
    "frames": ("N", "channels", "height", "width"),
    "parameters": ("P",),
    "momentum": ("P",),
    "statistics": ("S",),
    "entropy_gradient": ("P",),
    "l1_gradient": ("P",),
    "kept_count": (),
    "frame_count": (),
    "logits": ("N", "C"),
    "entropy_nats": ("N",),
    "kept": ("N",),
    "l1": ("K",),
    "moved": (),
}
"""Name -> sizes; an output `next_NAME` has those of NAME."""

_TRUTH_VALUES = ("kept", "moved")

_STATISTICS = ("statistics", "next_statistics")
"""Only in `running` normalisation; in the others nobody reads them, or they are constants of the graph."""

_PORTS: dict[str, tuple[str, str]] = {
    "step": (
        "frames parameters momentum statistics",
        "logits entropy_nats kept l1 moved next_parameters next_momentum next_statistics",
    ),
    "predict": ("frames parameters statistics", "logits next_statistics"),
    "accumulate": (
        "frames parameters entropy_gradient l1_gradient statistics",
        "logits entropy_nats kept l1 next_entropy_gradient next_l1_gradient next_statistics",
    ),
    "update": (
        "parameters momentum entropy_gradient l1_gradient kept_count frame_count",
        "moved next_parameters next_momentum",
    ),
}
"""Kind -> inputs and outputs."""

SINGLE_FRAME = ("accumulate", "update")
"""Kinds of which there is one size: that of a frame."""


def required_ports(
    kind: str, sizes: Mapping[str, int], normalisation: str
) -> tuple[tuple[ArrayShape, ...], tuple[ArrayShape, ...]]:
    """Inputs and outputs of a graph, of which the order is free.

    Args:
        kind: What it is for.
        sizes: `N` frames a run, `channels`, `height` and `width` of one, `C` classes, `K` parts, `P` and `S` numbers of
            all parameters and all statistics.
        normalisation: That of the bundle.
    """

    def ports(names: str) -> tuple[ArrayShape, ...]:
        return tuple(_port(name, sizes) for name in names.split() if tracked or name not in _STATISTICS)

    tracked = normalisation == "running"
    inputs, outputs = _PORTS[kind]
    return ports(inputs), ports(outputs)


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


def _port(name: str, sizes: Mapping[str, int]) -> ArrayShape:
    shape = tuple(sizes[size] for size in _SIZES[name.removeprefix("next_")])
    return ArrayShape(name, shape, "bool" if name in _TRUTH_VALUES else "float32")


def _shown(port: ArrayShape) -> str:
    return f"{port.dtype} {list(port.shape)}"
