"""Which of many source networks knows most of what the target needs: scores, how sure they are, and weights.

    rank(networks, frames, labels)  ->  Ranking: the nearest source first

The paper's measure is PARC, on hundreds of labels; of few LogME says more, so it is the default.

Source: Borup, Phoo, Hariharan 2023, Distilling from Similar Tasks for Transfer Learning on a Budget, arXiv 2304.12314,
section 3: similarity by PARC, alpha_s = max(e_s, 0)^p / sum.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError
from ecotta_rt.student.defaults import MEASURE, POWER
from ecotta_rt.student.similarity import MEASURES, Probe
from ecotta_rt.student.source_networks import LeftOut, SourceNetwork

__all__ = ["Ranked", "Ranking", "check_ranking", "probe_of", "rank", "source_weights"]

_BATCH = 64
_GROUPS = 10
_LEAST_FOR_ERROR = 2 * _GROUPS
_FEW_A_CLASS = 5


@dataclass(frozen=True)
class Ranked:
    """A source in its place.

    Attributes:
        name: Of the source.
        classes: How many it tells apart.
        scores: By measure.
        error: Standard error of the first measure's score, from the choice of pictures; None for fewer than 20, and
            where the score hangs on one of them.
        weight: alpha_s; all sum to 1.
        digest: Of its weights.
    """

    name: str
    classes: int
    scores: Mapping[str, float]
    error: float | None
    weight: float
    digest: str


@dataclass(frozen=True)
class Ranking:
    """Sources, the nearest first.

    Attributes:
        measures: Whose scores they have; the first ranks and weighs.
        pictures: How many labelled ones were looked at.
        classes: How many classes those have.
        power: p.
        sources: In their order.
        frame: Height and width of the frames that were shown, where files were ranked.
        left_out: Files that could not be used.
    """

    measures: tuple[str, ...]
    pictures: int
    classes: int
    power: float
    sources: tuple[Ranked, ...]
    frame: tuple[int, int] | None = None
    left_out: tuple[LeftOut, ...] = ()

    @property
    def related(self) -> bool:
        """Whether any source has evidence above 0; else all weights are equal, and mean nothing."""
        return any(_evidence(self.measures[0], one.scores[self.measures[0]]) > 0 for one in self.sources)

    @property
    def clear(self) -> bool:
        """Whether the first is ahead of the second by twice the larger of their errors."""
        if len(self.sources) < 2:
            return True
        first, second = self.sources[:2]
        if first.error is None or second.error is None:
            return False
        ahead = first.scores[self.measures[0]] - second.scores[self.measures[0]]
        return ahead > 2 * max(first.error, second.error)

    def doubts(self) -> tuple[str, ...]:
        """Why not to trust it, a sentence each."""
        said = []
        if not self.related:
            said.append(f"by {self.measures[0]} no network knows anything of this task; all weigh the same")
        elif not self.clear:
            said.append("the first two are not told apart by these pictures; more labelled ones would help")
        if self.pictures < _FEW_A_CLASS * self.classes:
            said.append(f"fewer than {_FEW_A_CLASS} pictures a class say little")
        return tuple(said)


def check_ranking(measures: Sequence[str], power: float) -> None:
    """UsageError where `rank` could not use these, before any network is opened."""
    unknown = next((name for name in measures if name not in MEASURES), None)
    if unknown is not None:
        raise UsageError(f"unknown measure {unknown!r}; known: {', '.join(MEASURES)}")
    if not measures or len(set(measures)) < len(measures):
        raise UsageError(f"measures {' '.join(measures)}: name at least one, each once")
    if math.isnan(power) or power < 0:
        raise UsageError(f"power {power:g}: p must be 0 (all the same) or more; the published one is 9 to 12")


def source_weights(evidence: Sequence[float], power: float = POWER) -> NDArray[np.float64]:
    """alpha_s = max(e_s, 0)^p / sum of them; equal ones where no e_s is above 0.

    Args:
        evidence: e_s by source, finite.
        power: p: 0 gives all with evidence the same, infinity the best alone.

    Returns:
        float64 `[sources]`, sum 1.

    Raises:
        UsageError: No source, an e_s that is not finite, or p below 0.
    """
    e = np.maximum(np.asarray(evidence, np.float64), 0.0)
    if e.ndim != 1 or not len(e) or not np.isfinite(evidence).all():
        raise UsageError(f"evidence {list(evidence)}: expected a finite number for each source, at least one")
    check_ranking(("parc",), power)
    if not e.any():
        return np.full(len(e), 1 / len(e))
    shares = e / e.max()  # of large powers nothing over- or underflows into NaN
    raised = np.where(shares > 0, shares**power, 0.0)
    weights: NDArray[np.float64] = raised / raised.sum()
    return weights


@torch.no_grad()
def probe_of(network: SourceNetwork, frames: NDArray[np.uint8], labels: NDArray[np.int64]) -> Probe:
    """What it says of labelled frames.

    Args:
        network: The source.
        frames: uint8 `[N, H, W, C]`.
        labels: int64 `[N]`, of the target's classes.

    Raises:
        UsageError: As `Probe`; the message names the source.
    """
    features, answers = [], []
    for start in range(0, len(frames), _BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(frames[start : start + _BATCH])).permute(0, 3, 1, 2).float() / 255
        found = network.tap(batch)
        features.append(found.features.double())
        answers.append(found.logits.double().softmax(1))
    try:
        return Probe(torch.cat(features).numpy(), torch.cat(answers).numpy(), labels)
    except UsageError as error:
        raise UsageError(f"source network {network.name}: {error}") from error


def rank(
    networks: Sequence[SourceNetwork],
    frames: NDArray[np.uint8],
    labels: NDArray[np.int64],
    measures: Sequence[str] = (MEASURE,),
    *,
    power: float = POWER,
    report: Callable[[int, int, str], None] | None = None,
) -> Ranking:
    """Score all sources on labelled pictures of the target.

    Args:
        networks: The sources.
        frames: uint8 `[N, H, W, C]`, of the target.
        labels: int64 `[N]`.
        measures: Names from `MEASURES`; the first ranks and weighs.
        power: p of the weights; see `source_weights`.
        report: Called with how many are done, of how many, and the name of the next.

    Raises:
        UsageError: No such measure, labels that no similarity can be measured by, or a source that gives NaN.
    """
    check_ranking(measures, power)
    first = measures[0]
    rows: list[tuple[SourceNetwork, dict[str, float], float | None]] = []
    for done, network in enumerate(networks):
        if report:
            report(done, len(networks), network.name)
        probe = probe_of(network, frames, labels)
        scores = {name: MEASURES[name].score(probe) for name in measures}
        rows.append((network, scores, _standard_error(first, probe)))
    weights = source_weights([_evidence(first, scores[first]) for _, scores, _ in rows], power)
    ranked = [
        Ranked(network.name, network.classes, scores, error, float(weight), network.digest)
        for (network, scores, error), weight in zip(rows, weights, strict=True)
    ]
    ranked.sort(key=lambda one: -one.scores[first])
    return Ranking(tuple(measures), len(labels), len(np.unique(labels)), power, tuple(ranked))


def _evidence(measure: str, score: float) -> float:
    return MEASURES[measure].evidence(score)


def _standard_error(measure: str, probe: Probe) -> float | None:
    """By the jackknife: how the score moves when each tenth of the pictures is left out."""
    count = len(probe.labels)
    if count < _LEAST_FOR_ERROR:
        return None
    # Counted through the pictures class by class: no group takes all of a class that has two or more.
    group = np.empty(count, np.int64)
    group[np.argsort(probe.labels, kind="stable")] = np.arange(count) % _GROUPS
    scores = []
    for left in range(_GROUPS):
        kept = group != left
        try:
            part = Probe(probe.features[kept], probe.answers[kept], probe.labels[kept])
        except UsageError:  # without the single picture of one of two classes nothing is left to compare
            return None
        scores.append(MEASURES[measure].score(part))
    return float(np.sqrt((_GROUPS - 1) / _GROUPS * np.square(np.array(scores) - np.mean(scores)).sum()))
