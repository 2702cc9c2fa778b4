"""What the frozen network says beside the one that has adapted."""

import numpy as np
import pytest

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.records import Level
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.runtime.frozen_look import FrozenLook


@pytest.fixture
def load(tiny):
    def load(normalisation="running", **keywords):
        return Runtime.load(tiny.bundle(normalisation), **{"batch": tiny.batch, **keywords})

    return load


def test_one_batch_in_so_many_is_answered_from_the_state_of_the_bundle(load, tiny):
    runtime, fresh = load(adapt=False), load(adapt=False)
    look, frames = FrozenLook(runtime, every=3), [tiny.frames(seed=seed) for seed in range(6)]

    found = []
    for batch in frames:
        runtime.predict(batch)
        found.append(look.take(batch))

    assert [answers is not None for answers in found] == [False, False, True, False, False, True]
    for place in (2, 5):
        expected = fresh.predict(frames[place], hold_statistics=True).unfiltered
        np.testing.assert_allclose(found[place], expected, atol=1e-6)


@pytest.mark.parametrize("adapt", [False, True])
def test_a_look_moves_nothing(load, tiny, adapt):
    watched, alone = load(adapt=adapt), load(adapt=adapt)
    look = FrozenLook(watched, every=1)

    for seed in range(4):
        frames = tiny.frames(seed=seed)
        for runtime in (watched, alone):
            (runtime if adapt else runtime.predict)(frames)
        assert look.take(frames) is not None

    assert watched.state.compare(alone.state) == dict.fromkeys(watched.state.compare(alone.state), 0.0)


def test_where_there_is_little_to_do_with_nobody_looks(load, tiny):
    runtime = load(adapt=False)
    runtime.set_level(Level.INFERENCE)

    assert FrozenLook(runtime, every=1).take(tiny.frames()) is None
    assert FrozenLook(load(adapt=False), every=0).take(tiny.frames()) is None


@pytest.mark.parametrize("error", [InputFileError("the graph cannot run"), MemoryError()])
def test_a_look_that_fails_is_no_failure_of_the_stream(load, tiny, monkeypatch, error):
    runtime = load(adapt=False)

    def broken(frames):
        raise error

    monkeypatch.setattr(runtime, "predict", broken)
    before = runtime.stream

    assert FrozenLook(runtime, every=1).take(tiny.frames()) is None
    assert runtime.stream is before


def test_a_number_below_zero_is_refused(load):
    with pytest.raises(UsageError, match="every -1"):
        FrozenLook(load(adapt=False), every=-1)
