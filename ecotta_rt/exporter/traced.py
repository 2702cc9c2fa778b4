"""Record one adaptation step as a flat list of ATen operators: forward, gate, backward, update.

    Step (the function the torch engine runs)  ->  trace_step()  ->  fx.GraphModule of flat vectors in and out

It is the same `Step` object, run once on zeros under torch's own tracer, so what the device computes cannot drift from
what the torch engine computes. The state's sections go in and come out as one vector each: a graph with 3 inputs
instead of 130 costs less to bind and to update. Which graph takes and gives what: `ecotta_rt.bundle.ports`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta

from ecotta_rt.method.state import StepState, flatten, unflatten
from ecotta_rt.method.step import Step

__all__ = ["Traced", "trace_accumulate", "trace_observe", "trace_predict", "trace_step", "trace_update"]


_NEEDS_NUMBERS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
"""Of a network in which numbers say shapes, those of its own weights for example."""


_FEW = 1 << 16
"""Numbers of frames: to compute with fewer takes less time than to do without."""


class Traced(NamedTuple):
    """A traced function and the names of what goes in and comes out, in order."""

    graph: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def trace_step(step: Step, state: StepState, frames: Tensor) -> Traced:
    """Trace one step on a batch like `frames`, float32 `[N, C, H, W]`.

    State vectors that no step reads become constants, or are read by nobody.
    """
    ports = step.ports
    reads, writes = ports.read_by("step"), ports.written_by("step")
    report = tuple(port.name for port in ports.report)

    def flat_step(frames: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
        outcome = step(state.with_vectors(**dict(zip(reads, vectors, strict=True))), frames)
        told = [outcome.report[name] for name in report]
        return outcome.logits, *told, outcome.moved, *map(outcome.state.vector, writes), *_told(outcome.seen)

    graph = _trace(flat_step, frames, *map(state.vector, reads))
    return Traced(graph, ("frames", *reads), ("logits", *report, "moved", *map(_next, writes), *ports.told_by("step")))


def trace_predict(step: Step, state: StepState, frames: Tensor) -> Traced:
    """Trace the forward pass alone, on the current weights and statistics."""
    reads = step.ports.read_by("predict")

    def flat_predict(frames: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
        return (step.predict(state.with_vectors(**dict(zip(reads, vectors, strict=True))), frames),)

    return Traced(_trace(flat_predict, frames, *map(state.vector, reads)), ("frames", *reads), ("logits",))


def trace_observe(step: Step, state: StepState, frames: Tensor) -> Traced:
    """Trace the forward pass, and what each frame has of its own for statistics."""
    reads = step.ports.read_by("observe")

    def flat_observe(frames: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
        return step.observe(state.with_vectors(**dict(zip(reads, vectors, strict=True))), frames)

    graph = _trace(flat_observe, frames, *map(state.vector, reads))
    return Traced(graph, ("frames", *reads), ("logits", *step.ports.told_by("observe")))


def trace_accumulate(step: Step, state: StepState, frame: Tensor) -> Traced:
    """Trace what one frame of several adds: its gradients, each on top of those before it.

    `step` must have `frame_by_frame`. Gradients of means over frames are summed here and divided in `update`.
    """
    ports = step.ports
    learned, *others = ports.read_by("accumulate")
    count = len(ports.gradients)
    report = tuple(port.name for port in ports.report)
    losses = [name.removesuffix("_gradient") for name in ports.gradients]

    def flat_accumulate(frame: Tensor, parameters: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
        sums, rest = vectors[:count], dict(zip(others, vectors[count:], strict=True))
        now = state.with_vectors(**{learned: parameters}, **rest)
        seen = step.differentiate(now, frame)
        told = [seen.report[name] for name in report]
        added = [
            before + flatten(seen.gradients[loss], now.parameters) for before, loss in zip(sums, losses, strict=True)
        ]
        return seen.logits, *told, *added, *_told(seen.seen)

    vector = state.vector(learned)
    sums = [torch.zeros_like(vector) for _ in losses]
    graph = _trace(flat_accumulate, frame, vector, *sums, *map(state.vector, others))
    outputs = ("logits", *report, *map(_next, ports.gradients), *ports.told_by("accumulate"))
    return Traced(graph, ("frames", learned, *ports.gradients, *others), outputs)


def trace_update(step: Step, state: StepState) -> Traced:
    """Trace the update that spends what `trace_accumulate` added up; of `state` names and shapes count."""
    ports = step.ports
    reads, writes = ports.read_by("update"), ports.written_by("update")
    shapes = {name: p.shape for name, p in state.parameters.items()}

    def flat_update(*values: Tensor) -> tuple[Tensor, ...]:
        *vectors, kept, frames = values
        now = state.with_vectors(**dict(zip(reads, vectors[: len(reads)], strict=True)))
        gradients = {}
        for name, total in zip(ports.gradients, vectors[len(reads) :], strict=True):
            loss = name.removesuffix("_gradient")
            gradients[loss] = unflatten(total / frames if loss in step.over_frames else total, shapes)
        after, moved = step.update(now, gradients, kept, frames)
        return moved, *map(after.vector, writes)

    zeros = [torch.zeros_like(state.vector(reads[0])) for _ in (*reads, *ports.gradients)]
    traced = _trace(flat_update, *zeros, torch.ones(()), torch.ones(()))
    inputs = (*reads, *ports.gradients, "kept_count", "frame_count")
    return Traced(traced, inputs, ("moved", *map(_next, writes)))


def _told(seen: Tensor | None) -> tuple[Tensor, ...]:
    return () if seen is None else (seen,)


def _next(name: str) -> str:
    return f"next_{name}"


def _trace(function: Callable[..., Any], *examples: Tensor) -> fx.GraphModule:
    if examples[0].numel() < _FEW:
        return _recorded(function, examples, computed=True)
    # Shapes alone say what is recorded: a large batch takes neither its time nor its memory.
    try:
        return _recorded(function, examples, computed=False)
    except _NEEDS_NUMBERS:
        return _recorded(function, examples, computed=True)


def _recorded(function: Callable[..., Any], examples: tuple[Tensor, ...], computed: bool) -> fx.GraphModule:
    # The tracer notes the shape of every tensor in a fake mode. Where it finds none it makes a new one for each tensor,
    # stack trace included: half of the time of an export.
    fake = FakeTensorMode(allow_fallback_kernels=computed, allow_non_fake_inputs=True)
    # One tensor given for two arguments would be one input to the tracer: all readers of the first would read the last.
    apart = [example.clone() if computed else fake.from_tensor(example.clone()) for example in examples]
    record = make_fx(function, tracing_mode="real" if computed else "fake", _allow_non_fake_inputs=True)
    # The last so that an error can name the module in the network.
    with torch.no_grad(), tracing(TracingContext(fake)), preserve_node_meta():
        traced: fx.GraphModule = record(*apart)
    return traced
