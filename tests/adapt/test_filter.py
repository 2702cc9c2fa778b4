import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.errors import UsageError


@st.composite
def streams(draw, least=1):
    """Probabilities `[N, K]`, some of them zero, some certain."""
    frames, classes = draw(st.integers(least, 12)), draw(st.integers(2, 7))
    raw = draw(arrays(np.float64, (frames, classes), elements=st.sampled_from([0, 1e-300, 1e-9, 0.1, 1, 5, 1e6])))
    raw[raw.sum(axis=1) == 0, 0] = 1
    return raw / raw.sum(axis=1, keepdims=True)


def heated(frame, temperature):
    powers = [p ** (1 / temperature) if temperature > 1 else p for p in frame]
    return [power / sum(powers) for power in powers]


def by_definition(probabilities, temperature, rate=0.1, most=0.8):
    """The recursion as it is written, in plain Python: beliefs, trust after all, and the evidence after each."""
    classes = len(probabilities[0])
    belief, trust, out, evidence = [1 / classes] * classes, 0.5, [], [0.0]
    for frame in probabilities:
        p = heated(frame, temperature)
        a = [trust * q + (1 - trust) / classes for q in belief]
        z = sum(x * y for x, y in zip(a, p, strict=True))
        h = trust * sum(q * y for q, y in zip(belief, p, strict=True)) / z
        belief = [x * y / z for x, y in zip(a, p, strict=True)]
        trust = min(max(trust + rate * (h - trust), 0.001), most)
        out.append(belief)
        evidence.append(0.995 * evidence[-1] + math.log(classes * z))
    return np.array(out), trust, evidence[1:]


def mean_by_definition(probabilities):
    (cool, trust, before), (hot, hot_trust, after) = (by_definition(probabilities, t) for t in (1, 2))
    weights = [1 / (1 + math.exp(b - a - 2)) for a, b in zip(before, after, strict=True)]
    means = [w * c + (1 - w) * h for w, c, h in zip(weights, cool, hot, strict=True)]
    return np.array(means), [trust, hot_trust], [before[-1], after[-1]]


def one_by_one(answers, probabilities):
    return np.concatenate([answers(frame[None]) for frame in probabilities])


def test_three_frames_of_two_classes_come_out_as_by_hand():
    beliefs, _, evidence = by_definition([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]], 1)

    # The first expectation is [.5, .5], so its belief is the frame, and it has stayed by half: trust is as it was.
    assert beliefs[0] == pytest.approx([0.8, 0.2])
    assert evidence[0] == pytest.approx(0)
    # .5 q + .25 = [.65, .35]; times the frame [.52, .07], sum .59; stayed by .5 (.64 + .04) / .59 = .5763
    assert beliefs[1] == pytest.approx([0.52 / 0.59, 0.07 / 0.59])
    assert evidence[1] == pytest.approx(math.log(2 * 0.59))
    after = 0.5 + 0.1 * (0.34 / 0.59 - 0.5)
    joint = (after * beliefs[1] + (1 - after) / 2) * [0.4, 0.6]
    assert beliefs[2] == pytest.approx(joint / joint.sum())
    assert beliefs[2].argmax() == 0  # where the frame alone says 1


@given(streams())
def test_it_is_the_recursion_of_its_definition(probabilities):
    answers = AnswerFilter(probabilities.shape[1])
    expected, trusts, evidence = mean_by_definition(probabilities.tolist())

    assert one_by_one(answers, probabilities) == pytest.approx(expected, abs=1e-5)
    assert answers.trusts == pytest.approx(trusts, abs=1e-5)
    assert answers.evidence == pytest.approx(evidence, abs=1e-4)


@pytest.mark.parametrize("overconfident", [False, True])
def test_a_stream_tells_whether_the_network_is_too_sure_of_itself(overconfident):
    draws = np.random.default_rng(3)
    labels = np.repeat(draws.integers(0, 10, 30), 20)
    # Frames whose probabilities are true: each class is as likely as it says.
    evidence = 2.0 * np.eye(10)[labels] + draws.normal(0, math.sqrt(2), (len(labels), 10))
    logits = evidence * (2 if overconfident else 1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    answers = AnswerFilter(10)

    filtered = one_by_one(answers, powers / powers.sum(axis=1, keepdims=True))

    assert answers.weights[int(overconfident)] > 0.9
    assert (filtered.argmax(axis=1) != labels).mean() < 0.6 * (logits.argmax(axis=1) != labels).mean()


def every_path(probabilities, trusts):
    """The posterior of each frame's class given all frames, by going through all sequences of classes."""
    frames, classes = probabilities.shape
    posterior = np.zeros((frames, classes))
    for path in itertools.product(range(classes), repeat=frames):
        weight = 1 / classes
        for n in range(frames):
            if n:
                weight *= trusts[n] * (path[n] == path[n - 1]) + (1 - trusts[n]) / classes
            weight *= probabilities[n, path[n]]
        posterior[range(frames), path] += weight
    return posterior / posterior.sum(axis=1, keepdims=True)


@given(arrays(np.float64, (4, 3), elements=st.sampled_from([0.01, 0.1, 1, 5])))
def test_a_batch_is_answered_by_all_its_frames(raw):
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    alone, together = AnswerFilter(3), AnswerFilter(3)
    trusts = []
    for frame in probabilities:
        trusts.append(alone.trusts.tolist())
        alone(frame[None])
    hot = np.array([heated(frame, 2) for frame in probabilities.tolist()])
    each = [every_path(frames, of) for frames, of in zip((probabilities, hot), zip(*trusts, strict=True), strict=True)]

    assert together(probabilities) == pytest.approx(np.tensordot(alone.weights, each, 1), abs=1e-5)
    assert all(np.array_equal(array, alone.arrays()[name]) for name, array in together.arrays().items())


@given(streams(), st.floats(0, 1), st.floats(0, 0.99))
def test_its_belief_stays_a_distribution_and_its_trust_within_its_bounds(probabilities, rate, most_trust):
    answers = AnswerFilter(probabilities.shape[1], rate, most_trust)

    filtered = answers(probabilities)

    assert filtered.min() >= 0
    assert filtered.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert answers.beliefs.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert min(0.001, most_trust) <= answers.trusts.min() <= answers.trusts.max() <= np.float32(most_trust)


@given(streams(), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(probabilities, random):
    order = list(range(probabilities.shape[1]))
    random.shuffle(order)

    one, other = AnswerFilter(len(order)), AnswerFilter(len(order))

    assert one(probabilities)[:, order] == pytest.approx(other(probabilities[:, order]), abs=1e-6)


@given(streams(), st.data())
def test_a_stream_in_batches_and_one_that_is_saved_in_between_are_the_same_stream(probabilities, data):
    classes, cut = probabilities.shape[1], data.draw(st.integers(0, len(probabilities)))
    whole, first, second = AnswerFilter(classes), AnswerFilter(classes), AnswerFilter(classes)

    before = one_by_one(first, probabilities[:cut]) if cut else probabilities[:0]
    second.restore(first.arrays())
    after = second(probabilities[cut:])

    assert np.array_equal(before, one_by_one(whole, probabilities[:cut]) if cut else before)
    assert np.array_equal(after, whole(probabilities[cut:]))
    assert all(np.array_equal(array, whole.arrays()[name]) for name, array in second.arrays().items())


@given(streams())
def test_the_first_frame_is_of_the_class_that_the_network_names(probabilities):
    first = probabilities[:1]

    filtered = AnswerFilter(first.shape[1])(first)[0]

    assert filtered[first.argmax()] == filtered.max()


@given(streams())
def test_a_frame_that_says_nothing_changes_neither_the_answer_nor_the_trust(probabilities):
    classes = probabilities.shape[1]
    answers = AnswerFilter(classes)
    before = answers(probabilities)[-1]
    trusts = answers.trusts

    after = answers(np.full((1, classes), 1 / classes))[0]

    assert answers.trusts == pytest.approx(trusts, abs=1e-6)
    assert after[before.argmax()] == after.max()


@pytest.mark.parametrize("bad", [[np.nan, 1], [np.inf, 0], [0, 0], [2, -1]])
def test_a_row_that_is_no_distribution_is_given_back_and_moves_nothing(bad):
    answers = AnswerFilter(2)
    answers(np.array([[0.8, 0.2]]))
    before = answers.arrays()

    filtered = answers(np.array([bad], np.float32))

    assert np.array_equal(filtered, np.array([bad], np.float32), equal_nan=True)
    assert {name: array.tolist() for name, array in answers.arrays().items()} == {
        name: array.tolist() for name, array in before.items()
    }


def test_a_thousand_classes_and_certain_frames_that_contradict_each_other_do_not_underflow():
    certain = np.eye(1000, dtype=np.float32)[[3] * 200 + [7] * 2]

    filtered = AnswerFilter(1000)(certain)

    assert filtered.argmax(axis=1).tolist() == [3] * 200 + [7] * 2
    assert np.isfinite(filtered).all()


@pytest.mark.parametrize(
    ("damaged", "what"),
    [
        ({"beliefs": [[0.5, 0.25, 0.25]] * 2}, r"\[2, 3\], \[2\] and \[2\], expected \[2, 2\]"),
        ({"beliefs": [[0.5, 0.5], [0.5, 0.4]]}, "no distribution"),
        ({"beliefs": [[1.5, -0.5], [0.5, 0.5]]}, "no distribution"),
        ({"beliefs": [[np.nan, 1], [0.5, 0.5]]}, "no distribution"),
        ({"trusts": [0.5, 1.0]}, r"trusts are \[0.5, 1.0\]"),
        ({"trusts": [np.nan, 0.5]}, "trusts are"),
        ({"trusts": [0.5]}, "expected"),
        ({"evidence": [np.inf, 0]}, "evidence is .* expected -4139 to 4139"),
        ({"evidence": [0, np.nan]}, "evidence is"),
        ({"evidence": [0, -1e30]}, "evidence is"),
    ],
)
def test_what_is_no_filter_is_not_restored(damaged, what):
    answers = AnswerFilter(2)
    before = answers.arrays()

    with pytest.raises(UsageError, match=what):
        answers.restore(before | {name: np.array(values, np.float32) for name, values in damaged.items()})

    assert all(np.array_equal(array, before[name]) for name, array in answers.arrays().items())


def test_other_classes_than_its_own_are_refused():
    with pytest.raises(UsageError, match=r"\[1, 3\]: this filter is for \[N, 2\]"):
        AnswerFilter(2)(np.ones((1, 3)) / 3)
    with pytest.raises(UsageError, match="1 classes"):
        AnswerFilter(1)
