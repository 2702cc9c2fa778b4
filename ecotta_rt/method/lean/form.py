"""The lean form: every operator keeps for its backward no more than it needs; gradients are those of the plain form."""

from collections.abc import Mapping, Sequence

from torch import Tensor, fx, nn

from ecotta_rt.method.lean.frozen import FrozenRun
from ecotta_rt.method.lean.operators import lean_l1, recompute
from ecotta_rt.method.lean.trained import trained_branch, trained_norm
from ecotta_rt.method.plain import NOTHING, Plain
from ecotta_rt.method.statistics import Statistics
from ecotta_rt.options import StepOptions

__all__ = ["Lean"]


class Lean(Plain):
    """The operators of `Plain`, written for memory."""

    def __init__(self, options: StepOptions) -> None:
        super().__init__(options)
        self._recompute_meta = options.recompute_meta
        # Recomputation pays only where something large would be kept: exact gradients through batch statistics.
        self._recomputes = self._exact and options.normalisation == "batch"
        self._runs: dict[fx.GraphModule, FrozenRun] = {}

    def run(
        self,
        pieces: Sequence[fx.GraphModule],
        x: Tensor,
        statistics: Statistics,
        parameters: Mapping[str, Tensor] = NOTHING,
        again: bool = False,
    ) -> Tensor:
        runs = [self._run_of(piece) for piece in pieces]
        learned = {name: parameters[name] for run in runs for name in run.learnable if name in parameters}

        def through(features: Tensor, *values: Tensor) -> Tensor:
            learn = dict(zip(learned, values, strict=True))
            for run in runs:
                features = run(features, statistics, learn)
            return features

        values = tuple(learned.values())
        return recompute(through, x, values) if again and self._recomputes else through(x, *values)

    def _run_of(self, piece: fx.GraphModule) -> FrozenRun:
        if piece not in self._runs:
            self._runs[piece] = FrozenRun(piece, self._exact)
        return self._runs[piece]

    def norm(
        self, name: str, norm: nn.BatchNorm2d, x: Tensor, parameters: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        return trained_norm(name, norm.eps, x, parameters[f"{name}.weight"], parameters[f"{name}.bias"], statistics)

    def branch(
        self,
        name: str,
        modules: tuple[nn.Conv2d, nn.BatchNorm2d],
        x: Tensor,
        parameters: Mapping[str, Tensor],
        statistics: Statistics,
    ) -> Tensor:
        learned = tuple(parameters[f"{name}{which}"] for which in (".weight", "_norm.weight", "_norm.bias"))
        return trained_branch(f"{name}_norm", modules, x, learned, statistics, self._recompute_meta)  # type: ignore[arg-type]

    def l1(self, adapted: Tensor, frozen: Tensor) -> Tensor:
        return lean_l1(adapted, frozen)
