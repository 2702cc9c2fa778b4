"""When somebody is told: rules, by hand-made clocks."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import ConfigurationError
from ecotta_rt.events import (
    Alert,
    Answer,
    DoubtBegan,
    DoubtEnded,
    SinkFailed,
    SourceBack,
    SourceLost,
    Stamped,
    StreamEnded,
)
from ecotta_rt.files.toml_text import parse_toml
from ecotta_rt.sinks.alert_rules import AlertRule, AlertRules, fault_of, unknown_label

SEEN = AlertRule(name="visitor", when="seen", label="cat", for_s=2.0, least_probability=0.6, pause_s=10.0)
LOST = AlertRule(name="dark", when="lost", for_s=60.0, pause_s=0.0)
DOUBT = AlertRule(name="doubt", when="doubt", pause_s=0.0)


def answer(label="cat", probability=0.9):
    return Answer(0, "0", label, 1, probability, 0.5, False, "off", 1.0, 0)


def at(now_s, event, camera="door"):
    return Stamped(event, 1000.0 + now_s, now_s, camera)


def told(rule, *events):
    """Alerts to events, or to the passing of time where a number stands: when, and what."""
    rules = AlertRules((rule,))
    alerts = []
    for event in events:
        alerts += rules.take(event) if isinstance(event, Stamped) else rules.tick(1000.0 + event, event)
    return [(each.monotonic_s, each.camera, each.event.over) for each in alerts]


def test_a_class_is_told_when_it_was_the_answer_for_long_enough_and_when_it_is_no_longer():
    seen = [at(now, answer()) for now in (0, 1, 2, 3)]

    assert told(SEEN, *seen, at(4, answer("dog"))) == [(2, "door", False), (4, "door", True)]
    assert told(replace(SEEN, recovered=False), *seen, at(4, answer("dog"))) == [(2, "door", False)]
    assert told(SEEN, *seen[:2], at(1.5, answer("dog")), *seen[2:]) == [], "it has to be without a gap"
    assert told(SEEN, *seen[:2], 100) == [], "and answers have to say so, not time alone"


def test_an_answer_that_is_not_sure_enough_is_none():
    assert told(SEEN, *(at(now, answer(probability=0.59)) for now in range(5))) == []


def test_a_lost_camera_ends_what_it_showed():
    assert told(SEEN, at(0, answer()), at(1, SourceLost(1, "door", "out")), at(2, answer()), at(3, answer())) == []


def test_each_camera_is_told_of_by_itself():
    both = [at(now, answer(), camera) for now in (0, 2) for camera in ("door", "yard")]

    assert told(SEEN, *both) == [(2, "door", False), (2, "yard", False)]
    assert told(replace(SEEN, cameras=("yard",)), *both) == [(2, "yard", False)]


def test_a_camera_that_is_lost_for_long_enough_is_told_though_nothing_happens():
    lost, back = at(0, SourceLost(1, "door", "unplugged")), at(90, SourceBack(2, "door"))
    rules = AlertRules((LOST,))
    rules.take(lost)
    rules.take(at(30, SourceLost(1, "door", "still unplugged")))

    assert rules.tick(1059.0, 59.0) == []
    assert rules.tick(1060.0, 60.0) == [at(60, Alert("dark", "no frames: still unplugged"))]
    assert rules.tick(1061.0, 61.0) == [], "once"
    assert rules.take(back) == [at(90, Alert("dark", "frames again after 90 s", over=True))]
    assert told(LOST, lost, at(59, SourceBack(2, "door")), 100) == [], "back in time"
    assert told(LOST, lost, at(59, answer()), 100) == [], "an answer says so, too"


def test_a_camera_that_was_taken_out_is_waited_for_no_longer():
    assert told(LOST, at(0, SourceLost(1, "door", "out")), at(1, StreamEnded(0)), 100) == []


def test_doubt_is_told_at_once_and_its_end():
    rules = AlertRules((DOUBT,))

    (began,) = rules.take(at(0, DoubtBegan(9, "entropy 0.9, above 0.8")))
    (ended,) = rules.take(at(7, DoubtEnded(9, 7.0)))
    assert began.event.why == "answers may be wrong: entropy 0.9, above 0.8"
    assert ended.event == Alert("doubt", "the signs are good again after 7 s", over=True)


def test_any_event_can_be_a_rule_and_an_alert_cannot():
    rule = AlertRule(name="trouble", when="event", events=("sink-failed",), pause_s=10.0)
    rules = AlertRules((rule,))
    failed = at(0, SinkFailed("mqtt", "out"), None)

    assert rules.take(failed) == [at(0, Alert("trouble", "sink-failed: mqtt, out"), None)]
    assert rules.take(replace(failed, monotonic_s=5.0)) == [], "within the pause"
    assert len(rules.take(replace(failed, monotonic_s=10.0))) == 1
    assert rules.take(at(20, Alert("trouble", "x"))) == []


def test_after_an_alert_there_is_a_pause_and_what_still_holds_then_is_told():
    def spell(start):
        return [at(start, answer()), at(start + 2, answer()), at(start + 3, answer("dog"))]

    assert told(replace(SEEN, recovered=False), *spell(0), *spell(4)) == [(2, "door", False)]
    assert told(SEEN, *spell(0), at(4, answer()), at(11, answer()), at(12, answer()))[2:] == [(12, "door", False)]


EVENTS = st.lists(
    st.tuples(
        st.floats(0.0, 20.0),
        st.sampled_from(["cat", "dog", "lost", "tick"]),
    ),
    max_size=40,
)


@given(EVENTS, st.sampled_from(["seen", "lost"]), st.floats(0, 10), st.floats(0, 30))
def test_alerts_are_a_pause_apart_and_an_end_is_told_only_after_its_beginning(steps, when, for_s, pause_s):
    label = {"seen": "cat", "lost": None}[when]
    rule = AlertRule(name="rule", when=when, label=label, for_s=for_s, pause_s=pause_s)
    now_s, events = 0.0, []
    for wait_s, step in steps:
        now_s += wait_s
        kinds = {"tick": now_s, "lost": at(now_s, SourceLost(1, "door", "out"))}
        events.append(kinds.get(step, at(now_s, answer(step))))
    alerts = told(rule, *events)

    begun = [now for now, _, over in alerts if not over]
    assert all(later >= earlier + pause_s for earlier, later in pairwise(begun))
    assert [over for _, _, over in alerts] == [bool(at % 2) for at in range(len(alerts))], "they alternate"


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (replace(SEEN, label=None), "label"),
        (replace(LOST, label="cat"), "label"),
        (AlertRule(name="x", when="event"), "events"),
        (replace(LOST, events=("signs",)), "events"),
        (AlertRule(name="x", when="event", events=("alert",)), "never end"),
    ],
)
def test_a_rule_that_cannot_be_meant_has_a_fault(rule, why):
    assert why in fault_of(rule)


def test_rules_are_read_from_toml_and_a_label_has_to_be_a_class():
    rule = parse_toml(b'name = "visitor"\nwhen = "seen"\nlabel = "cta"\nfor_s = 2', "x").read(AlertRule)

    assert fault_of(rule) is None
    assert unknown_label(rule, ("cat", "dog"))
    assert not unknown_label(rule, ())
    assert not unknown_label(LOST, ("cat", "dog"))
    with pytest.raises(ConfigurationError, match="expected one of seen, lost, doubt, event, found 'sene'"):
        parse_toml(b'name = "visitor"\nwhen = "sene"', "x").read(AlertRule)
