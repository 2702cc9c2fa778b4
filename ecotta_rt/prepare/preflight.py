"""Find out before the first epoch whether a network can become a bundle: hours of warm-up come before the export.

    cut -> shapes at each step size -> logits -> class names -> graphs, compiled -> a trial step by onnxruntime

The graphs are those of the bundle: only the state that they begin with is exchanged after the warm-up.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.exporter.compiled import Compiled
from ecotta_rt.exporter.export import ExportCallback, compile_graphs
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.files.temporary import temporary_folder
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.last_activation import looks_like_probabilities
from ecotta_rt.method.cut.one_line import one_line
from ecotta_rt.method.cut.partition import Partition, partition
from ecotta_rt.method.cut.tracing import describe, shape_of
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.lean.frozen import FrozenRun
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.method.statistics import Statistics
from ecotta_rt.method.step import Step
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.identity import start_as_identity
from ecotta_rt.runtime.engine import Runtime

__all__ = ["preflight", "require_answers"]

Tell = Callable[[str], None]

_TOLERANCE = 1e-3
"""Of a probability, between torch and onnxruntime; what goes wrong in a graph is far above, rounding far below."""


def preflight(
    network: nn.Module,
    bundle: Path | None,
    options: ExportOptions,
    *,
    parts: int,
    kernel: int,
    identity: bool = False,
    norms_learn: bool = False,
    report: ExportCallback | None = None,
    tell: Tell | None = None,
) -> Compiled | None:
    """Do everything that prepare does, except the warm-up.

    Args:
        network: Frozen, with its weights; nothing in it is trained here.
        bundle: Where the bundle will stand; None: none is wanted, and no graph is made.
        options: What it shall hold, the frame included.
        parts: K.
        kernel: Side of the meta convolutions.
        identity: The groups will start as an identity and not be warmed up.
        norms_learn: Scale and shift of the frozen norms will learn, too.
        report: Called for each graph.
        tell: Called with one line for each finding.

    Returns:
        The graphs, for `Compiled.write` with the warmed-up state; None where they have to be made from that.

    Raises:
        NetworkError: The network cannot be cut, run or exported; the message names the place.
        UsageError: Class names that are not one a logit, or more parts than it has.
        BudgetExceeded: No graph that learns fits on `device`.
    """
    say, frame = tell or (lambda line: None), options.frame
    assert frame is not None
    network.eval()
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()  # the layout of the graphs; a warm-up may have chosen another
    pieces = partition(network, torch.zeros(1, frame.channels, *frame.size), parts)
    for note in pieces.notes:
        say(note)
    frames, answers = require_answers(network, pieces, (frame.channels, *frame.size), options.classes, options.batches)
    adaptable = attach(pieces, kernel, norms_learn=norms_learn)
    if identity:
        start_as_identity(adaptable)
    _require_same(_frozen_answer(adaptable, frames), answers)
    say(_norms_found(network, adaptable))
    if bundle is None:
        return None
    state = to_adapt_state(initial_state(adaptable), adaptable.digest())
    compiled = compile_graphs(adaptable, state, bundle, options, report)
    _try_a_step(compiled, adaptable, options.step, bundle)
    return compiled if compiled.takes_any_state else None


def require_answers(
    network: nn.Module, pieces: Partition, shape: Sequence[int], classes: Sequence[str], batches: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Refuse a network whose pieces do not answer any number of frames with logits, one a class.

    Args:
        network: In evaluation mode.
        pieces: Of it, in evaluation mode.
        shape: (C, H, W) of a frame.
        classes: Class names; empty: as many as there are logits.
        batches: Frames a step.

    Returns:
        Some frames, and the pieces' logits for them.

    Raises:
        NetworkError: Other shapes at one of the sizes, probabilities instead of logits, answers that change from run to
            run or are not those of the network.
        UsageError: Another number of names than of logits.
    """
    logits = shape_of(pieces.head.graph.output_node().all_input_nodes[0]) or ()
    if logits == (1,):
        raise NetworkError(
            "the network gives one number a frame, [N, 1]: adaptation needs a logit for each class; for two classes "
            "return torch.cat([0 * z, z], 1)"
        )
    if len(logits) != 1 or (classes and logits != (len(classes),)):
        raise UsageError(
            f"{len(classes)} class names, and the network gives [N, {', '.join(map(str, logits))}]: "
            "give one name for each logit, in their order"
        )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for count in sorted(batches):
            _answer(pieces, torch.zeros(count, *shape))
        frames = torch.rand(4, *shape, generator=generator)
        answers = _answer(pieces, frames)
        if not torch.equal(answers, _answer(pieces, frames)):
            raise NetworkError(
                "the network answers the same frames differently each time: a dropout is on in evaluation mode, too; "
                "write F.dropout(x, p, training=self.training)"
            )
        if not pieces.notes:
            _require_same(answers, network(frames))
    if looks_like_probabilities(answers):
        raise NetworkError(
            "the network's rows are shares of 1, probabilities and not logits: no frame would be certain enough to "
            "learn from. Return what goes into its softmax"
        )
    return frames, answers


def _require_same(answers: Tensor, expected: Tensor) -> None:
    if not torch.allclose(answers, expected, rtol=1e-4, atol=1e-4):
        raise NetworkError(
            "the network cut into pieces gives other answers than the whole network: something outside its forwards, "
            "such as a hook, changes its features; make it a module"
        )


def _frozen_answer(adaptable: AdaptableNetwork, frames: Tensor) -> Tensor:
    """As the step runs it with a gradient, without the groups and with the norms' own statistics."""
    statistics = Statistics("source", adaptable.source_statistics())
    x = frames.clone().requires_grad_()
    for piece in adaptable.frozen_pieces():
        x = FrozenRun(piece, exact=False)(x, statistics)
    return x.detach()


class _Checked(fx.Interpreter):
    """Runs a piece, and holds each feature map against the shape that the trace knows."""

    def __init__(self, piece: fx.GraphModule, count: int) -> None:
        super().__init__(piece)
        self.extra_traceback = False
        self._count = count

    def run_node(self, n: fx.Node) -> Any:
        where = f"with {self._count} frames a step, node '{n.name}' ({describe(n)})"
        try:
            value = super().run_node(n)
        except Exception as error:
            raise NetworkError(f"{where} cannot run: {one_line(error)}") from error
        known = shape_of(n)
        if isinstance(value, Tensor) and known is not None and tuple(value.shape) != (self._count, *known):
            raise NetworkError(
                f"{where} gives {list(value.shape)} instead of {[self._count, *known]}: it must keep the first axis, "
                "the frames, whatever their number"
            )
        return value


def _answer(pieces: Partition, frames: Tensor) -> Tensor:
    x = frames
    for piece in (pieces.stem, *(part.module for part in pieces.parts), pieces.head):
        x = _Checked(piece, len(frames)).run(x)
    return x


def _norms_found(network: nn.Module, adaptable: AdaptableNetwork) -> str:
    found = len(adaptable.norms()) - 2 * len(adaptable.meta_groups)
    if not found:
        return (
            f"NO batch norm in {type(network).__name__}: on the device only the {len(adaptable.meta_groups)} meta "
            "groups follow the frames, which is the smaller part of what adaptation gains"
        )
    return f"{found} batch norms and {len(adaptable.meta_groups)} meta groups will follow the frames"


def _try_a_step(compiled: Compiled, adaptable: AdaptableNetwork, options: StepOptions, bundle: Path) -> None:
    """Let onnxruntime take one step, and compare its answer with torch's."""
    sizes = [facts.batch for facts, _ in compiled.graphs.values() if facts.kind == "step"]
    if not sizes:  # the device has room for frame by frame alone
        return
    channels, (height, width) = compiled.contents["frame"].channels, compiled.contents["frame"].size
    frames = np.random.default_rng(0).integers(0, 256, (min(sizes), height, width, channels), np.uint8)
    start = initial_state(adaptable)
    with temporary_folder(bundle.parent, f".{bundle.name}.") as folder:
        compiled.write(folder / "trial.ecotta", to_adapt_state(start, adaptable.digest()))
        found = Runtime.load(folder / "trial.ecotta", batch=min(sizes))(frames).probabilities
    logits = Step(adaptable, options).predict(start, torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)
    distance = float(np.abs(found - logits.softmax(1).numpy()).max())
    if not distance < _TOLERANCE:
        raise NetworkError(
            f"onnxruntime and torch give different answers to a trial frame: probabilities differ by "
            f"{distance:.3g}, more than {_TOLERANCE:g}. An operator of this network is not exported correctly; please "
            "report it"
        )
