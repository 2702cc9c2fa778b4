"""Record one adaptation step as a flat list of ATen operators: forward, gate, backward, update, statistics.

    Step (the function the torch engine runs)  ->  trace_step()  ->  fx.GraphModule of flat vectors in and out

It is the same `Step` object, run once on zeros under torch's own tracer, so what the device computes cannot drift from
what the torch engine computes. Parameters, momentum and statistics go in and come out as one vector each: a graph with
3 inputs instead of 130 costs less to bind and to update.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta

from ecotta_rt.method.step import Gradients, Step, StepState, flatten, unflatten
from ecotta_rt.options import StepOptions

__all__ = ["STEP_OUTPUTS", "Traced", "trace_accumulate", "trace_predict", "trace_step", "trace_update"]

STEP_OUTPUTS = ("logits", "entropy_nats", "kept", "l1", "moved")


class Traced(NamedTuple):
    """A traced function and the names of what goes in and comes out, in order."""

    graph: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def trace_step(step: Step, options: StepOptions, state: StepState, frames: Tensor) -> Traced:
    """Trace one step on a batch like `frames`, float32 `[N, C, H, W]`.

    In `source` mode the statistics of `state` become constants; in `batch` mode nobody reads them. Only in `running`
    mode are they an input and an output.
    """
    tracked = options.normalisation == "running"

    def flat_step(frames: Tensor, parameters: Tensor, momentum: Tensor, *statistics: Tensor) -> tuple[Tensor, ...]:
        outcome = step(_from_flat(state, parameters, momentum, statistics), frames)
        report, after = outcome.report, outcome.state
        results = [outcome.logits, report.entropy_nats, report.kept, report.l1, outcome.moved]
        results += [flatten(after.parameters, state.parameters), flatten(after.momentum, state.parameters)]
        return (*results, *([_flat_statistics(after)] if tracked else []))

    names = ["frames", "parameters", "momentum", *(["statistics"] if tracked else [])]
    flat = [flatten(state.parameters, state.parameters), flatten(state.momentum, state.parameters)]
    flat += [_flat_statistics(state)] if tracked else []
    outputs = (*STEP_OUTPUTS, *(f"next_{name}" for name in names[1:]))
    return Traced(_trace(flat_step, frames, *flat), tuple(names), outputs)


def trace_predict(step: Step, options: StepOptions, state: StepState, frames: Tensor) -> Traced:
    """Trace the forward pass alone on the current weights; in `running` mode the statistics still follow the frames."""
    tracked = options.normalisation == "running"

    def flat_predict(frames: Tensor, parameters: Tensor, *statistics: Tensor) -> tuple[Tensor, ...]:
        logits, after = step.predict(_from_flat(state, parameters, parameters, statistics), frames)
        return (logits, *([_flat_statistics(state._replace(statistics=after))] if tracked else []))

    flat = [flatten(state.parameters, state.parameters), *([_flat_statistics(state)] if tracked else [])]
    names = ("frames", "parameters", *(("statistics",) if tracked else ()))
    outputs = ("logits", *(("next_statistics",) if tracked else ()))
    return Traced(_trace(flat_predict, frames, *flat), names, outputs)


def trace_accumulate(step: Step, options: StepOptions, state: StepState, frame: Tensor) -> Traced:
    """Trace what one frame of several adds: its two gradients, each on top of those before it.

    `step` must have `frame_by_frame`. The L1 gradient is summed here and divided by the number of frames in `update`.
    """
    tracked = options.normalisation == "running"

    def flat_accumulate(
        frame: Tensor, parameters: Tensor, entropy: Tensor, l1: Tensor, *statistics: Tensor
    ) -> tuple[Tensor, ...]:
        now = _from_flat(state, parameters, parameters, statistics)
        logits, report, gradients, after = step.differentiate(now, frame)
        results = [logits, report.entropy_nats, report.kept, report.l1]
        results += [entropy + flatten(gradients.entropy, now.parameters), l1 + flatten(gradients.l1, now.parameters)]
        return (*results, *([_flat_statistics(state._replace(statistics=after))] if tracked else []))

    vector = flatten(state.parameters, state.parameters)
    flat = [vector, torch.zeros_like(vector), torch.zeros_like(vector), *([_flat_statistics(state)] if tracked else [])]
    names = ("parameters", "entropy_gradient", "l1_gradient", *(("statistics",) if tracked else ()))
    outputs = (*STEP_OUTPUTS[:-1], *(f"next_{name}" for name in names[1:]))
    return Traced(_trace(flat_accumulate, frame, *flat), ("frames", *names), outputs)


def trace_update(step: Step, state: StepState) -> Traced:
    """Trace the update that spends what `trace_accumulate` added up: G_ent / max(k, 1) + lambda G_L1 / n."""

    def flat_update(
        parameters: Tensor, momentum: Tensor, entropy: Tensor, l1: Tensor, kept: Tensor, frames: Tensor
    ) -> tuple[Tensor, ...]:
        now = _from_flat(state, parameters, momentum, ())
        shapes = {name: p.shape for name, p in state.parameters.items()}
        sums = Gradients(unflatten(entropy, shapes), unflatten(l1 / frames, shapes))
        after, moved = step.update(now, sums, kept, now.statistics, frames)
        return moved, flatten(after.parameters, state.parameters), flatten(after.momentum, state.parameters)

    # Each a tensor of its own: the tracer would take two arguments that are the same tensor for one.
    vectors = [torch.zeros_like(flatten(state.parameters, state.parameters)) for _ in range(4)]
    traced = _trace(flat_update, *vectors, torch.ones(()), torch.ones(()))
    names = ("parameters", "momentum", "entropy_gradient", "l1_gradient", "kept_count", "frame_count")
    return Traced(traced, names, ("moved", "next_parameters", "next_momentum"))


def _trace(function: Callable[..., Any], *examples: Tensor) -> fx.GraphModule:
    # One tensor given for two arguments would be one input to the tracer: all readers of the first would read the last.
    apart = [example.clone() for example in examples]
    with torch.no_grad(), preserve_node_meta():  # so that an error can name the module in the network
        traced: fx.GraphModule = make_fx(function)(*apart)
    return traced


def _from_flat(state: StepState, parameters: Tensor, momentum: Tensor, statistics: tuple[Tensor, ...]) -> StepState:
    shapes = {name: p.shape for name, p in state.parameters.items()}
    known = state.statistics
    if statistics:
        sizes = {f"{n}.{i}": value.shape for n, moments in known.items() for i, value in enumerate(moments)}
        pieces = unflatten(statistics[0], sizes)
        known = {name: (pieces[f"{name}.0"], pieces[f"{name}.1"]) for name in known}
    return StepState(unflatten(parameters, shapes), unflatten(momentum, shapes), known)


def _flat_statistics(state: StepState) -> Tensor:
    return torch.cat([value.reshape(-1) for moments in state.statistics.values() for value in moments])
