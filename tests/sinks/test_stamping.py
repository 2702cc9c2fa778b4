from ecotta_rt.events import Answer, Refusal, Stamped
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sinks.stamping import Stamping
from fixtures.kept import Kept


def test_an_event_is_dated_by_both_clocks_and_an_answer_when_its_frame_was_captured():
    kept, torn = Kept(), Refusal(1, "b", "torn")
    answer = Answer(3, "a.png", "cat", 1, 0.75, 0.5, True, "adapted", latency_ms=500.0, dropped=2)
    sink = Stamping(kept, ManualClock(100.0), lambda: 1_800_000_000.0)

    sink.take(torn)
    sink.take(answer)

    assert kept.events == [Stamped(torn, 1_800_000_000.0, 100.0), Stamped(answer, 1_799_999_999.5, 99.5)]
