"""Each measure against its definition, written out by loops, and at its known limits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.errors import UsageError
from ecotta_rt.student.similarity import MEASURES, Probe
from ecotta_rt.student.similarity.h_score import shrinkage
from ecotta_rt.student.similarity.logme import logme
from ecotta_rt.student.similarity.parc import parc
from ecotta_rt.student.similarity.ranks import ranks, spearman


def softmax(logits):
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def probe(seed=0, *, count=30, features=12, classes=3, signal=1.0):
    """Features and answers that know something of the labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = draw.normal(size=(classes, features)) * signal
    x = centres[labels] + draw.normal(size=(count, features))
    return Probe(x, softmax(x[:, :5]), labels)


def variance(values):
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


def pearson(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return both / math.sqrt(len(a) * variance(a) * len(b) * variance(b))


def slow_ranks(values):
    return [sum(w < v for w in values) + (1 + sum(w == v for w in values)) / 2 for v in values]


def by_hand_parc(given):
    x = np.array(given.features)
    x -= x.mean(0)
    _, directions = np.linalg.eigh(np.cov(x.T))
    x = x @ directions[:, ::-1][:, :32]
    x = np.stack([column * np.sign(max(column, key=abs)) for column in x.T], 1)
    rows = [[v / math.sqrt(variance(list(column))) for v, column in zip(row, x.T, strict=True)] for row in x]
    hot = [[float(label == c) for c in sorted(set(given.labels))] for label in given.labels]
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    features = [round(1 - pearson(rows[i], rows[j]), 9) for i, j in pairs]
    labels = [round(1 - pearson(hot[i], hot[j]), 9) for i, j in pairs]
    return 100 * pearson(slow_ranks(features), slow_ranks(labels))


def by_hand_cka(given):
    hot = given.one_hot()
    count = len(hot)
    centre = np.eye(count) - 1 / count
    k, m = centre @ given.features @ given.features.T @ centre, centre @ hot @ hot.T @ centre
    return np.trace(k @ m) / math.sqrt(np.trace(k @ k) * np.trace(m @ m))  # HSIC form


def by_hand_h_score(given):
    x = given.features - given.features.mean(0)
    count, dimensions = x.shape
    covariance = sum(np.outer(row, row) for row in x) / count
    level = np.trace(covariance) / dimensions
    distance = np.linalg.norm(covariance - level * np.eye(dimensions)) ** 2
    noise = sum(np.linalg.norm(np.outer(row, row) - covariance) ** 2 for row in x) / count**2
    share = min(noise / distance, 1)
    means = np.stack([x[given.labels == label].mean(0) for label in given.labels])
    shrunk = (1 - share) * covariance + share * level * np.eye(dimensions)
    return (1 - share) * np.trace(np.linalg.inv(shrunk) @ (means.T @ means / count))


def by_hand_leep(given):
    total = 0.0
    for label, answer in zip(given.labels, given.answers, strict=True):
        expected = 0.0
        for z, share in enumerate(answer):
            same = sum(a[z] for a, other in zip(given.answers, given.labels, strict=True) if other == label)
            expected += share * same / sum(a[z] for a in given.answers)
        total += math.log(expected)
    return total / len(given.labels)


def by_hand_logme(given):
    """The Gaussian's density itself, at the best of a fine grid over both precisions."""
    x, count = given.features / np.abs(given.features).max(), len(given.labels)
    kernel, best = x @ x.T, []
    for y in given.one_hot().T:
        found = -math.inf
        for a in np.geomspace(1e-2, 1e4, 120):
            for b in np.geomspace(1, 1e3, 120):
                values, vectors = np.linalg.eigh(kernel / a + np.eye(count) / b)
                quadratic = (np.square(vectors.T @ y) / values).sum()
                found = max(found, -0.5 * (count * math.log(2 * math.pi) + np.log(values).sum() + quadratic))
        best.append(found / count)
    return float(np.mean(best))


BY_HAND = {"parc": by_hand_parc, "cka": by_hand_cka, "h-score": by_hand_h_score, "leep": by_hand_leep}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("shape", [(30, 12, 3), (20, 40, 4), (9, 2, 2)])
def test_a_measure_is_what_its_definition_says(name, shape):
    count, features, classes = shape
    if name == "parc" and features > count:
        pytest.skip("the definition by eigenvectors of the covariance has null directions there")
    given = probe(count=count, features=max(features, 5) if name == "leep" else features, classes=classes)

    assert MEASURES[name].score(given) == pytest.approx(BY_HAND[name](given), rel=1e-6)


def test_logme_is_the_largest_evidence():
    given = probe(count=16, features=4, classes=2)
    by_hand = by_hand_logme(given)

    assert by_hand <= logme(given) + 1e-6
    assert logme(given) == pytest.approx(by_hand, abs=1e-3)  # the grid's step


def test_parc_keeps_the_32_directions_of_most_variance():
    draw = np.random.default_rng(3)
    labels = np.arange(80) % 4
    strong = draw.normal(size=(4, 32))[labels] * 5 + draw.normal(size=(80, 32))
    weak = draw.normal(size=(80, 20)) * 1e-3

    both = Probe(np.hstack([strong, weak]), np.ones((80, 1)), labels)
    assert parc(both) == pytest.approx(parc(Probe(strong, np.ones((80, 1)), labels)), abs=0.5)


def test_features_that_are_the_labels_are_the_nearest():
    labels = np.repeat(np.arange(4), 5)
    hot = np.eye(4)[labels]
    perfect = Probe(hot, hot, labels)

    # Not 100: classes are no longer equally far apart once Pearson has taken one of three directions off.
    assert 50 < MEASURES["parc"].score(perfect) < 100
    assert MEASURES["cka"].score(perfect) == pytest.approx(1)
    assert MEASURES["leep"].score(perfect) == pytest.approx(0)
    assert 1 < MEASURES["h-score"].score(perfect) <= 3  # 3 but for the shrinkage


def test_features_that_are_all_the_same_say_nothing():
    labels = np.arange(20) % 4
    empty = Probe(np.full((20, 6), 3.7), np.full((20, 5), 0.2), labels)

    assert [MEASURES[name].score(empty) for name in ("parc", "cka", "h-score")] == [0, 0, 0]
    assert MEASURES["leep"].score(empty) == pytest.approx(-math.log(4))
    assert math.isfinite(MEASURES["logme"].score(empty))


def test_features_of_one_direction_are_no_ground_for_a_correlation():
    labels = np.arange(20) % 2

    assert parc(Probe(np.outer(labels, np.ones(6)) + 1.0, np.ones((20, 1)), labels)) == 0


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(8, 40), features=st.integers(5, 50))
def test_order_and_names_do_not_matter(name, seed, count, features):
    given_ = probe(seed, count=count, features=features)
    draw = np.random.default_rng(seed)
    order, units = draw.permutation(count), draw.permutation(features)
    renamed = np.array([70, 3, 11])[given_.labels]
    turned = given_.features[:, units]
    shuffled = Probe(turned[order], given_.answers[order][:, draw.permutation(5)], renamed[order])

    score = MEASURES[name].score(given_)
    assert math.isfinite(score)
    assert MEASURES[name].score(shuffled) == pytest.approx(score, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_features_does_not_matter(name, scale):
    given = probe()
    scaled = Probe(given.features * scale, given.answers, given.labels)

    assert MEASURES[name].score(scaled) == pytest.approx(MEASURES[name].score(given), rel=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_more_signal_ranks_higher(name):
    scores = [
        np.mean([MEASURES[name].score(probe(seed, count=60, signal=s)) for seed in range(5)]) for s in (0, 0.7, 3)
    ]

    assert scores == sorted(scores)


def test_labels_at_random_are_near_chance():
    draw = np.random.default_rng(0)
    scores = [parc(Probe(draw.normal(size=(60, 20)), np.ones((60, 1)), np.arange(60) % 3)) for _ in range(20)]

    assert abs(np.mean(scores)) < 2


def test_by_a_pseudo_inverse_alone_every_source_would_score_the_same():
    """Why the covariance is shrunk."""
    noise, known = probe(count=20, features=60, signal=0.0), probe(count=20, features=60, signal=2.0)

    assert 0 < shrinkage(known.features - known.features.mean(0)) < 1
    assert MEASURES["h-score"].score(noise) < 0.5 * MEASURES["h-score"].score(known)


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30))
def test_ranks_share_ties(values):
    assert ranks(np.array(values, float)).tolist() == slow_ranks(values)


def test_spearman_of_a_constant_is_no_correlation():
    assert spearman(np.ones(4), np.arange(4.0)) == 0
    assert spearman(np.arange(4.0), np.array([1, 10, 100, 1000.0])) == pytest.approx(1)
    assert spearman(np.arange(4.0), -np.arange(4.0)) == pytest.approx(-1)


GOOD = probe()


@pytest.mark.parametrize(
    ("features", "answers", "labels", "why"),
    [
        (GOOD.features, GOOD.answers, np.zeros(30, int), "one class"),
        (GOOD.features[:7], GOOD.answers[:7], GOOD.labels[:7], "7 labelled pictures: too few"),
        (GOOD.features, GOOD.answers, np.arange(30), "a class with 2 pictures"),
        (GOOD.features, GOOD.answers, GOOD.labels[:29], "29 labels for 30 features"),
        (np.where(GOOD.features > 2, np.nan, GOOD.features), GOOD.answers, GOOD.labels, "NaN"),
        (GOOD.features, GOOD.features[:, :5], GOOD.labels, "no probabilities"),
        (GOOD.features[:, :, None], GOOD.answers, GOOD.labels, "expected"),
    ],
)
def test_what_no_measure_can_use_is_refused(features, answers, labels, why):
    with pytest.raises(UsageError, match=why):
        Probe(features, answers, labels)
