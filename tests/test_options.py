from dataclasses import fields

import pytest

from ecotta_rt.errors import UsageError
from ecotta_rt.options import ANSWERS, DEFAULT_ANSWER, AdaptationOptions


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"statistics": "declassed"}, "choose one of plain, de-classed"),
        ({"answer": "both"}, "choose one of filtered, unfiltered"),
        ({"learning": "sometimes"}, "choose one of off, auto, on"),
        ({"momentum": 1.5}, "momentum=1.5: must be a finite number between 0"),
        ({"leak": float("nan")}, "leak=nan"),
        ({"filter_rate": 7.0}, "filter_rate"),
        ({"most_trust": 1.0}, "would never leave a class; choose less than 1, such as 0.8"),
        ({"views": 3}, "views=3"),
        ({"places": -1}, "places=-1"),
    ],
)
def test_an_adaptation_that_cannot_be_meant_is_refused_with_the_reason(wrong, what):
    with pytest.raises(UsageError, match=what):
        AdaptationOptions(**wrong)


def test_an_adaptation_is_read_from_the_names_and_values_of_a_manifest():
    options = AdaptationOptions(statistics="plain", leak=1.0, places=3)

    assert AdaptationOptions.of(vars(options)) == options
    assert AdaptationOptions.of({"leak": 1, "views": 2}) == AdaptationOptions(leak=1.0, views=2)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"leek": 0.5}, "leek=0.5 is no option of an adaptation: known are statistics, "),
        ({"places": 2.5}, "places=2.5: expected a value of the kind of"),
        ({"places": True}, "places=True"),
        ({"leak": "much"}, "leak='much'"),
        ({"statistics": 3}, "statistics=3"),
        ({"leak": 3.0}, "must be a finite number between"),
        ({"leak": 10**400}, "a whole number of 1329 bits"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(values, what):
    with pytest.raises(UsageError, match=what):
        AdaptationOptions.of(values)


def test_an_adaptation_is_made_of_plain_values_that_a_manifest_can_hold():
    options = AdaptationOptions()

    assert {type(getattr(options, field.name)) for field in fields(options)} <= {str, float, int}
    assert options.answer == DEFAULT_ANSWER in ANSWERS
