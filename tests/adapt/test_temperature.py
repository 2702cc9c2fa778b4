import numpy as np
import pytest

from ecotta_rt.adapt.temperature import fitted_temperature
from ecotta_rt.errors import UsageError


def answers(temperature, count=4000):
    """Answers that are right as often as they say, made surer or less sure; and the classes."""
    rng = np.random.default_rng(5)
    logits = 2 * rng.normal(size=(count, 4))
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rows.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    sure = rows**temperature
    return sure / sure.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_what_made_a_network_too_sure_is_found(temperature):
    assert fitted_temperature(*answers(temperature)) == pytest.approx(temperature, rel=0.08)


def test_answers_that_are_always_right_and_certain_stay_in_range():
    assert fitted_temperature(np.eye(3), np.arange(3)) == pytest.approx(0.25)


@pytest.mark.parametrize("labels", [[], [0]])
def test_not_as_many_labels_as_answers_are_refused(labels):
    with pytest.raises(UsageError, match="labels"):
        fitted_temperature(np.full((2, 2), 0.5), np.array(labels, int))


def test_at_it_the_network_is_as_sure_as_it_is_right():
    rows, labels = answers(1.7)
    heated = rows ** (1 / fitted_temperature(rows, labels))
    heated /= heated.sum(axis=1, keepdims=True)

    assert heated.max(axis=1).mean() == pytest.approx((rows.argmax(axis=1) == labels).mean(), abs=1e-4)
