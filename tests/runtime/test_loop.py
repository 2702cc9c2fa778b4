import weakref

import numpy as np
import pytest

from ecotta_rt.errors import BadFrames, InputFileError, TransferError, UsageError
from ecotta_rt.events import Answer, BatchAnswered, Refusal, SourceBack, SourceLost, StreamEnded
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.runtime.loop import Loop
from fixtures.kept import Kept, played


def frame(index, level=200, label=None, size=(2, 2)):
    return Frame(np.full((*size, 3), level, np.uint8), index, float(index), f"frame-{index}", label)


class Played:
    """A source of given items; an error among them is raised."""

    def __init__(self, items, dropped=0):
        self.items = items
        self.dropped = dropped
        self.closed = 0

    def __iter__(self):
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item

    def close(self):
        self.closed += 1


def play(items, engine, *, dropped=0, clock=None, **options):
    return played(Loop(Played(items, dropped), engine, clock=clock or ManualClock(10.0), **options))


def test_each_frame_is_resized_answered_and_learned_from(make_engine):
    engine = make_engine()

    sink, tally = play([frame(0, 255, size=(7, 5)), frame(1, 0)], engine)

    assert [answer.label for answer in sink.answers] == ["bright", "dark"]
    assert [answer.class_index for answer in sink.answers] == [1, 0]
    assert [answer.probability for answer in sink.answers] == [1.0, 1.0]
    assert all(answer.adapted and answer.why == "adapted" for answer in sink.answers)
    assert (tally.frames, tally.adapted, tally.offered, tally.refused) == (2, 2, 2, 0)
    assert len(engine.learned) == 2


def test_frames_that_wait_for_their_batch_are_held_in_the_networks_size(make_engine):
    large = [frame(index, size=(500, 500)) for index in range(3)]
    references = [weakref.ref(item.pixels) for item in large]
    engine, alive = make_engine(batch=3), []

    def stream():
        while large:
            yield large.pop(0)
            alive.append([reference() is not None for reference in references])

    play(stream(), engine)

    assert alive == [[True, True, True], [False, True, True], [False, False, True]]


def test_an_answer_carries_the_frames_name_its_age_and_what_was_dropped(make_engine):
    sink, tally = play([frame(7)], make_engine(), dropped=3, clock=ManualClock(7.25))

    (answer,) = sink.answers
    assert (answer.frame, answer.name, answer.dropped, answer.latency_ms) == (7, "frame-7", 3, 250.0)
    assert (answer.truth, answer.correct) == (None, None)
    assert tally.dropped == 3


def test_known_labels_give_truth_and_error(make_engine):
    sink, tally = play([frame(0, 255, label=1), frame(1, 255, label=0), frame(2, 255)], make_engine())

    assert [(answer.truth, answer.correct) for answer in sink.answers] == [
        ("bright", True),
        ("dark", False),
        (None, None),
    ]
    assert (tally.labelled, tally.correct) == (2, 1)
    assert "error 50.0 %" in str(tally)


def test_a_class_without_a_name_is_called_by_its_number(make_engine):
    engine = make_engine()
    engine.class_names = ()

    sink, _ = play([frame(0)], engine)

    assert sink.answers[0].label == "1"


def test_frames_are_gathered_to_the_engines_batch(make_engine):
    engine = make_engine(batch=3)

    sink, _ = play([frame(i, 10 * i) for i in range(6)], engine)

    assert [batch[:, 0, 0, 0].tolist() for batch in engine.learned] == [[0, 10, 20], [30, 40, 50]]
    assert [answer.frame for answer in sink.answers] == list(range(6))


def test_what_is_left_is_answered_with_repeats_and_not_learned_from(make_engine):
    engine = make_engine(batch=4)

    sink, tally = play([frame(i, 10 * i) for i in range(6)], engine)

    assert [batch[:, 0, 0, 0].tolist() for batch in engine.predicted] == [[40, 50, 40, 50]]
    assert [answer.frame for answer in sink.answers] == list(range(6))
    assert [(answer.adapted, answer.why) for answer in sink.answers[4:]] == 2 * [(False, "off")]
    assert (tally.frames, tally.offered) == (6, 1)


def test_the_duty_cycle_learns_from_each_nth_batch(make_engine):
    engine = make_engine()

    sink, tally = play([frame(i) for i in range(7)], engine, adapt_every=3)

    assert [answer.frame for answer in sink.answers if answer.adapted] == [2, 5]
    assert (len(engine.predicted), tally.offered) == (5, 2)


def test_frames_that_nobody_can_use_are_told_and_the_stream_goes_on(make_engine):
    floats = Frame(np.full((2, 2, 3), np.nan), 1, 0.0, "floats")

    sink, tally = play([frame(0), floats, Refusal(2, "torn.jpg", "truncated"), frame(3)], make_engine(batch=2))

    assert [answer.frame for answer in sink.answers] == [0, 3]
    assert [(refusal.index, refusal.name) for refusal in sink.refusals] == [(1, "floats"), (2, "torn.jpg")]
    assert "float64 pixels" in sink.refusals[0].why
    assert (tally.frames, tally.refused) == (2, 2)


def test_a_batch_that_the_engine_refuses_is_told_frame_by_frame(make_engine):
    class Picky(make_engine):
        def __call__(self, frames):
            if frames[0, 0, 0, 0] == 0:
                raise BadFrames("too dark")
            return super().__call__(frames)

    sink, tally = play([frame(i, level) for i, level in enumerate([0, 9, 9, 9])], Picky(batch=2))

    assert [(refusal.index, refusal.why) for refusal in sink.refusals] == [(0, "too dark"), (1, "too dark")]
    assert [answer.frame for answer in sink.answers] == [2, 3]
    assert tally.refused == 2


def test_the_limit_counts_every_frame_and_takes_no_more(make_engine):
    source = [frame(0), Refusal(1, "", "torn"), frame(2), AssertionError("taken beyond the limit")]

    sink, _ = play(source, make_engine(batch=2), limit=3)

    assert [answer.frame for answer in sink.answers] == [0, 2]


def test_when_the_source_fails_what_it_gave_is_answered_first(make_engine):
    source, sink = Played([frame(0), frame(1), frame(2), TransferError("the cable is out")], dropped=4), Kept()

    with pytest.raises(TransferError, match="cable"):
        sink.events.extend(Loop(source, make_engine(batch=2), clock=ManualClock()))

    assert [answer.frame for answer in sink.answers] == [0, 1, 2]
    assert sink.events[-1] == StreamEnded(4, "the cable is out")


def test_when_the_engine_fails_the_last_event_tells_why_and_what_was_dropped(make_engine):
    class Broken(type(make_engine())):
        def __call__(self, frames):
            raise InputFileError("the graph cannot run")

    events = []
    with pytest.raises(InputFileError, match="cannot run"):
        events.extend(Loop(Played([frame(0)], dropped=7), Broken()))

    assert events == [StreamEnded(7, "the graph cannot run")]


def test_stopping_ends_the_run_after_the_batch_in_progress_and_closes_the_source_once(make_engine):
    source, answered = Played([frame(i) for i in range(9)]), []
    loop = Loop(source, make_engine(), clock=ManualClock())

    for event in loop:
        answered += [event.frame] if isinstance(event, Answer) else []
        if answered == [0, 1, 2]:
            loop.stop()
    loop.stop()

    assert answered == [0, 1, 2]
    assert source.closed == 1


def test_each_batch_is_told_before_the_answers_to_its_frames(make_engine):
    sink, _ = play([frame(i) for i in range(5)], make_engine(batch=2))

    told = [(event.frames, event.offered) for event in sink.events if isinstance(event, BatchAnswered)]
    assert told == [(2, True), (2, True), (1, False)]
    assert [type(event) for event in sink.events[:4]] == [BatchAnswered, Answer, Answer, BatchAnswered]


def test_a_source_that_comes_back_is_told_with_its_next_frame(make_engine):
    broken = Refusal(4, "camera", "torn")

    sink, tally = play([frame(0), *(SourceLost(i, "camera", "lost") for i in (1, 2)), broken, frame(5)], make_engine())

    assert [event for event in sink.events if isinstance(event, SourceBack)] == [SourceBack(5, "frame-5", 0.0)]
    assert tally.refused == 3


def test_leaving_the_events_closes_the_iteration_of_the_source(make_engine):
    closed = []

    def stream():
        try:
            yield from (frame(0), frame(1))
        finally:
            closed.append(True)

    class Source(Played):
        def __iter__(self):
            return stream()

    events = iter(Loop(Source([]), make_engine(), clock=ManualClock()))
    next(events)
    events.close()

    assert closed == [True]


def test_a_source_without_frames_is_a_run_without_answers(make_engine):
    sink, tally = play([], make_engine())

    assert sink.answers == []
    assert str(tally) == "0 frames, 0 dropped, 0 refused, 0 updates"


@pytest.mark.parametrize("wrong", [{"adapt_every": -1}, {"limit": 0}])
def test_numbers_that_cannot_be_meant_are_refused(make_engine, wrong):
    with pytest.raises(UsageError):
        Loop(Played([]), make_engine(), **wrong)
