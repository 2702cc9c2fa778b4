from collections import Counter
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.daemon.camera_thread import CameraThread
from ecotta_rt.daemon.desk import Desk, Ended, SlotOptions
from ecotta_rt.errors import TransferError
from ecotta_rt.events import Refusal, SourceLost
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame

PIXELS = np.zeros((2, 2, 3), np.uint8)


def frame(index, time_s=0.0):
    return Frame(PIXELS, index, time_s)


class Bench:
    """A desk with a clock that only the test moves, and slots by name."""

    def __init__(self, **options):
        self.clock = ManualClock()
        self.desk = Desk(self.clock)
        self.slots = {name: self.desk.slot(each) for name, each in options.items()}
        self.names = {id(slot): name for name, slot in self.slots.items()}

    def put(self, name, index):
        return self.slots[name].put(frame(index, self.clock.now_s()))

    def next(self):
        found = self.desk.next(0)
        return None if found is None else (self.names[id(found[0])], found[1])

    def answered(self, seconds):
        """Who had the turn; a step takes so long."""
        name, _ = self.next()
        self.clock.advance_s(seconds)
        self.desk.spent(self.slots[name], seconds)
        return name


def test_the_newest_frame_of_a_camera_waits_and_those_before_it_are_counted():
    bench = Bench(door=SlotOptions(), yard=SlotOptions())
    for index in range(4):
        bench.put("door", index)
    bench.put("yard", 7)

    found = [bench.next(), bench.next()]

    assert {(name, item.index) for name, item in found} == {("door", 3), ("yard", 7)}
    assert bench.slots["door"].dropped == {"newer": 3}
    assert bench.next() is None


def test_turns_go_by_shares_of_the_networks_time_whatever_a_step_takes():
    bench, turns = Bench(door=SlotOptions(share=2.0), yard=SlotOptions(), gate=SlotOptions()), Counter()
    step_s = {"door": 0.1, "yard": 0.3, "gate": 0.1}
    for index in range(600):
        for name in bench.slots:
            bench.put(name, index)
        name, _ = bench.next()
        bench.desk.spent(bench.slots[name], step_s[name])
        turns[name] += step_s[name]

    assert turns["door"] == pytest.approx(2 * turns["yard"], rel=0.02)
    assert turns["gate"] == pytest.approx(turns["yard"], rel=0.02)


def test_a_camera_that_was_away_has_saved_up_nothing():
    bench, turns = Bench(door=SlotOptions(), yard=SlotOptions()), []
    for index in range(100):
        bench.put("door", index)
        bench.answered(0.1)
    for index in range(20):
        bench.put("door", index)
        bench.put("yard", index)
        turns.append(bench.answered(0.1))

    assert turns.count("door") == turns.count("yard") == 10
    assert turns[:4] in (["yard", "door"] * 2, ["door", "yard"] * 2)


def test_a_frame_that_has_become_too_old_is_dropped_and_counted():
    bench = Bench(door=SlotOptions(max_age_s=2.0))
    bench.put("door", 0)
    bench.clock.advance_s(2.5)

    assert bench.next() is None
    bench.put("door", 1)
    bench.clock.advance_s(1.5)
    assert bench.next()[1].index == 1
    assert bench.slots["door"].dropped == {"old": 1}


def test_no_more_frames_a_second_are_handed_out_than_asked_for_and_the_newest_is_it():
    bench, taken = Bench(door=SlotOptions(most_fps=2.0)), []
    for index in range(40):
        bench.put("door", index)
        found = bench.next()
        taken += [] if found is None else [found[1].index]
        bench.clock.advance_s(0.125)

    assert taken == list(range(0, 40, 4))
    assert bench.slots["door"].dropped == {"pace": 40 - 10 - 1}, "the last one waits"


def test_frames_that_the_network_had_no_time_for_are_no_matter_of_the_pace():
    bench = Bench(door=SlotOptions(most_fps=1.0))
    bench.put("door", 0)
    bench.next()
    for index in range(1, 8):
        bench.clock.advance_s(0.25)
        bench.put("door", index)

    assert bench.slots["door"].dropped == {"pace": 3, "newer": 3}, "frames 1 to 3 came before one was due"


def test_refusals_come_before_the_frame_after_them_and_are_no_matter_of_pace():
    bench = Bench(door=SlotOptions(most_fps=1.0))
    slot = bench.slots["door"]
    bench.put("door", 0)
    bench.next()
    slot.put(SourceLost(1, "door", "gone"))
    bench.put("door", 2)

    assert bench.next()[1] == SourceLost(1, "door", "gone")
    assert bench.next() is None
    bench.clock.advance_s(1)
    assert bench.next()[1].index == 2


def test_the_last_frame_before_a_loss_comes_before_it_and_does_not_say_that_the_camera_is_back():
    bench = Bench(door=SlotOptions())
    bench.put("door", 0)
    bench.slots["door"].put(SourceLost(1, "door", "unplugged"))

    assert [bench.next()[1].index for _ in range(2)] == [0, 1]

    bench.slots["door"].put(SourceLost(2, "door", "unplugged"))
    bench.put("door", 3)
    assert [bench.next()[1].index for _ in range(2)] == [2, 3]


def test_a_loss_is_told_at_once_though_the_pace_holds_a_frame_back():
    bench = Bench(door=SlotOptions(most_fps=0.001))
    bench.put("door", 0)
    bench.next()
    bench.clock.advance_s(1.0)
    bench.put("door", 1)
    bench.slots["door"].put(SourceLost(2, "door", "unplugged"))

    assert bench.next()[1].index == 2
    assert bench.slots["door"].dropped["pace"] == 1


def test_of_a_camera_that_sends_rubbish_the_last_pieces_are_told_and_each_loss():
    bench = Bench(door=SlotOptions())
    slot = bench.slots["door"]
    slot.put(SourceLost(0, "door", "gone"))
    for index in range(1, 40):
        slot.put(Refusal(index, "door", "torn"))

    told = [bench.next()[1] for _ in range(16)]

    assert bench.next() is None
    assert [type(each) for each in told] == [SourceLost, *[Refusal] * 15]
    assert told[-1].index == 39
    assert slot.dropped == {"broken": 24}


def test_the_end_comes_after_the_last_frame_and_says_why():
    bench, error = Bench(door=SlotOptions(most_fps=0.5)), TransferError("the cable is out")
    bench.put("door", 0)
    bench.next()
    bench.put("door", 1)
    bench.slots["door"].end(error)

    assert bench.next() is None
    bench.clock.advance_s(2)
    assert bench.next()[1].index == 1
    assert bench.next() == ("door", Ended(error))


def test_a_source_that_is_no_camera_waits_and_loses_nothing():
    class Folder:
        dropped, closed = 0, False

        def __iter__(self):
            for index in range(50):
                if self.closed:
                    return
                yield frame(index, -100.0)

        def close(self):
            self.closed = True

    desk = Desk()
    slot = desk.slot(SlotOptions(waits=True, max_age_s=1.0))
    reader, found = CameraThread(Folder(), slot, "folder"), []
    while not isinstance(item := (desk.next(5.0) or (None, None))[1], Ended):
        found += [] if item is None else [item.index]

    assert found == list(range(50))
    assert slot.dropped.total() == 0
    assert reader.join(5)


def test_a_source_that_hangs_delays_neither_the_others_nor_the_end():
    release, bench = Event(), Bench(door=SlotOptions(), yard=SlotOptions())

    class Hanging:
        dropped = 0

        def __iter__(self):
            release.wait()
            yield frame(0)

        def close(self):
            pass

    reader = CameraThread(Hanging(), bench.slots["door"], "door")
    bench.put("yard", 3)

    assert bench.next()[0] == "yard"
    reader.stop()
    assert not reader.join(0)
    release.set()
    assert reader.join(5)
    bench.desk.leave(bench.slots["door"])
    assert bench.next() is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["put", "next", "wait"])), max_size=60))
def test_every_frame_is_handed_out_dropped_and_counted_or_still_there(moves):
    bench = Bench(a=SlotOptions(max_age_s=1.0), b=SlotOptions(share=3.0, most_fps=1.0))
    put, taken, last = Counter(), Counter(), {"a": -1, "b": -1}
    for name, move in moves:
        if move == "put":
            put[name] += bench.put(name, put[name])
        elif move == "wait":
            bench.clock.advance_s(0.75)
        elif (found := bench.next()) is not None:
            taken[found[0]] += 1
            assert found[1].index > last[found[0]], "never backwards"
            last[found[0]] = found[1].index
            bench.desk.spent(bench.slots[found[0]], 0.5)
    for name, slot in bench.slots.items():
        assert put[name] == taken[name] + slot.dropped.total() + slot.waiting


@given(st.floats(0.01, 10.0), st.integers(1, 8))
def test_at_five_times_too_many_frames_the_newest_is_never_older_than_two_steps_when_answered(step_s, cameras):
    """Each of the cameras sends so many frames that one alone would be enough for the network."""
    bench = Bench(**{f"camera-{i}": SlotOptions() for i in range(cameras)})
    clock, rate, ages = bench.clock, 5 / step_s, []
    sent = dict.fromkeys(bench.slots, 0)

    def send_until_now():
        for name in bench.slots:
            while sent[name] / rate <= clock.now_s():
                bench.slots[name].put(frame(sent[name], sent[name] / rate))
                sent[name] += 1

    for _ in range(30):
        send_until_now()
        name, item = bench.next()
        clock.advance_s(step_s)
        bench.desk.spent(bench.slots[name], step_s)
        ages.append(clock.now_s() - item.time_s)

    assert max(ages) <= 1.2 * step_s + 1e-9
