"""Who watches a stream is shown each batch once it is answered."""

import numpy as np

from ecotta_rt.events import Answer, BatchAnswered, Drift, Event
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.runtime.answering import Answering
from ecotta_rt.runtime.ladder import Ladder


class Watch:
    def __init__(self):
        self.seen = []

    def take(self, frames, prediction, position, count):
        self.seen.append((frames.shape, prediction.labels.tolist(), position, count))
        yield Drift(position, 1.0)


def test_what_a_watch_tells_of_a_batch_comes_after_its_answers(make_engine):
    engine, watch = make_engine(batch=2), Watch()
    answering = Answering(engine, Ladder(engine, None), clock=ManualClock(), watch=watch)
    frames = [Frame(np.full((2, 2, 3), 200, np.uint8), index, 0.0) for index in range(3)]

    events: list[Event] = [event for frame in frames for event in answering.take(frame)]
    events += answering.end()

    assert [type(event) for event in events] == [BatchAnswered, Answer, Answer, Drift, BatchAnswered, Answer, Drift]
    assert watch.seen == [((2, 2, 2, 3), [1, 1], 1, 2), ((2, 2, 2, 3), [1, 1], 2, 1)]
