"""From a network on disk to a warmed-up one on disk, and to a bundle: what `ecotta prepare` does.

network file or model id + checkpoint  ->  partition  ->  attach  ->  warm_up  ->  OUT.ecotta-kK.safetensors
network, warmed-up state  ->  partition  ->  attach  ->  export  ->  OUT.ecotta

Frames without labels are answered by the network itself first. Without frames the groups start as an identity. All
weights of the network may be trained a little before: see `fine_tuning`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from ecotta_rt.bundle import FrameSpec, Manifest
from ecotta_rt.data import Labelled, SourceData
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.exporter.compiled import Compiled
from ecotta_rt.exporter.export import ExportCallback, compile_graphs
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.exporter.traced import Traced
from ecotta_rt.method.attach import attach, attach_as
from ecotta_rt.method.cut.any_layout import in_any_layout
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.calibrate import frozen_answers
from ecotta_rt.prepare.checkpoint import load_network, read_network_file, save_network
from ecotta_rt.prepare.epochs import WarmUpCallback, WarmUpOptions
from ecotta_rt.prepare.held_out import GUESSES, HeldOut, is_guessing
from ecotta_rt.prepare.identity import identity_state
from ecotta_rt.prepare.matching import KeyMapping
from ecotta_rt.prepare.narrowed import channels_in
from ecotta_rt.prepare.networks import MODELS
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.prepare.recipe import following, with_class_tables
from ecotta_rt.prepare.snapshot import forget_other
from ecotta_rt.prepare.warmup import Labels, run_identity, warm_up
from ecotta_rt.state import AdaptState

__all__ = [
    "default_kernel",
    "export_bundle",
    "frozen_network",
    "model_name",
    "prepare",
    "prepare_without_data",
    "use_threads",
    "warmed_path",
]

_SUFFIX = ".safetensors"


def warmed_path(out: Path, parts: int) -> Path:
    """Where the warmed-up state of a network cut into `parts` stands: OUT.ecotta-kK.safetensors."""
    return out.with_name(f"{out.name}.ecotta-k{parts}{_SUFFIX}")


def default_kernel(model: str) -> int:
    """Side of the meta convolutions: 1 for networks of 224x224 frames (3 would add 24.9 M parameters to ResNet-50)."""
    return 1 if model in MODELS and MODELS[model].frame_size > 32 else 3


def frozen_network(
    name: str,
    checkpoint: Path | None,
    out: Path,
    *,
    classes: int | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    key_mapping: KeyMapping | None = None,
    tell: Callable[[str], None] | None = None,
) -> nn.Module:
    """The network to warm up, exactly as it will be loaded again.

    Args:
        name: As for `open_network`. A model id needs a checkpoint; its weights are rounded to fp16 and stored as
            OUT.safetensors first, and it is the stored ones that are returned.
        checkpoint: Weights to load.
        out: Where to store them, without suffix.
        classes: How many it tells apart, for a model id; None: as many as its public checkpoints.
        mean: As for `open_network`.
        std: As for `open_network`.
        key_mapping: As for `open_network`.
        tell: As for `open_network`.

    Raises:
        UsageError: A model id without weights, a name that stands for no network, or OUT.safetensors holds something
            other than what an earlier run made of this checkpoint.
        InputFileError: A file that is damaged or does not match.
    """
    if name not in MODELS:
        if checkpoint is not None and name.endswith(_SUFFIX):
            raise UsageError(f"checkpoint {checkpoint}: {name} has its weights already; give a model id instead")
        return open_network(name, checkpoint=checkpoint, mean=mean, std=std, key_mapping=key_mapping, tell=tell)
    if checkpoint is None:
        raise UsageError(
            f"{name}: random weights cannot be warmed up; give --checkpoint FILE, or a network file of ours"
        )
    stored = out.with_name(f"{out.name}{_SUFFIX}")
    _require_ours(stored, checkpoint)
    network = open_network(
        name, checkpoint=checkpoint, classes=classes, mean=mean, std=std, key_mapping=key_mapping, tell=tell
    )
    save_network(network, stored, model=name, recipe={"checkpoint": checkpoint.name}, channels=channels_in(checkpoint))
    return load_network(stored)


def _require_ours(stored: Path, checkpoint: Path) -> None:
    """Refuse to overwrite a file that no earlier run made of `checkpoint`; above all the checkpoint itself."""
    if not stored.exists():
        return
    try:
        made_from = read_network_file(stored).recipe.get("checkpoint")
    except InputFileError:
        made_from = None
    if made_from != checkpoint.name:
        raise UsageError(f"{stored} exists and was not made from {checkpoint}; --out chooses another name")


def model_name(name: str) -> str:
    """What a bundle calls the network that the user calls `name`."""
    return name if name in MODELS else read_network_file(name).model if name.endswith(_SUFFIX) else Path(name).name


def use_threads(threads: int | None) -> None:
    """Set the number of torch threads; None leaves the choice to torch.

    Raises:
        UsageError: Fewer than 1.
    """
    if threads is not None:
        if threads < 1:
            raise UsageError(f"threads={threads}: at least 1")
        torch.set_num_threads(threads)


def prepare(
    network: nn.Module,
    data: SourceData,
    out: Path,
    *,
    parts: int,
    kernel: int,
    norms_learn: bool = False,
    options: WarmUpOptions,
    origin: str = "",
    report: WarmUpCallback | None = None,
    tell: Callable[[str], None] | None = None,
    held_out: HeldOut | None = None,
    record: Mapping[str, str] = MappingProxyType({}),
    force: bool = False,
) -> AdaptState:
    """Cut, attach, warm up and save.

    Args:
        network: From `frozen_network`; taken over.
        data: Source data: frames to learn from, and held-out ones, whose error before and after is told.
        out: Where to, without suffix; see `warmed_path`. A snapshot stands beside it until the run is complete, and a
            run that finds one goes on from it.
        parts: K.
        kernel: Side of the meta convolutions.
        norms_learn: Let scale and shift of the frozen norms learn on the device; the warm-up leaves them alone.
        options: The warm-up's recipe.
        origin: What the data was, for the record.
        report: Called after each step.
        tell: Called with a line for each error of the held-out frames.
        held_out: Keeps these errors, for a caller who wants them as numbers; made of `data` where it is None.
        record: What was done to the network before, for the state's metadata: see `FineTuned.record`.
        force: Remove a snapshot of another run, which is refused otherwise.

    Returns:
        The state that was saved.
    """
    network.eval()  # a network of the user's own comes in training mode, and a functional dropout is traced as it is
    network = in_any_layout(network)
    # Frames come as N, H, W, C: seen as channels-last they need no copy, and CPUs are faster on them.
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    frames = data.training.frames
    held_out = held_out or HeldOut(data.held_out, options.batch, tell)
    height, width, channels = frames.shape[1:]
    with torch.no_grad():
        error_percent = held_out.measure("before the warm-up", network)
    if tell is not None and error_percent is not None and is_guessing(error_percent, data.held_out):
        tell(GUESSES)
    pieces = partition(network, torch.zeros(1, channels, height, width), parts)
    adaptable = attach(pieces, kernel, norms_learn=norms_learn, seed=options.seed)
    target = warmed_path(out, parts)
    snapshot = _snapshot_beside(target)
    labels: Labels
    if isinstance(data.training, Labelled):
        labels, whose = data.training.labels, "given"
    else:
        labels, whose = frozen_answers(adaptable, frames, options.batch), "the network's own answers"
    if force:
        forget_other(snapshot, run_identity(options, frames, labels, adaptable.digest()))
    state = warm_up(adaptable, frames, labels, options, report=report, snapshot=snapshot)
    held_out.measure("after it", TorchEngine(adaptable, StepOptions(normalisation="source"), state).predict)
    how = {"data": origin, "labels": whose}
    how |= {"parts": str(parts), "kernel": str(kernel), **record, **held_out.record()}
    state = with_class_tables(adaptable, replace(state, metadata={**state.metadata, **how}), frames, labels)
    state.save(target)
    snapshot.unlink(missing_ok=True)
    return state


def _snapshot_beside(target: Path) -> Path:
    """Where a run that is cut short leaves what it has; older versions left it under another suffix."""
    snapshot, before = target.with_suffix(".snapshot"), target.with_suffix(".checkpoint")
    if before.exists() and not snapshot.exists():
        before.rename(snapshot)
    return snapshot


def prepare_without_data(
    network: nn.Module, out: Path, *, frame: FrameSpec, parts: int, kernel: int, norms_learn: bool = False
) -> AdaptState:
    """Cut, attach and save, with groups that change nothing yet: the network answers as it does now, and learns later.

    Args:
        network: From `frozen_network`; taken over. Its norms start from the statistics in it.
        out: Where to, without suffix; see `warmed_path`.
        frame: What the network takes.
        parts: K.
        kernel: Side of the meta convolutions.
        norms_learn: Let scale and shift of the frozen norms learn, too.

    Returns:
        The state that was saved.
    """
    network.eval()
    pieces = partition(network, torch.zeros(1, frame.channels, *frame.size), parts)
    adaptable = attach(pieces, kernel, norms_learn=norms_learn, seed=0)
    state = identity_state(adaptable)
    state = replace(state, metadata={**state.metadata, "parts": str(parts), "kernel": str(kernel)})
    state.save(warmed_path(out, parts))
    return state


def export_bundle(
    network: nn.Module,
    warmed: Path,
    path: Path,
    options: ExportOptions,
    *,
    report: ExportCallback | None = None,
    compiled: Compiled | None = None,
    traces: dict[str, Traced] | None = None,
) -> Manifest:
    """Cut, attach, compile and write a bundle.

    Args:
        network: From `frozen_network`; taken over.
        warmed: File of the warmed-up state. It says into how many parts the network is cut.
        path: The bundle.
        options: What it shall hold, the frame included.
        report: Called for each graph.
        compiled: From `preflight` of the same options: written with the warmed-up state where it fits that, so that
            nothing is compiled twice.
        traces: As for `compile_graphs`.

    Raises:
        InputFileError: `warmed` cannot be read, or does not fit the network.
        NetworkError: An operator that has no ONNX rule.
    """
    state = AdaptState.load(warmed)
    network.eval()
    # Graphs take plain row-by-row tensors; the warm-up may have chosen another layout.
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    weights = [value for key, value in state.parameters.items() if key.endswith(".conv.weight")]
    if not weights:
        raise InputFileError(f"{warmed}: holds no meta groups")
    assert options.frame is not None
    example = torch.zeros(1, options.frame.channels, *options.frame.size)
    adaptable = attach_as(partition(network, example, len(weights)), state)
    recipe = following(adaptable, state, options.step)
    if compiled is None or not compiled.fits(recipe.state):
        compiled = compile_graphs(adaptable, recipe.state, path, options, report, traces)
    return compiled.write(path, recipe.state, recipe.adaptation, recipe.tables)
