"""What a watch tells of a stream, and when."""

from types import SimpleNamespace

import numpy as np
import pytest

from ecotta_rt.adapt.places import Change
from ecotta_rt.adapt.signs import SignsRecipe
from ecotta_rt.daemon.stream_watch import StreamWatch, WatchTimes
from ecotta_rt.events import DoubtBegan, Drift, Signs
from ecotta_rt.machine.clock import ManualClock

FRAMES = np.zeros((1, 2, 2, 3), np.uint8)


class Stream:
    """A stream whose changes of place are those that are put in `changes`, and whose frames have these keys."""

    statistics = None

    def __init__(self, keys=()):
        self.changes, self.keys = [], list(keys)

    def take_change(self):
        return self.changes.pop(0) if self.changes else None

    def take_keys(self):
        return [self.keys.pop(0)] if self.keys else []


class Look:
    """The frozen network, which goes through the classes and is certain of each."""

    def __init__(self):
        self.turn = -1

    def take(self, frames):
        self.turn += 1
        return np.eye(4, dtype=np.float32)[[self.turn % 4]]


def said(label, sure=0.97):
    row = np.full((1, 4), (1 - sure) / 3, np.float32)
    row[0, label] = sure
    return SimpleNamespace(unfiltered=row, filtered=row)


def watched(labels, changes=(), keys=(), **options):
    """Events by second, one frame a second, and the watch."""
    clock, stream = ManualClock(), Stream(keys)
    watch = StreamWatch(SignsRecipe(4), stream, Look(), clock, **options)
    told = []
    for second, label in enumerate(labels, 1):
        clock.advance_s(1)
        stream.changes += [change for at, change in changes if at == second]
        told += [(second, event) for event in watch.take(FRAMES, said(label), second, 1)]
    return told, watch


def kinds(told, kind):
    return [(second, event) for second, event in told if isinstance(event, kind)]


def test_signs_are_told_every_so_often():
    told, _ = watched([0, 1, 2, 3] * 32)

    assert [second for second, _ in told] == [60, 120]
    assert told[1][1].frames == 120 and told[1][1].frame == 120


def test_a_network_that_always_says_the_same_is_doubted_and_has_collapsed():
    told, watch = watched([0] * 120, times=WatchTimes(judge_every_s=5))

    assert [second for second, _ in kinds(told, DoubtBegan)] == [100]
    assert watch.in_doubt and watch.collapsed


def test_after_a_return_signs_begin_anew_and_doubt_stays_until_they_end_it():
    _, watch = watched([0] * 120)
    watch.begin_anew()

    assert watch.in_doubt and watch.collapsed is None


def test_a_drift_of_before_a_return_is_not_told_after_it():
    clock, stream = ManualClock(), Stream(scenes(100, 100, 200))
    watch = StreamWatch(SignsRecipe(4), stream, Look(), clock, WatchTimes(drift_every_s=200))
    told = []
    for second in range(1, 401):
        clock.advance_s(1)
        told += watch.take(FRAMES, said(second % 4), second, 1)
        if second == 250:  # the second change has been noticed, and waits to be told
            watch.begin_anew()

    (only,) = (event for event in told if isinstance(event, Drift))
    assert 100 < only.frame < 132


def scenes(*stays):
    """Keys of scenes that lie apart, each for so many frames."""
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(2 * place, 1, (stay, 16)) for place, stay in enumerate(stays)])


def test_a_change_of_the_scene_is_told_once_with_its_size():
    told, _ = watched([0, 1, 2, 3] * 75, keys=scenes(150, 150))

    ((second, event),) = kinds(told, Drift)
    assert 150 < second < 182 and event.size > 3 and not event.known


@pytest.mark.parametrize(("second", "known", "told_known"), [(152, True, True), (20, True, False), (152, False, False)])
def test_a_place_that_was_recalled_just_before_is_known(second, known, told_known):
    told, _ = watched([0, 1, 2, 3] * 75, [(second, Change(9.0, known))], scenes(150, 150))

    assert [event.known for _, event in kinds(told, Drift)] == [told_known]


def test_what_the_memory_of_places_notices_is_not_told():
    told, _ = watched([0, 1, 2, 3] * 25, [(50, Change(40.0, False))], scenes(100))

    assert kinds(told, Drift) == []


def test_of_drifts_close_together_the_largest_is_told():
    times = WatchTimes(drift_every_s=200.0)

    told, _ = watched([0, 1, 2, 3] * 75, keys=scenes(60, 60, 60, 120), times=times)

    (first, second) = kinds(told, Drift)
    assert first[0] < 100 and second[0] == first[0] + 200


def test_frames_that_only_fill_a_batch_do_not_count():
    clock = ManualClock()
    watch = StreamWatch(SignsRecipe(4), Stream(), Look(), clock)
    rows = np.eye(4, dtype=np.float32)
    clock.advance_s(60)

    (signs,) = watch.take(FRAMES, SimpleNamespace(unfiltered=rows, filtered=rows), 1, 2)

    assert isinstance(signs, Signs) and signs.frames == 2
