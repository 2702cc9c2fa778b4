"""From a warmed-up network to a bundle: every graph a device may run, and what they share.

    network, state  ->  trace  ->  lower  ->  passes  ->  graphs  ->  net.ecotta
                                                     '->  weights.bin, once for all of them

One bundle has one normalisation mode. For each batch size it holds a `step` and a `predict` graph; with `fast` a second
step that takes more memory for less time: it stores more of its weights twice; for a single frame, it leaves the
backward pass out where it can; for a batch, it computes fewer parts again. With `frame_by_frame` the bundle also holds
`accumulate` (one frame) and `update`, which together make a step of any number of frames in one frame's memory.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch

from ecotta_rt.bundle import FrameSpec, GraphFacts, GraphKind, Manifest, StateLayout
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
from ecotta_rt.exporter.traced import Traced, trace_accumulate, trace_predict, trace_step, trace_update
from ecotta_rt.machine.device import DeviceProfile
from ecotta_rt.method.attach import AdaptableNetwork
from ecotta_rt.method.cut.tracing import shape_of
from ecotta_rt.method.step import Step, StepState
from ecotta_rt.method.torch_engine import frame_shape, to_adapt_state, to_step_state
from ecotta_rt.options import ON_DEVICE, StepOptions
from ecotta_rt.state import AdaptState

__all__ = ["PASSES", "GraphRequest", "Report", "build_graph", "compile_graphs", "export", "requests_for"]

Report = Callable[[str, int, int], None]
"""Called with a graph's name before it is made, how many are done, and how many there are."""

PASSES: tuple[Callable[[ir.Model], None], ...] = (
    fold_constants,
    join_splits,
    choose_masks,
    keep_weights_once,
    stack_scales,
)
"""What is done to a lowered graph, in this order."""


@dataclass(frozen=True)
class GraphRequest:
    """One graph to make.

    Attributes:
        name: In the bundle.
        kind: `step`, `predict`, `accumulate` or `update`.
        batch: Frames a run.
        fast: Favours time over memory: every other heavy weight is there twice, for the fastest kernels (see
            `passes/keep_weights_once.py`); see also `skip_backward` and `_kept_parts`.
    """

    name: str
    kind: GraphKind
    batch: int
    fast: bool = False


def requests_for(batches: Sequence[int], options: StepOptions, fast: bool = False) -> tuple[GraphRequest, ...]:
    """The graphs of a bundle for these batch sizes.

    Raises:
        UsageError: No batch size, one below 1, one twice, or a single frame in `batch` normalisation.
    """
    if options.frame_by_frame and options.schedule != "one-step":
        raise UsageError(
            "frame_by_frame with schedule 'two-step' cannot be exported: its second forward needs all frames"
        )
    if not batches or min(batches) < 1 or len(set(batches)) < len(batches):
        raise UsageError(f"batches {list(batches)}: give one or more different sizes, each at least 1")
    if options.normalisation == "batch" and 1 in batches:
        raise UsageError(
            "batch 1 with normalisation 'batch': one frame's statistics say nothing; choose 'running' for single frames"
        )
    kinds: tuple[GraphKind, ...] = ("step", "predict")
    wanted = [GraphRequest(f"{kind}-{n}", kind, n) for n in batches for kind in kinds]
    if fast:
        wanted += [GraphRequest(f"step-{n}-fast", "step", n, fast=True) for n in batches]
    if options.frame_by_frame:
        wanted += [GraphRequest("accumulate", "accumulate", 1), GraphRequest("update", "update", 1)]
        if 1 not in batches:
            wanted.append(GraphRequest("predict-1", "predict", 1))
    return tuple(wanted)


def export(
    network: AdaptableNetwork,
    state: AdaptState,
    path: str | Path,
    *,
    model: str,
    classes: Sequence[str],
    frame: FrameSpec | None = None,
    batches: Sequence[int] = (1,),
    options: StepOptions | None = None,
    fast: bool = False,
    device: DeviceProfile | None = None,
    report: Report | None = None,
) -> Manifest:
    """Write a bundle.

    Args:
        network: From `attach`.
        state: Warmed-up; becomes the bundle's initial state.
        path: Where to.
        model: Name of the architecture, for people.
        classes: Class names in the order of the logits; empty: they are numbered.
        frame: How a picture becomes a frame of the size that the network was cut for; None: `cover`, uncropped.
        batches: Frames a step, one graph for each.
        options: How the device adapts; `frame_by_frame` adds the graphs for it. Default: `running`, with the paper's
            step size in proportion to the frames of a step.
        fast: Add a step graph for each batch size that trades memory for time.
        device: Leave out the graphs that do not fit there.
        report: Hears of each graph.

    Raises:
        BudgetExceeded: No graph that learns fits on `device`.
        UsageError: See `requests_for`; or class names that are not one a logit.
        NetworkError: An operator that has no ONNX rule.
        InputFileError: `state` belongs to another network.
        TransferError: `path` cannot be written.
    """
    compiled = compile_graphs(
        network,
        state,
        path,
        model=model,
        classes=classes,
        frame=frame,
        batches=batches,
        options=options,
        fast=fast,
        device=device,
        report=report,
    )
    return compiled.write(Path(path), state)


def compile_graphs(
    network: AdaptableNetwork,
    state: AdaptState,
    path: str | Path,
    *,
    model: str,
    classes: Sequence[str],
    frame: FrameSpec | None = None,
    batches: Sequence[int] = (1,),
    options: StepOptions | None = None,
    fast: bool = False,
    device: DeviceProfile | None = None,
    report: Report | None = None,
) -> Compiled:
    """Make a bundle's graphs; arguments and errors as for `export`, and `path` is not written."""
    options = options or ON_DEVICE
    requests = requests_for(batches, options, fast)
    classes = _a_name_a_logit(network, classes)
    start = to_step_state(network, state)
    weights, models = FrozenWeights(_known_names(network)), dict[str, ir.Model]()
    facts: dict[str, GraphFacts] = {}
    for done, request in enumerate(requests):
        if report is not None:
            report(request.name, done, len(requests))
        models[request.name] = build_graph(network, start, options, request)
        if request.fast and _same(models[request.name], models[request.name.removesuffix("-fast")]):
            del models[request.name]  # no heavy weight, and nothing that is computed again: there is no faster way
            continue
        # Elsewhere nothing is computed again, and all parts are kept.
        recomputes = request.kind == "step" and (options.normalisation, options.frozen_gradient) == ("batch", "exact")
        kept = {"kept parts": str(_kept_parts(network, options, request))} if recomputes else {}
        facts[request.name] = _facts(models[request.name], request, kept)
        if request.kind == "step" and request.batch == 1 and request.fast:
            skip_backward(models[request.name])
        weights.collect(models[request.name])
    graphs = {
        request.name: (facts[request.name], weights.move_out(models[request.name]))
        for request in requests
        if request.name in models
    }
    channels, height, width = frame_shape(network)
    contents: dict[str, Any] = {
        "model": model,
        "network_digest": state.network_digest,
        "classes": classes,
        "parts": len(network.meta_groups),
        "frame": frame or FrameSpec(channels, height, width),
        "normalisation": options.normalisation,
        "options": {k: v for k, v in asdict(options).items() if k != "normalisation" and v is not None},
        "layout": StateLayout.of(to_adapt_state(start, state.network_digest)),
        "weights": weights.arrays,
        "made_with": {"torch": torch.__version__, "onnx": onnx.__version__, "opset": str(OPSET)},
    }
    if report is not None:
        report("the plan", len(requests), len(requests))
    return Compiled(graphs, contents).with_plans(Path(path), state, device)


def _a_name_a_logit(network: AdaptableNetwork, classes: Sequence[str]) -> Sequence[str]:
    logits = shape_of(network.head.graph.output_node().all_input_nodes[0]) or ()
    if len(logits) == 1 and not classes:
        return [str(number) for number in range(logits[0])]
    if logits != (len(classes),):
        raise UsageError(
            f"{len(classes)} class names, and the network gives [N, {', '.join(map(str, logits))}]: "
            "give one name for each logit, in their order"
        )
    return classes


def build_graph(
    network: AdaptableNetwork,
    state: StepState,
    options: StepOptions,
    request: GraphRequest,
    passes: Sequence[Callable[[ir.Model], None]] = PASSES,
) -> ir.Model:
    """Trace, lower and rewrite one graph, by `passes` in their order; its weights are still in it."""
    traced = _trace(network, state, options, request)
    model = lower(traced, request.name)
    for rewrite in passes:
        if rewrite is keep_weights_once and request.fast:
            keep_weights_once(model, one_in=2)
        else:
            rewrite(model)
    infer_shapes(model)
    return model


def _trace(network: AdaptableNetwork, state: StepState, options: StepOptions, request: GraphRequest) -> Traced:
    frames = torch.zeros(request.batch, *frame_shape(network))
    # What one frame's recomputation saves is less than its nodes cost.
    options = replace(
        options,
        recompute_meta=options.recompute_meta and request.batch > 1,
        keep_parts=_kept_parts(network, options, request),
    )
    if request.kind in ("accumulate", "update"):
        options = replace(options, frame_by_frame=True)
        step = Step(network, options)
        return trace_update(step, state) if request.kind == "update" else trace_accumulate(step, options, state, frames)
    step = Step(network, replace(options, frame_by_frame=False))
    trace = trace_step if request.kind == "step" else trace_predict
    return trace(step, options, state, frames)


def _kept_parts(network: AdaptableNetwork, options: StepOptions, request: GraphRequest) -> int:
    """How many of the last parts are not computed again: for a fast step, at least half of them."""
    parts = len(network.meta_groups)
    kept = options.kept_parts(parts)
    return max(kept, -(-parts // 2)) if request.fast else kept


def _same(model: ir.Model, other: ir.Model) -> bool:
    return [node.op_type for node in model.graph] == [node.op_type for node in other.graph]


def _facts(model: ir.Model, request: GraphRequest, kept: Mapping[str, str]) -> GraphFacts:
    memory = live_bytes(model)
    return GraphFacts(
        kind=request.kind,
        batch=request.batch,
        activation_bytes=memory.activation_bytes if request.kind in ("step", "accumulate") else 0,
        step_peak_bytes=memory.peak_bytes,
        variant={"favours": "time" if request.fast else "memory", "masks": "bool", **kept},
    )


def _known_names(network: AdaptableNetwork) -> dict[bytes, str]:
    """Digest -> name for the network's own weights, and for convolutions turned round as their gradients want them."""
    names = {}
    for piece in network.frozen_pieces():
        for name, parameter in piece.named_parameters():
            array = parameter.detach().numpy()
            names[digest_of(array)] = name
            if array.ndim == 4:
                names.setdefault(digest_of(array.swapaxes(0, 1)[..., ::-1, ::-1]), f"{name}.turned")
    return names
