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
        ({"early_momentum": 1.5}, "early_momentum=1.5: must be a finite number between 0"),
        ({"deep_momentum": -0.1}, "deep_momentum"),
        ({"leak": float("nan")}, "leak=nan"),
        ({"gate": 2.0}, "gate"),
        ({"boost": 0.5}, "boost=0.5"),
        ({"filter_rate": 7.0}, "filter_rate"),
        ({"most_trust": 1.0}, "would never leave a class; choose less than 1, such as 0.8"),
        ({"views": 3}, "views=3"),
        ({"places": -1}, "places=-1"),
        ({"observe_every": 0}, "observe_every=0"),
    ],
)
def test_an_adaptation_that_cannot_be_meant_is_refused_with_the_reason(wrong, what):
    with pytest.raises(UsageError, match=what):
        AdaptationOptions(**wrong)


def test_an_adaptation_is_made_of_plain_values_that_a_manifest_can_hold():
    options = AdaptationOptions()

    assert {type(getattr(options, field.name)) for field in fields(options)} <= {str, float, int}
    assert options.answer == DEFAULT_ANSWER in ANSWERS
