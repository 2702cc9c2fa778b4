"""The adaptation step, a pure function, for every method.

    step(method, options, state, frames)  ->  Outcome(logits, report, state, moved, seen)

    forward  ->  logits  ->  gate  ->  losses  ->  gradients  ->  SGD; and the statistics that each frame has of its own

Nothing is changed in place: the state that goes in still exists afterwards, so a refused update costs nothing.
Predictions always come from the forward *before* the update of the gated loss: a frame is answered first and learned
from second.

An empty gate (no frame that learns) is a zero step, and so is a gradient that is not finite: parameters and momentum
stay as they were. A two-step goes down the losses that are means over all frames first, whatever the gate says.

Statistics stay as they are given. What the frames have of their own is told, and moving them is for whoever takes the
step (`ecotta_rt.adapt.moving`).

Source:
    Song et al. 2023, EcoTTA, arXiv 2303.01904, section 3.3.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ecotta_rt.errors import UsageError
from ecotta_rt.method.base import Method, Named
from ecotta_rt.method.lean.form import Lean
from ecotta_rt.method.plain import Plain
from ecotta_rt.method.state import StepState, flatten, seen_vectors, unflatten
from ecotta_rt.method.statistics import Moments, Statistics
from ecotta_rt.options import StepOptions

__all__ = ["Differentiated", "Outcome", "Step"]

Gradients = dict[str, Named]
"""By name of a loss: of the *sum* of the kept frames' values, or of a weighted mean over frames."""


class Outcome(NamedTuple):
    """What a step returns."""

    logits: Tensor  # [N, C], from before the update
    report: Named  # what the step saw: `entropy_nats` [N], `kept` bool [N], and what the method reports
    state: StepState  # its statistics are those given
    moved: Tensor  # bool [], whether the (gated) update was made
    seen: Tensor | None  # [N, S], each frame's own statistics, in the order of the vector; in `running` mode alone


class Differentiated(NamedTuple):
    """The first half of a step."""

    logits: Tensor
    report: Named
    gradients: Gradients
    seen: Tensor | None  # as in `Outcome`


class Step:
    """The step of one method under one set of options; calling it is pure.

    Args:
        method: What learns, and from what.
        options: How.
        form: With which operators; None: lean ones.

    Attributes:
        ports: What its graphs take and give.
        over_frames: Names of the losses that are means over all frames.

    Raises:
        UsageError: The method has not exactly one loss that is a mean over kept frames. Or a two-step, and it has no
            loss to go down first.
    """

    def __init__(self, method: Method, options: StepOptions, form: Plain | None = None) -> None:
        self._method, self._options, self._form = method, options, form or Lean(options)
        gated = [loss for loss in method.losses if loss.mean_over == "kept"]
        if len(gated) != 1:
            raise UsageError(
                f"{method.name} has {len(gated)} losses that are means over kept frames, and a step takes one; give "
                "its `losses` exactly one Loss with mean_over='kept', and any number with 'frames'"
            )
        self._gated = gated[0]
        self._others = tuple(loss for loss in method.losses if loss.mean_over == "frames")
        self.over_frames = tuple(loss.name for loss in self._others)
        self.ports = method.ports(options.normalisation)
        if options.schedule == "two-step" and not self._others:
            raise UsageError(f"schedule 'two-step' with {method.name}: it has one loss; choose 'one-step'")

    def __call__(self, state: StepState, frames: Tensor) -> Outcome:
        """One step.

        Args:
            state: Where the last step ended.
            frames: float32 `[N, C, H, W]` in [0, 1].

        Returns:
            Logits of these frames, what was seen, and the next state.
        """
        others = self.over_frames
        if self._options.schedule == "one-step":
            return self._outcome(state, self.differentiate(state, frames), {}, len(frames))
        first = self._differentiate(state, frames, others)
        gradient = sum(flatten(first.gradients[name], state.parameters) for name in others)
        always = torch.ones((), dtype=torch.bool)
        state, _ = self._descend(state, gradient, always, len(frames))  # type: ignore[arg-type]
        second = self._differentiate(state, frames, (self._gated.name,))
        return self._outcome(state, second, {name: first.report[name] for name in others}, len(frames))

    def differentiate(self, state: StepState, frames: Tensor) -> Differentiated:
        """The first half of a one-step: logits, report, gradients and the statistics of each frame.

        With `frame_by_frame` the gradients come apart, so that those of several calls can be added up.
        """
        return self._differentiate(state, frames, (self._gated.name, *self.over_frames))

    def update(
        self, state: StepState, gradients: Gradients, kept: Tensor, frames: int | Tensor
    ) -> tuple[StepState, Tensor]:
        """The second half: SGD down G_gated / max(k, 1) + the others.

        Args:
            state: Before the step.
            gradients: Of the sum of the kept frames' losses, and of the weighted means over frames.
            kept: k, how many frames passed the gate, `[]`.
            frames: How many there were.

        Returns:
            The next state, and whether the parameters moved.
        """
        total = flatten(gradients[self._gated.name], state.parameters)
        total = total * (1.0 / kept.clamp_min(1).to(total.dtype))
        for loss in self._others:
            if loss.name in gradients:
                total = total + flatten(gradients[loss.name], state.parameters)
        return self._descend(state, total, kept > 0, frames)

    def predict(self, state: StepState, frames: Tensor) -> Tensor:
        """Logits `[N, C]` without learning."""
        return self._forward(state, frames, telling=False)[0]

    def observe(self, state: StepState, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits without learning, and in `running` mode each frame's own statistics, `[N, S]`."""
        logits, statistics = self._forward(state, frames)
        seen = seen_vectors(state, statistics.seen, len(frames))
        assert seen is not None, "only `running` mode observes"
        return logits, seen

    def moments(self, state: StepState, frames: Tensor) -> dict[str, Moments]:
        """The moments of the batch by which `batch` mode normalises these frames, by norm name; nothing learns."""
        return self._forward(state, frames)[1].used

    def _forward(self, state: StepState, frames: Tensor, telling: bool = True) -> tuple[Tensor, Statistics]:
        statistics = self._statistics(state, telling)
        with torch.no_grad():
            logits = self._method.evaluate(self._form, self._options, state.parameters, statistics, frames)[0]
        return logits, statistics

    def _outcome(self, state: StepState, found: Differentiated, earlier: Named, frames: int) -> Outcome:
        after, moved = self.update(state, found.gradients, found.report["kept"].sum(), frames)
        return Outcome(found.logits, {**found.report, **earlier}, after, moved, found.seen)

    def _differentiate(self, state: StepState, frames: Tensor, wanted: Collection[str]) -> Differentiated:
        """Forward and backward over the batch, at once or one frame at a time."""
        pieces = [frames[i : i + 1] for i in range(len(frames))] if self._options.frame_by_frame else [frames]
        logits, reports, seen = [], [], []
        sums: Gradients = {}
        for piece in pieces:
            statistics = self._statistics(state)
            piece_logits, report, gradients = self._one_backward(state.parameters, statistics, piece, wanted)
            for name, gradient in gradients.items():
                share = 1 / len(pieces) if name in self.over_frames else 1.0
                _add_up(sums.setdefault(name, {}), gradient, share)
            logits.append(piece_logits)
            reports.append(report)
            seen.append(seen_vectors(state, statistics.seen, len(piece)))
        per_frame = {port.name for port in self.ports.report if port.per == "frame"}
        merged = {
            name: torch.cat(values) if name in per_frame else torch.stack(values).mean(0)
            for name, values in ((name, [report[name] for report in reports]) for name in reports[0])
        }
        told = None if seen[0] is None else torch.cat(seen)  # type: ignore[arg-type]
        return Differentiated(torch.cat(logits), merged, sums, told)

    def _one_backward(
        self, parameters: Mapping[str, Tensor], statistics: Statistics, frames: Tensor, wanted: Collection[str]
    ) -> tuple[Tensor, Named, Gradients]:
        options, gated = self._options, self._gated
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        with torch.enable_grad():
            logits, values = self._method.evaluate(self._form, options, leaves, statistics, frames, wanted)
            entropy, kept, loss = self._method.gate(logits, options)
            terms = {gated.name: (loss * kept).sum()}
            for other in self._others:
                weight = getattr(options, other.weight) if other.weight else 1.0
                terms[other.name] = weight * values[other.name].sum()
            # For one backward of all: `update` divides the gated part by the kept count, so the others are multiplied
            # by it first. With nothing kept the step is zero, whatever stands here.
            whole = terms[gated.name]
            for other in self._others:
                whole = whole + terms[other.name] * kept.sum().clamp_min(1)
        report = {"entropy_nats": entropy.detach(), "kept": kept}
        report |= {port.name: values[port.name].detach() for port in self._method.report()}
        names = [name for name in terms if name in wanted]
        if len(names) == len(terms) and not options.frame_by_frame:
            return logits.detach(), report, {gated.name: _grad(whole, leaves)}
        gradients = {name: _grad(terms[name], leaves, again=name != names[-1]) for name in names}
        return logits.detach(), report, gradients

    def _statistics(self, state: StepState, telling: bool = True) -> Statistics:
        return Statistics(self._options.normalisation, state.statistics, self._method.momenta, telling)

    def _descend(
        self,
        state: StepState,
        gradient: Tensor,
        moves: Tensor,
        frames: int | Tensor,
    ) -> tuple[StepState, Tensor]:
        """SGD with momentum, as torch.optim.SGD computes it, or its sign; keeps all where `moves` (bool `[]`) is false.

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
        direction = faster.sign() if options.optimiser == "signum" else faster
        moved = torch.where(moves, parameters - self._lr(frames) * direction, parameters)
        return state._replace(parameters=unflatten(moved, shapes), momentum=unflatten(momentum, shapes)), moves

    def _lr(self, frames: int | Tensor) -> float | Tensor:
        lr, batch = self._options.lr, self._options.lr_batch
        if batch is None:
            return lr
        if isinstance(frames, Tensor):
            return lr * (frames / batch).clamp_max(1.0)
        return lr * min(1.0, frames / batch)


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
