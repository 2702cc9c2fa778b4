"""The adaptation step, a pure function.

    step(network, options, state, frames)  ->  Outcome(logits, report, state)

    stem -> [ part_k -> group_k ] x K -> head -> logits -> entropy gate -> gradients -> SGD
                          '-> L1 to the part's own output

Nothing is changed in place: the state that goes in still exists afterwards, so a refused update costs nothing.
Predictions always come from the forward *before* the entropy update: a frame is answered first and learned from second.

An empty gate (no frame below the threshold) is a zero step, and so is a gradient that is not finite: parameters and
momentum stay as they were, and only the statistics of `running` mode follow the frames. The L1 update of a two-step
comes before the gate and is made anyway. A two-step's second forward uses the statistics that the first one left.

Source:
    Song et al. 2023, EcoTTA, arXiv 2303.01904, sections 3.1 to 3.3.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ecotta_rt.method.attach import AdaptableNetwork
from ecotta_rt.method.lean.frozen import FrozenRun
from ecotta_rt.method.lean.operators import recompute
from ecotta_rt.method.losses import entropy_nats, entropy_threshold_nats, self_distilled_l1
from ecotta_rt.method.meta import lean_meta_group
from ecotta_rt.method.statistics import Moments, Statistics
from ecotta_rt.options import StepOptions

__all__ = ["Gradients", "Outcome", "Report", "Step", "StepState", "flatten", "unflatten"]

Named = dict[str, Tensor]


class StepState(NamedTuple):
    """All that changes from step to step."""

    parameters: Named  # float32, by name: groups.K.conv.weight ...
    momentum: Named  # float32, same names and shapes
    statistics: dict[str, Moments]  # by norm name; (mean, biased variance), float32 [C] each


class Report(NamedTuple):
    """What a step saw."""

    entropy_nats: Tensor  # [N]
    kept: Tensor  # bool [N], frames that passed the gate
    l1: Tensor  # [K], mean absolute distance of each group's output to the frozen part's own


class Outcome(NamedTuple):
    """What a step returns."""

    logits: Tensor  # [N, C], from before the entropy update
    report: Report
    state: StepState
    moved: Tensor  # bool [], whether the (entropy) update was made


class Gradients(NamedTuple):
    """What a backward pass leaves, by parameter name."""

    entropy: Named  # of the *sum* of the kept frames' entropies
    l1: Named  # of lambda * sum_k L1_k, mean over frames; empty where it is in `entropy` already, times max(k, 1)


class Step:
    """The step of one network under one set of options; calling it is pure."""

    def __init__(self, network: AdaptableNetwork, options: StepOptions) -> None:
        self._network, self._options = network, options
        exact = options.frozen_gradient == "exact"
        # Recomputation pays only where something large would be kept: exact gradients through batch statistics.
        recomputes = exact and options.normalisation == "batch"
        parts = len(network.partition.parts)
        self._recomputed_parts = parts - options.kept_parts(parts) if recomputes else 0
        self._stem = FrozenRun(network.partition.stem, exact)
        self._head = FrozenRun(network.partition.head, exact)
        size = options.segment_cells
        self._segments = [
            [[FrozenRun(cell, exact) for cell in part.cells[i : i + size]] for i in range(0, len(part.cells), size)]
            for part in network.partition.parts
        ]

    def __call__(self, state: StepState, frames: Tensor) -> Outcome:
        """One step.

        Args:
            state: Where the last step ended.
            frames: float32 `[N, C, H, W]` in [0, 1].

        Returns:
            Logits of these frames, what was seen, and the next state.
        """
        options = self._options
        first_l1: Tensor | None = None
        if options.schedule == "two-step":
            _, report, gradients, statistics = self._differentiate(state, frames, options.statistics_momentum, "l1")
            down = flatten(gradients.l1, state.parameters)
            state, _ = self._descend(state, down, statistics, torch.ones((), dtype=torch.bool), len(frames))
            first_l1 = report.l1
        # The second forward of a two-step sees the same frames: they must not move the statistics twice.
        moves = options.statistics_momentum if first_l1 is None else 0.0
        losses = "both" if first_l1 is None else "entropy"
        logits, report, gradients, statistics = self._differentiate(state, frames, moves, losses)
        after, moved = self.update(state, gradients, report.kept.sum(), statistics, len(frames))
        return Outcome(logits, report if first_l1 is None else report._replace(l1=first_l1), after, moved)

    def differentiate(self, state: StepState, frames: Tensor) -> tuple[Tensor, Report, Gradients, dict[str, Moments]]:
        """The first half of a one-step: logits, report, gradients and the statistics that these frames leave.

        With `frame_by_frame` the two gradients come apart, so that those of several calls can be added up.
        """
        return self._differentiate(state, frames, self._options.statistics_momentum, "both")

    def update(
        self, state: StepState, gradients: Gradients, kept: Tensor, statistics: dict[str, Moments], frames: int | Tensor
    ) -> tuple[StepState, Tensor]:
        """The second half: G_ent / max(k, 1) + lambda G_L1, down which SGD goes.

        Args:
            state: Before the step.
            gradients: Of the sum of the kept frames' entropies, and of lambda times the L1 terms, over all frames.
            kept: k, how many frames passed the gate, `[]`.
            statistics: After these frames.
            frames: How many there were.

        Returns:
            The next state, and whether the parameters moved.
        """
        entropy = flatten(gradients.entropy, state.parameters)
        total = entropy * (1.0 / kept.clamp_min(1).to(entropy.dtype))
        if gradients.l1:
            total = total + flatten(gradients.l1, state.parameters)
        return self._descend(state, total, statistics, kept > 0, frames)

    def predict(self, state: StepState, frames: Tensor) -> tuple[Tensor, dict[str, Moments]]:
        """Logits without learning, and the statistics that these frames leave (moved only in `running` mode)."""
        statistics = self._statistics(state, self._options.statistics_momentum)
        with torch.no_grad():
            logits = self._forward(state.parameters, statistics, frames)[0]
        return logits, statistics.after()

    def moments(self, state: StepState, frames: Tensor) -> dict[str, Moments]:
        """The moments that every norm used for these frames, by norm name; nothing learns."""
        statistics = self._statistics(state, self._options.statistics_momentum)
        with torch.no_grad():
            self._forward(state.parameters, statistics, frames)
        return statistics.used

    def _differentiate(
        self, state: StepState, frames: Tensor, momentum: float, losses: str
    ) -> tuple[Tensor, Report, Gradients, dict[str, Moments]]:
        """Forward and backward over the batch, at once or one frame at a time."""
        pieces = [frames[i : i + 1] for i in range(len(frames))] if self._options.frame_by_frame else [frames]
        known, logits, reports = state.statistics, [], []
        sums = Gradients({}, {})
        for piece in pieces:
            statistics = self._statistics(state._replace(statistics=known), momentum)
            piece_logits, report, gradients = self._one_backward(state.parameters, statistics, piece, losses)
            _add_up(sums.entropy, gradients.entropy, 1.0)
            _add_up(sums.l1, gradients.l1, 1 / len(pieces))
            known = statistics.after()
            logits.append(piece_logits)
            reports.append(report)
        merged = Report(
            torch.cat([r.entropy_nats for r in reports]),
            torch.cat([r.kept for r in reports]),
            torch.stack([r.l1 for r in reports]).mean(0),
        )
        return torch.cat(logits), merged, sums, known

    def _one_backward(
        self, parameters: Mapping[str, Tensor], statistics: Statistics, frames: Tensor, losses: str
    ) -> tuple[Tensor, Report, Gradients]:
        options = self._options
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        with torch.enable_grad():
            logits, l1 = self._forward(leaves, statistics, frames, with_l1=losses != "entropy")
            entropy = entropy_nats(logits)
            kept = entropy.detach() < entropy_threshold_nats(logits.shape[1], options.entropy_margin)
            confident = (entropy * kept).sum()
            distance = options.l1_weight * l1.sum()
            # For one backward of both: `__call__` divides the entropy part by the kept count, so the L1 part is
            # multiplied by it first. With nothing kept the step is zero, whatever stands here.
            both = confident + distance * kept.sum().clamp_min(1)
        report = Report(entropy.detach(), kept, l1.detach())
        if losses == "both" and not options.frame_by_frame:
            return logits.detach(), report, Gradients(_grad(both, leaves), {})
        return (
            logits.detach(),
            report,
            Gradients(
                _grad(confident, leaves, again=losses == "both") if losses != "l1" else {},
                _grad(distance, leaves) if losses != "entropy" else {},
            ),
        )

    def _forward(
        self, parameters: Mapping[str, Tensor], statistics: Statistics, frames: Tensor, with_l1: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits `[N, C]` and the L1 distances `[K]` (zeros unless asked for)."""
        with torch.no_grad():  # nothing before the first group learns
            x = self._stem(frames, statistics)
        distances = []
        for k, segments in enumerate(self._segments):
            own = x
            for segment in segments:
                own = self._run_segment(segment, own, statistics, again=k < self._recomputed_parts)
            adapted = self._group(k, parameters, x, own, statistics)
            if with_l1 and self._options.l1_gradient == "local":
                distances.append(
                    self_distilled_l1(self._group(k, parameters, x.detach(), own.detach(), statistics), own)
                )
            elif with_l1:
                distances.append(self_distilled_l1(adapted, own))
            x = adapted
        l1 = torch.stack(distances) if distances else torch.zeros(len(self._segments))
        return self._head(x, statistics), l1

    def _group(
        self, k: int, parameters: Mapping[str, Tensor], x: Tensor, own: Tensor, statistics: Statistics
    ) -> Tensor:
        group = self._network.meta_groups[k]
        return lean_meta_group(group, parameters, f"groups.{k}", x, own, statistics, self._options.recompute_meta)

    def _run_segment(self, segment: list[FrozenRun], x: Tensor, statistics: Statistics, *, again: bool) -> Tensor:
        def run(features: Tensor) -> Tensor:
            for cell in segment:
                features = cell(features, statistics)
            return features

        return recompute(run, x) if again else run(x)

    def _statistics(self, state: StepState, momentum: float) -> Statistics:
        return Statistics(self._options.normalisation, state.statistics, momentum, self._network.momenta)

    def _descend(
        self,
        state: StepState,
        gradient: Tensor,
        statistics: dict[str, Moments],
        moves: Tensor,
        frames: int | Tensor,
    ) -> tuple[StepState, Tensor]:
        """SGD with momentum, as torch.optim.SGD computes it; keeps everything where `moves` (bool `[]`) is false.

        Returns the next state and whether anything moved.
        """
        options = self._options
        # All parameters as one vector: a graph then has six operators here and not six a parameter.
        shapes = {name: p.shape for name, p in state.parameters.items()}
        velocity, parameters = (flatten(named, shapes) for named in (state.momentum, state.parameters))
        # One frame whose features overflow would poison every later step. A sum is finite only if all its terms are.
        moves = moves & gradient.sum().isfinite()
        faster = options.sgd_momentum * velocity + gradient
        # `where` and not `if`: the same function is traced into a graph, which has no branches on data.
        momentum = torch.where(moves, faster, velocity)
        moved = torch.where(moves, parameters - self._lr(frames) * faster, parameters)
        return StepState(unflatten(moved, shapes), unflatten(momentum, shapes), statistics), moves

    def _lr(self, frames: int | Tensor) -> float | Tensor:
        lr, batch = self._options.lr, self._options.lr_batch
        if batch is None:
            return lr
        if isinstance(frames, Tensor):
            return lr * (frames / batch).clamp_max(1.0)
        return lr * min(1.0, frames / batch)


def flatten(named: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    """One vector of the values, in the order of `names`."""
    return torch.cat([named[name].reshape(-1) for name in names])


def unflatten(flat: Tensor, shapes: Mapping[str, torch.Size]) -> Named:
    """Undo `flatten`; the values are views into `flat`."""
    pieces = torch.split_with_sizes(flat, [shape.numel() for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def _add_up(sums: Named, gradients: Named, share: float) -> None:
    for name, gradient in gradients.items():
        if name in sums:
            sums[name].add_(gradient, alpha=share)
        else:
            sums[name] = gradient if share == 1 else share * gradient


def _grad(loss: Tensor, leaves: Named, again: bool = False) -> Named:
    # A weight of 0 for the L1 term, say, leaves a parameter without a path to the loss: its gradient is zero.
    values = torch.autograd.grad(
        loss, list(leaves.values()), retain_graph=again, allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, values, strict=True))
