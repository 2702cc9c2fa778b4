"""One runtime shared by threads: every answer and every state is that of one call after the other."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import numpy as np
import pytest

from ecotta_rt.records import Level
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.session.interrupted import Interrupted

THREADS, CALLS = 4, 60


@pytest.fixture
def load(tiny):
    return lambda normalisation, **keywords: Runtime.load(
        tiny.bundle(normalisation), **{"batch": tiny.batch, **keywords}
    )


def in_threads(work):
    """Run `work(number)` for each call, on all threads; raises what one of them raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS * CALLS)))


def test_threads_that_ask_one_runtime_each_get_the_answer_to_their_own_frames(load, tiny):
    runtime = load("source")
    frames = [tiny.frames(seed=seed) for seed in range(8)]
    expected = [runtime.predict(batch).probabilities for batch in frames]

    found = in_threads(lambda number: runtime.predict(frames[number % 8]).probabilities)

    for number, probabilities in enumerate(found):
        np.testing.assert_array_equal(probabilities, expected[number % 8])


@pytest.mark.parametrize("frame_by_frame", [False, True])
def test_steps_of_many_threads_are_the_steps_of_one(load, tiny, frame_by_frame):
    shared, alone = (load("running", frame_by_frame=frame_by_frame) for _ in range(2))
    frames = tiny.frames(seed=1)

    adapted = in_threads(lambda _: shared(frames).adapted)

    assert adapted == [alone(frames).adapted for _ in range(THREADS * CALLS)]
    for section in ("parameters", "momentum", "statistics"):
        for name, array in getattr(alone.state, section).items():
            np.testing.assert_array_equal(getattr(shared.state, section)[name], array)


def test_everything_else_waits_for_the_step_in_progress(load, tiny):
    """Levels, states and figures, while two threads learn and answer."""
    runtime = load("running")
    first, frames = runtime.state, tiny.frames()

    def work(number):
        kind = number % 6
        if kind == 0:
            runtime.set_level(Level(number // 6 % 2 * 2))
        elif kind == 1:
            state = runtime.state
            assert all(np.isfinite(array).all() for array in state.parameters.values())
        elif kind == 2:
            runtime.restore(first)
        elif kind == 3:
            assert runtime.transient_bytes >= 0
        else:
            assert np.isfinite(runtime.predict(frames).probabilities).all()

    in_threads(work)


def test_a_step_can_be_given_up_while_other_threads_wait_for_it(load, tiny):
    runtime = load("running")
    run = runtime._graphs.runs[runtime.graph]
    began, raised = Event(), []

    class Endless:
        """A step that ends only when it is told to."""

        def run_with_iobinding(self, binding, options):
            began.set()
            while not options.terminate:
                pass
            raise RuntimeError("terminated")

    session, run._session = run._session, Endless()

    def step():
        try:
            runtime(tiny.frames())
        except Interrupted as error:
            raised.append(error)

    learning = Thread(target=step)
    learning.start()
    began.wait()
    asking = Thread(target=lambda: raised.append(runtime.state))
    asking.start()
    runtime.interrupt()
    learning.join()
    asking.join()
    run._session = session

    assert {type(outcome).__name__ for outcome in raised} == {"Interrupted", "AdaptState"}
