import itertools

import numpy as np
import pytest

from ecotta_rt.errors import UsageError
from ecotta_rt.events import Refusal, SourceLost
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.opening import open_source
from ecotta_rt.sources.query import Size
from ecotta_rt.sources.synthetic import SyntheticOptions, synthetic_camera


def shown(count, name="door", clock=None, **options):
    camera = synthetic_camera(name, SyntheticOptions(**options), clock or ManualClock())
    return list(itertools.islice(camera, count))


def test_the_same_name_and_seed_show_the_same_pictures():
    first, again = shown(5), shown(5)

    assert [frame.pixels.tobytes() for frame in first] == [frame.pixels.tobytes() for frame in again]
    assert (shown(1, "gate")[0].pixels != first[0].pixels).any()
    assert (shown(1, seed=1)[0].pixels != first[0].pixels).any()


def test_frames_come_at_their_rate_and_are_of_their_size():
    frames = shown(11, fps=5, size=Size(32, 16))

    assert [frame.time_s for frame in frames] == pytest.approx([i / 5 for i in range(11)])
    assert {frame.pixels.shape for frame in frames} == {(16, 32, 3)}


def test_a_shape_stays_for_a_while_and_then_another_comes():
    frames = [frame.pixels.astype(int) for frame in shown(20, stay=10, weather=0)]
    changed = [np.abs(after - before).mean() for before, after in itertools.pairwise(frames)]

    assert np.argmax(changed) == 9
    assert changed[9] > 2 * sorted(changed)[-2]


def test_the_weather_changes():
    frames = shown(60, stay=60, weather=1)
    levels = [round(float(frame.pixels.mean()), -1) for frame in frames]

    assert len(set(levels)) > 2


def test_the_connection_is_lost_when_it_is_told_to_be_and_the_frames_go_on():
    items = shown(7, lose=3)
    unbroken = shown(6)

    assert [type(item) for item in items] == [Frame, Frame, Frame, SourceLost, Frame, Frame, Frame]
    assert "connection lost after 3 frames" in items[3].why
    assert [item.pixels.tobytes() for item in items if isinstance(item, Frame)] == [
        frame.pixels.tobytes() for frame in unbroken
    ]


def test_rubbish_is_of_every_kind():
    items = shown(10, rubbish=2)[1::2]

    assert [type(item) for item in items] == [Frame, Frame, Frame, Frame, Refusal]
    assert [item.pixels.shape for item in items[:4]] == [(64, 64, 3), (1, 1, 3), (64, 64), (1, 512, 3)]


def test_a_read_hangs_when_it_is_told_to():
    clock = ManualClock()

    shown(4, clock=clock, hang=2)

    assert clock.now_s() >= 3600


def test_a_user_opens_it_by_its_name():
    source = open_source("synthetic:door?fps=0&size=8x8")

    items = iter(source)

    assert isinstance(source, Newest)
    assert next(items).name == "synthetic:door"
    items.close()
    with pytest.raises(UsageError, match="synthetic:door.fast=1: fast: unknown field"):
        open_source("synthetic:door?fast=1")
