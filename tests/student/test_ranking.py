"""Weights of sources, and ranking itself, on networks whose features are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.student.feature_tap import FeatureTap
from ecotta_rt.student.ranking import probe_of, rank, source_weights
from ecotta_rt.student.similarity import MEASURES
from ecotta_rt.student.source_networks import SourceNetwork


def by_hand(evidence, power):
    raised = [max(e, 0.0) ** power if e > 0 else 0.0 for e in evidence]
    return [one / sum(raised) for one in raised]


def test_weights_are_the_papers_formula():
    assert source_weights([20.0, 10.0, -5.0], 2) == pytest.approx([0.8, 0.2, 0.0])
    assert source_weights([20.0, 10.0, -5.0], 0) == pytest.approx([0.5, 0.5, 0.0])
    assert source_weights([20.0, 10.0, 20.0], math.inf) == pytest.approx([0.5, 0.0, 0.5])


def test_without_evidence_all_weigh_the_same():
    assert source_weights([-1.0, 0.0, -30.0]) == pytest.approx([1 / 3] * 3)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=9), st.floats(0, 12))
def test_weights_are_shares_in_the_order_of_evidence(evidence, power):
    weights = source_weights(evidence, power)

    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    for i, j in ((i, j) for i in range(len(evidence)) for j in range(len(evidence)) if evidence[i] > evidence[j]):
        assert weights[i] >= weights[j] - 1e-12
    if max(evidence) > 1e-3:  # by hand smaller ones underflow
        assert weights == pytest.approx(by_hand([e / max(evidence) for e in evidence], power))


@pytest.mark.parametrize(
    ("evidence", "power"), [([], 1), ([math.nan], 1), ([math.inf], 1), ([1.0], -1), ([1.0], math.nan)]
)
def test_what_weighs_nothing_is_refused(evidence, power):
    with pytest.raises(UsageError):
        source_weights(evidence, power)


class Colours(nn.Module):
    """Features: how red, green and blue the frame is, and four that are noise; `blur` of them hides the colours."""

    def __init__(self, blur):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.blur = blur
        self.mix = nn.Conv2d(3, 7, 8, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(torch.randn(7, 3, 8, 8, generator=generator) * 0.02 * blur)
            for channel in range(3):
                self.mix.weight[channel, channel] += (1 - blur) / 64
        self.linear = nn.Linear(7, 4)

    def forward(self, frames):
        return self.linear(torch.flatten(self.mix(frames), 1))


def source(name, blur):
    torch.manual_seed(0)
    network = Colours(blur).eval()
    return SourceNetwork(name, FeatureTap(network, (3, 8, 8)), None, f"{name}-digest")


def coloured(count=60, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    frames = draw.integers(0, 120, (count, 8, 8, 3))
    frames[np.arange(count), :, :, labels] += 100
    return frames.astype(np.uint8), labels.astype(np.int64)


def test_the_network_that_sees_colours_is_the_nearest():
    frames, labels = coloured()
    told = []
    ranking = rank(
        [source("blind", 1.0), source("dim", 0.6), source("sharp", 0.0)],
        frames,
        labels,
        tuple(MEASURES),
        report=lambda *given: told.append(given),
    )

    assert [one.name for one in ranking.sources] == ["sharp", "dim", "blind"]
    assert ranking.related
    assert sum(one.weight for one in ranking.sources) == pytest.approx(1)
    assert ranking.sources[0].weight == max(one.weight for one in ranking.sources)
    assert (ranking.pictures, ranking.classes, ranking.measures) == (60, 3, tuple(MEASURES))
    assert told == [(0, 3, "blind"), (1, 3, "dim"), (2, 3, "sharp")]
    for one in ranking.sources:
        assert one.scores.keys() == MEASURES.keys()
        assert one.error > 0


def test_a_score_is_the_measure_of_the_networks_own_features():
    frames, labels = coloured()
    sharp = source("sharp", 0.0)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        features = sharp.tap.network.mix(x).flatten(1)
        answers = sharp.tap.network(x).double().softmax(1)

    probe = probe_of(sharp, frames, labels)
    assert probe.features == pytest.approx(features.numpy(), abs=1e-6)
    assert probe.answers == pytest.approx(answers.numpy(), abs=1e-6)


def test_the_standard_error_is_about_the_spread_over_pictures():
    scores = [rank([source("dim", 0.6)], *coloured(60, seed), ("parc",)).sources[0] for seed in range(12)]

    spread = np.std([one.scores["parc"] for one in scores], ddof=1)
    assert 0.4 * spread < np.mean([one.error for one in scores]) < 2.5 * spread


def test_of_few_pictures_no_error_is_told_and_nothing_is_clear():
    ranking = rank([source("sharp", 0.0), source("blind", 1.0)], *coloured(12))

    assert [one.error for one in ranking.sources] == [None, None]
    assert not ranking.clear
    told_apart, few = ranking.doubts()
    assert "not told apart" in told_apart
    assert "fewer than 5 pictures a class" in few


@pytest.mark.parametrize("counts", [(21, 1), (2, *[1] * 19)])
def test_where_the_score_hangs_on_one_picture_no_error_is_told(counts):
    frames, _ = coloured(sum(counts))
    ranking = rank([source("sharp", 0.0)], frames, np.repeat(np.arange(len(counts)), counts))

    assert ranking.sources[0].error is None
    assert math.isfinite(ranking.sources[0].scores["logme"])


def test_logarithms_weigh_by_their_exponential():
    """LEEP is never above 0: by itself it would give no source any weight."""
    ranking = rank([source("sharp", 0.0), source("blind", 1.0)], *coloured(), ("leep",), power=2)
    e = [math.exp(one.scores["leep"]) for one in ranking.sources]

    assert max(one.scores["leep"] for one in ranking.sources) < 0
    assert [one.weight for one in ranking.sources] == pytest.approx(by_hand(e, 2))


@pytest.mark.parametrize(
    ("measures", "labels", "why"),
    [
        (("nearest",), None, "unknown measure 'nearest'"),
        (("parc", "parc"), None, "each once"),
        ((), None, "at least one"),
        (("parc",), np.zeros(60, np.int64), "sharp: all labelled pictures are of one class"),
    ],
)
def test_what_cannot_be_ranked_is_refused(measures, labels, why):
    frames, right = coloured()
    with pytest.raises(UsageError, match=why):
        rank([source("sharp", 0.0)], frames, right if labels is None else labels, measures)
