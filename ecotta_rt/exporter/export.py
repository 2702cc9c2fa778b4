"""From a warmed-up network to a bundle: every graph a device may run, and what they share.

    network, state  ->  trace  ->  lower  ->  passes  ->  graphs  ->  net.ecotta
                                                     '->  weights.bin, once for all of them

One bundle has one normalisation mode. For each batch size it holds a `step` and a `predict` graph, and in `running`
mode an `observe` graph, which answers and tells each frame's own statistics. With `fast` it holds a second step that
takes more memory for less time: it stores more of its weights twice; for a single frame, it leaves the backward pass
out where it can; for a batch, it computes fewer parts again. With `frame_by_frame` the bundle also holds
`accumulate` (one frame) and `update`, which together make a step of any number of frames in one frame's memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch

from ecotta_rt.bundle import FrameSpec, GraphFacts, Manifest, StateLayout
from ecotta_rt.bundle.ports import SINGLE_FRAME
from ecotta_rt.errors import UsageError
from ecotta_rt.exporter.builder import OPSET
from ecotta_rt.exporter.compiled import Compiled
from ecotta_rt.exporter.frozen_weights import FrozenWeights, digest_of
from ecotta_rt.exporter.liveness import infer_shapes, live_bytes
from ecotta_rt.exporter.lowering import lower
from ecotta_rt.exporter.passes.fold_constants import fold_constants
from ecotta_rt.exporter.passes.join_splits import join_splits
from ecotta_rt.exporter.passes.keep_weights_once import keep_weights_once
from ecotta_rt.exporter.passes.masks import choose_masks
from ecotta_rt.exporter.passes.skip_backward import skip_backward
from ecotta_rt.exporter.passes.stack_scales import stack_scales
from ecotta_rt.exporter.request import ExportOptions, GraphRequest
from ecotta_rt.exporter.traced import (
    Traced,
    trace_accumulate,
    trace_observe,
    trace_predict,
    trace_step,
    trace_update,
)
from ecotta_rt.method.base import Method
from ecotta_rt.method.state import StepState, to_adapt_state, to_step_state
from ecotta_rt.method.step import Step
from ecotta_rt.options import StepOptions
from ecotta_rt.state import AdaptState

__all__ = ["PASSES", "ExportCallback", "build_graph", "compile_graphs", "export"]

ExportCallback = Callable[[str, int, int], None]
"""Called with a graph's name before it is made, how many are done, and how many there are."""

PASSES: tuple[Callable[[ir.Model], None], ...] = (
    fold_constants,
    join_splits,
    choose_masks,
    keep_weights_once,
    stack_scales,
)
"""What is done to a lowered graph, in this order."""


def export(
    method: Method, state: AdaptState, path: str | Path, options: ExportOptions, report: ExportCallback | None = None
) -> Manifest:
    """Write a bundle.

    Args:
        method: A network that adapts: from `attach`, or a `Tent`.
        state: Warmed-up; becomes the bundle's initial state.
        path: Where to.
        options: What it shall hold.
        report: Hears of each graph.

    Raises:
        BudgetExceeded: No graph that learns fits on the device.
        UsageError: Class names that are not one a logit.
        NetworkError: An operator that has no ONNX rule.
        InputFileError: `state` belongs to another network.
        TransferError: `path` cannot be written.
    """
    return compile_graphs(method, state, path, options, report).write(Path(path), state)


def compile_graphs(
    method: Method,
    state: AdaptState,
    path: str | Path,
    options: ExportOptions,
    report: ExportCallback | None = None,
    traces: dict[str, Traced] | None = None,
) -> Compiled:
    """Make a bundle's graphs; arguments and errors as for `export`, and `path` is not written.

    Args:
        traces: By graph what was traced before, of the same network, state and step; what is missing joins it.
    """
    requests, step = options.graphs(), options.step
    classes = _a_name_a_logit(method, options.classes)
    channels, height, width = method.frame_shape()
    start = to_step_state(method, state)
    weights, models = FrozenWeights(_known_names(method)), dict[str, ir.Model]()
    facts: dict[str, GraphFacts] = {}
    for done, request in enumerate(requests):
        if report is not None:
            report(request.name, done, len(requests))
        models[request.name] = build_graph(method, start, step, request, traces=traces)
        if request.fast and _same(models[request.name], models[request.name.removesuffix("-fast")]):
            del models[request.name]  # no heavy weight, and nothing that is computed again: there is no faster way
            continue
        facts[request.name] = _facts(models[request.name], method, step, request)
        if request.kind == "step" and request.batch == 1 and request.fast:
            skip_backward(models[request.name])
        weights.collect(models[request.name])
    graphs = {name: (facts[name], weights.move_out(model)) for name, model in models.items()}
    contents: dict[str, Any] = {
        "model": options.model,
        "network_digest": state.network_digest,
        "classes": classes,
        "parts": len(method.partition.parts),
        "frame": options.frame or FrameSpec(channels, height, width),
        "normalisation": step.normalisation,
        "method": method.ports(step.normalisation),
        "options": {
            name: value
            for name, value in asdict(step).items()
            if name != "normalisation" and name not in method.ignores and value is not None
        },
        "layout": StateLayout.of(to_adapt_state(start, state.network_digest), method.held),
        "weights": weights.arrays,
        "made_with": {"torch": torch.__version__, "onnx": onnx.__version__, "opset": str(OPSET)},
    }
    if report is not None:
        report("the plan", len(requests), len(requests))
    return Compiled(graphs, contents).with_plans(Path(path), state, options.device)


def _a_name_a_logit(method: Method, classes: Sequence[str]) -> Sequence[str]:
    logits = method.output_shape()
    if len(logits) == 1 and not classes:
        return [str(number) for number in range(logits[0])]
    if logits != (len(classes),):
        raise UsageError(
            f"{len(classes)} class names, and the network gives [N, {', '.join(map(str, logits))}]: "
            "give one name for each logit, in their order"
        )
    return classes


def build_graph(
    method: Method,
    state: StepState,
    options: StepOptions,
    request: GraphRequest,
    passes: Sequence[Callable[[ir.Model], None]] = PASSES,
    traces: dict[str, Traced] | None = None,
) -> ir.Model:
    """Trace, lower and rewrite one graph, by `passes` in their order; its weights are still in it."""
    kept = {} if traces is None else traces
    if request.name not in kept:
        kept[request.name] = _trace(method, state, options, request)
    model = lower(kept[request.name], request.name)
    for rewrite in passes:
        if rewrite is keep_weights_once and request.fast:
            keep_weights_once(model, one_in=2)
        else:
            rewrite(model)
    infer_shapes(model)
    return model


def _trace(method: Method, state: StepState, options: StepOptions, request: GraphRequest) -> Traced:
    frames = torch.zeros(request.batch, *method.frame_shape())
    options = replace(
        options,
        # What one frame's recomputation saves is less than its nodes cost.
        recompute_meta=options.recompute_meta and request.batch > 1,
        keep_parts=_kept_parts(method, options, request),
        frame_by_frame=request.kind in SINGLE_FRAME,
    )
    step = Step(method, options)
    if request.kind == "update":
        return trace_update(step, state)
    traces = {
        "step": trace_step,
        "predict": trace_predict,
        "observe": trace_observe,
        "accumulate": trace_accumulate,
    }
    return traces[request.kind](step, state, frames)


def _kept_parts(method: Method, options: StepOptions, request: GraphRequest) -> int:
    """How many of the last parts are not computed again: for a fast step, at least half of them."""
    parts = len(method.partition.parts)
    kept = options.kept_parts(parts)
    return max(kept, -(-parts // 2)) if request.fast else kept


def _same(model: ir.Model, other: ir.Model) -> bool:
    return [node.op_type for node in model.graph] == [node.op_type for node in other.graph]


def _facts(model: ir.Model, method: Method, options: StepOptions, request: GraphRequest) -> GraphFacts:
    memory = live_bytes(model)
    # Elsewhere nothing is computed again, and all parts are kept.
    recomputes = request.kind == "step" and (options.normalisation, options.frozen_gradient) == ("batch", "exact")
    variant = {"favours": "time" if request.fast else "memory", "masks": "bool"}
    if recomputes and "keep_parts" not in method.ignores:
        variant["kept parts"] = str(_kept_parts(method, options, request))
    return GraphFacts(
        kind=request.kind,
        batch=request.batch,
        activation_bytes=memory.activation_bytes if request.kind in ("step", "accumulate") else 0,
        step_peak_bytes=memory.peak_bytes,
        variant=variant,
    )


def _known_names(method: Method) -> dict[bytes, str]:
    """Digest -> name for the network's own weights, and for convolutions turned round as their gradients want them."""
    names = {}
    for piece in method.frozen_pieces():
        for name, parameter in piece.named_parameters():
            array = parameter.detach().numpy()
            names[digest_of(array)] = name
            if array.ndim == 4:
                names.setdefault(digest_of(array.swapaxes(0, 1)[..., ::-1, ::-1]), f"{name}.turned")
    return names
