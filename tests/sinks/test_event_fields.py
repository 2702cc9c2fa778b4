"""What outputs call things, and that every event which gives a line gives one that any reader takes."""

import json
from dataclasses import fields

import pytest

from ecotta_rt.events import (
    Answer,
    BatchAnswered,
    Dropped,
    GuardStep,
    Refusal,
    Reloaded,
    Signs,
    SourceLost,
    Stamped,
    StreamEnded,
)
from ecotta_rt.records import Level
from ecotta_rt.sinks.event_fields import EVENT_NAMES, event_fields, event_name, iso_time
from fixtures.events import EVENTS

ANSWER = Answer(3, "a.png", "cat", 1, 0.75, 0.5623351, True, "adapted", 12.5, 2, top=(("cat", 0.75), ("dog", 0.125)))


def test_a_stamped_event_begins_with_when_and_where():
    line = event_fields(Stamped(ANSWER, 1795915425.678, 12.25, "door"))

    assert [*line][:4] == ["time", "monotonic_s", "camera", "frame"]
    assert (line["time"], line["monotonic_s"], line["camera"]) == ("2026-11-29T01:23:45.678Z", 12.25, "door")
    assert line["top"] == [["cat", 0.75], ["dog", 0.125]]
    assert "event" not in line, "lines of frames have none"


def test_an_event_of_the_whole_process_has_no_camera():
    assert event_fields(Stamped(Reloaded(why="line 3"), 0.0, 1.0)) == {
        "time": "1970-01-01T00:00:00.000Z",
        "monotonic_s": 1.0,
        "event": "reloaded",
        "changed": [],
        "why": "line 3",
    }


def test_a_lost_camera_is_an_event_and_no_refused_frame():
    assert event_fields(SourceLost(5, "camera", "unplugged")) == {
        "event": "camera-lost",
        "frame": 5,
        "name": "camera",
        "why": "unplugged",
    }


def test_what_is_not_known_is_left_out():
    assert event_fields(StreamEnded(4)) == {"event": "ended", "dropped": 4}
    assert "temperature_c" not in event_fields(GuardStep(3, Level.FULL, Level.STATISTICS, "limit", 261, 200))
    assert event_fields(Signs(9, 100, 0.5, 0.75, float("nan")))["concentration"] is None, "known, and no number"


def test_a_name_that_is_no_utf_8_is_readable_to_any_program():
    line = event_fields(Refusal(4, "caf\udce9.png", "torn\udc80"))

    assert (line["name"], line["refused"]) == ("caf\\xe9.png", "torn\\x80")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_gives_a_line_that_says_what_it_is_or_none(event):
    line = event_fields(event)
    name = event_name(event)

    assert (name is None) == (not line) == isinstance(event, BatchAnswered | Dropped)
    assert name in (None, *EVENT_NAMES)
    assert json.loads(json.dumps(line, allow_nan=False)) == line
    if name not in (None, "answer", "refused"):
        assert line["event"] == name


def test_every_kind_of_event_has_a_name_or_is_known_to_give_no_line():
    told = {event_name(event) for event in EVENTS}

    assert told - {None} == set(EVENT_NAMES)


def test_times_are_rounded_to_the_millisecond():
    assert iso_time(1795915425.9996) == "2026-11-29T01:23:46.000Z"


def test_the_fields_of_an_answer_are_those_of_its_line():
    full = Answer(**{field.name: 1 for field in fields(Answer)})

    assert [*event_fields(full)] == [field.name for field in fields(Answer)]
