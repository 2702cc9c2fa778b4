import numpy as np
import pytest

from ecotta_rt.events import Answer
from ecotta_rt.records import Frame
from ecotta_rt.runtime.answers import answers_to
from ecotta_rt.runtime.predicting import predicted, probabilities_of
from ecotta_rt.sinks.tally import Tally

LOGITS = np.log(np.array([[0.6, 0.4], [0.2, 0.8]], np.float32))
FILTERED = np.array([[0.3, 0.7], [0.1, 0.9]], np.float32)
NAMES = ("ant", "bee")


def test_probabilities_and_entropy_are_those_of_the_logits():
    probabilities, entropy = probabilities_of(LOGITS)

    assert probabilities == pytest.approx(np.exp(LOGITS))
    assert entropy == pytest.approx([-0.6 * np.log(0.6) - 0.4 * np.log(0.4), -0.2 * np.log(0.2) - 0.8 * np.log(0.8)])


@pytest.mark.parametrize(("answer", "labels"), [("unfiltered", [0, 1]), ("filtered", [1, 1])])
def test_a_prediction_has_both_answers_and_says_the_one_that_is_asked_for(answer, labels):
    prediction = predicted(LOGITS, NAMES, "off", filtered=FILTERED, answer=answer)

    assert prediction.labels.tolist() == labels
    assert prediction.names == tuple(NAMES[label] for label in labels)
    assert np.array_equal(prediction.probabilities, getattr(prediction, answer))
    assert prediction.unfiltered == pytest.approx(np.exp(LOGITS))
    assert np.array_equal(prediction.filtered, FILTERED)


def test_where_nothing_is_filtered_both_answers_are_the_same():
    prediction = predicted(LOGITS, NAMES, "off", answer="filtered")

    assert np.array_equal(prediction.filtered, prediction.unfiltered)
    assert prediction.labels.tolist() == [0, 1]


def test_an_answer_to_a_frame_has_both_and_the_tally_counts_the_errors_of_both():
    prediction = predicted(LOGITS, NAMES, "off", filtered=FILTERED, answer="filtered")
    frames = [Frame(np.zeros((2, 2, 3), np.uint8), index, 0.0, label=0) for index in range(2)]
    tally = Tally()

    answers = list(answers_to(frames, prediction, NAMES, 0.0, 0))
    for answer in answers:
        tally.take(answer)

    assert [(one.label, one.unfiltered_label, one.filtered_label) for one in answers] == [
        ("bee", "ant", "bee"),
        ("bee", "bee", "bee"),
    ]
    assert (answers[0].probability, answers[0].filtered_probability) == pytest.approx((0.7, 0.7))
    assert answers[0].unfiltered_probability == pytest.approx(0.6)
    assert [one.correct for one in answers] == [False, False]
    assert "error 100.0 % (unfiltered 50.0 %, filtered 100.0 %)" in str(tally)


def test_the_tally_names_one_error_where_both_answers_have_the_same():
    tally = Tally()
    tally.take(Answer(0, "", "ant", 0, 1.0, 0.0, False, "off", 1.0, 0, "ant", True, "ant", 1.0, "ant", 1.0))

    assert "error 0.0 %" in str(tally)
    assert "filtered" not in str(tally)
