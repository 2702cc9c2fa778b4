"""The device's engine on the rungs of the ladder: what it holds, what it answers, and that its state survives."""

import weakref

import numpy as np
import pytest

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.options import SessionOptions
from ecotta_rt.records import Level
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.session.costs import arena_overhead
from ecotta_rt.session.interrupted import Interrupted
from ecotta_rt.session.opening import open_session

MODES = ("batch", "running", "source")
SECTIONS = ("parameters", "momentum", "statistics")
WAYS = [("batch", False), ("running", False), ("running", True), ("source", False), ("source", True)]


@pytest.fixture
def load(tiny):
    def load(normalisation, **keywords):
        return Runtime.load(tiny.bundle(normalisation), **{"batch": tiny.batch, **keywords})

    return load


def assert_equal(found, expected):
    """Bit for bit."""
    for section in SECTIONS:
        for name, array in getattr(expected, section).items():
            np.testing.assert_array_equal(getattr(found, section)[name], array, err_msg=f"{section} {name}")


@pytest.mark.parametrize(("normalisation", "frame_by_frame"), WAYS)
def test_down_and_up_again_is_as_if_it_had_only_skipped_learning(load, tiny, normalisation, frame_by_frame):
    stepping, skipping = (load(normalisation, frame_by_frame=frame_by_frame) for _ in range(2))
    answers = {stepping: [], skipping: []}

    for seed, level in enumerate(
        [Level.FULL, Level.FULL, Level.STATISTICS, Level.SPARSE, Level.STATISTICS, Level.FULL]
    ):
        stepping.set_level(level)
        for runtime in (stepping, skipping):
            frames = tiny.floats(seed=seed)
            answers[runtime].append(runtime(frames) if level.learns else runtime.predict(frames))

    for found, expected in zip(answers[stepping], answers[skipping], strict=True):
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
        assert (found.adapted, found.why) == (expected.adapted, expected.why)
    assert max(stepping.state.compare(skipping.state).values()) < 1e-5


@pytest.mark.parametrize(("normalisation", "frame_by_frame"), WAYS)
def test_inference_and_dropping_leave_the_whole_state_as_it_is(load, tiny, tmp_path, normalisation, frame_by_frame):
    runtime, untouched = (load(normalisation, frame_by_frame=frame_by_frame) for _ in range(2))
    for one in (runtime, untouched):
        one(tiny.floats(seed=1))

    runtime.set_level(Level.INFERENCE)
    prediction = runtime.predict(tiny.floats(seed=2), hold_statistics=True)
    runtime.set_level(Level.DROP)

    assert prediction.why == "off"
    assert_equal(runtime.state, untouched.state)
    runtime.save_state(tmp_path / "state.safetensors")
    runtime.set_level(Level.FULL)
    np.testing.assert_array_equal(
        runtime(tiny.floats(seed=3)).probabilities, untouched(tiny.floats(seed=3)).probabilities
    )
    assert_equal(runtime.state, untouched.state)


def test_with_statistics_held_each_frame_is_answered_as_if_it_were_the_first(load, tiny):
    runtime, single = load("running"), load("running", batch=1)
    runtime(tiny.floats(seed=1))
    state = runtime.state

    found = runtime.predict(tiny.floats(seed=2), hold_statistics=True)

    for frame, probabilities in zip(tiny.floats(seed=2), found.probabilities, strict=True):
        single.restore(state)
        np.testing.assert_allclose(single.predict(frame[None]).probabilities[0], probabilities, atol=1e-6)


def test_a_batchs_own_statistics_are_not_taken_apart(load, tiny):
    held, plain = load("batch"), load("batch")

    found = held.predict(tiny.frames(), hold_statistics=True)

    np.testing.assert_array_equal(found.probabilities, plain.predict(tiny.frames()).probabilities)


def test_a_held_answer_that_is_not_finite_is_told(load, tiny, beyond_range):
    runtime = load("running")
    frames = tiny.floats()
    frames[1] *= np.float32(3e38)

    prediction = runtime.predict(frames, hold_statistics=True)

    assert prediction.why == "not-finite"
    assert np.isfinite(prediction.probabilities[[0, 2, 3]]).all()


# What is held


def watch_openings(monkeypatch):
    """The graphs opened, each with what was held at that moment; `runtime` is set once there is one."""
    opened = []

    def record(bundle, graph, options, **keywords):
        held = record.runtime._graphs.runs if record.runtime else {}
        opened.append((graph, tuple(sorted(held))))
        return open_session(bundle, graph, options, **keywords)

    record.runtime = None
    monkeypatch.setattr("ecotta_rt.session.graph_run.open_session", record)
    return opened, record


@pytest.mark.parametrize(
    ("normalisation", "frame_by_frame", "opened_on"),
    [
        (
            "running",
            False,
            {
                Level.STATISTICS: [("observe-4", ())],
                Level.INFERENCE: [("predict-1", ())],
                Level.DROP: [],
                Level.SPARSE: [("step-4", ()), ("observe-4", ("step-4",))],
                Level.FULL: [],
            },
        ),
        (
            "batch",
            False,
            {
                Level.STATISTICS: [("predict-4", ())],
                Level.INFERENCE: [],
                Level.DROP: [],
                Level.FULL: [("step-4", ())],
            },
        ),
        (
            "source",
            True,
            {
                Level.STATISTICS: [("predict-1", ())],
                Level.INFERENCE: [],
                Level.FULL: [("accumulate", ()), ("update", ("accumulate",))],
            },
        ),
    ],
)
def test_what_a_level_does_not_need_is_closed_before_what_it_needs_is_opened(
    load, monkeypatch, normalisation, frame_by_frame, opened_on
):
    opened, record = watch_openings(monkeypatch)
    record.runtime = runtime = load(normalisation, frame_by_frame=frame_by_frame)

    for level, graphs in opened_on.items():
        opened.clear()
        runtime.set_level(level)
        assert opened == graphs, str(level)
        assert runtime.level == level
    assert (runtime.graph in runtime._graphs.runs) == (level == Level.FULL)


def test_what_is_closed_is_given_back(load, monkeypatch):
    given_back = []
    monkeypatch.setattr("ecotta_rt.runtime.open_graphs.give_back_memory", given_back.append)
    runtime = load("running")

    runtime.set_level(Level.FULL)
    assert given_back == [], "nothing was closed"
    runtime.set_level(Level.STATISTICS)
    assert given_back == [runtime.session_options]


def test_buffers_for_learning_and_for_whole_batches_go_too(load, tiny):
    runtime = load("running", frame_by_frame=False)
    runtime(tiny.floats())
    assert set(runtime._vectors.next) == {"parameters", "momentum"}

    runtime.set_level(Level.INFERENCE)
    runtime.predict(tiny.floats(), hold_statistics=True)

    assert not runtime._vectors.next
    assert [buffer.shape for buffer in runtime._graphs.frames.values()] == [(1, 3, 8, 8)]


def test_a_graph_that_stays_does_not_keep_the_buffers_that_go(load, tiny):
    runtime = load("running")
    runtime.set_level(Level.SPARSE)
    for seed in range(2):  # each buffer has been read and written
        runtime(tiny.floats(seed=seed))
        runtime.predict(tiny.floats(seed=seed))
    for_learning = weakref.ref(runtime._vectors.next["parameters"])

    runtime.set_level(Level.STATISTICS)

    assert "observe-4" in runtime._graphs.runs
    assert for_learning() is None
    assert runtime.predict(tiny.floats()).why == "off"


def test_a_runtime_that_was_loaded_without_learning_never_opens_such_a_graph(load, tiny, monkeypatch):
    opened, _ = watch_openings(monkeypatch)
    runtime = load("source", adapt=False)

    for level in (Level.INFERENCE, Level.DROP, Level.SPARSE, Level.FULL):
        runtime.set_level(level)
    runtime.predict(tiny.floats())

    assert [graph for graph, _ in opened] == ["predict-4", "predict-1", "predict-4"]


@pytest.mark.parametrize("level", [Level.STATISTICS, Level.INFERENCE, Level.DROP])
def test_on_a_level_that_does_not_learn_nothing_is_learned_by_mistake(load, tiny, level):
    runtime = load("running")
    runtime.set_level(level)

    with pytest.raises(UsageError, match=f"on level {level}; call predict, or set_level"):
        runtime(tiny.floats())


@pytest.mark.parametrize("error", [MemoryError("none left"), InputFileError("onnxruntime refuses it: bad allocation")])
def test_a_graph_that_cannot_be_opened_leaves_the_state_and_the_way_down_open(load, tiny, monkeypatch, error):
    runtime, untouched = load("running"), load("running")
    for one in (runtime, untouched):
        one(tiny.floats(seed=1))
    runtime.set_level(Level.STATISTICS)

    def fail(bundle, graph, options, **keywords):
        if graph.startswith("step"):
            raise error
        return open_session(bundle, graph, options, **keywords)

    monkeypatch.setattr("ecotta_rt.session.graph_run.open_session", fail)
    with pytest.raises(type(error)):
        runtime.set_level(Level.FULL)
    runtime.set_level(Level.STATISTICS)

    for one in (runtime, untouched):
        one.predict(tiny.floats(seed=2))
    assert max(runtime.state.compare(untouched.state).values()) < 1e-5


# Parameters as constants


def fixed(runtime):
    return {name for name, run in runtime._graphs.runs.items() if run.fixed}


@pytest.mark.parametrize("normalisation", MODES)
def test_where_nothing_learns_the_parameters_are_constants_and_the_answers_the_same(load, tiny, normalisation):
    learning, answering = load(normalisation), load(normalisation, adapt=False)

    for seed in range(2):
        expected, found = (runtime.predict(tiny.floats(seed=seed)) for runtime in (learning, answering))
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-6)

    assert fixed(answering) == set(answering._graphs.runs) and not fixed(learning)


def test_another_state_changes_what_is_answered_by_constants(load, tiny):
    learned, answering, learning = load("running"), load("running", adapt=False), load("running")
    for seed in range(3):
        learned(tiny.floats(seed=seed))
    first = answering.predict(tiny.floats(seed=9), hold_statistics=True)

    for runtime in (answering, learning):
        runtime.restore(learned.state)
    found, expected = (runtime.predict(tiny.floats(seed=9), hold_statistics=True) for runtime in (answering, learning))

    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-6)
    assert not np.allclose(found.probabilities, first.probabilities, atol=1e-4)


def test_a_state_with_the_same_parameters_opens_nothing_anew(load, tiny, monkeypatch):
    runtime = load("running", adapt=False)
    opened, _ = watch_openings(monkeypatch)

    runtime.predict(tiny.floats())
    runtime.reset()

    assert opened == []


def test_on_a_level_that_learns_no_answer_comes_from_parameters_of_before(load, tiny):
    runtime = load("running")
    runtime.set_level(Level.STATISTICS)
    assert fixed(runtime) == {"observe-4"}

    runtime.set_level(Level.SPARSE)
    runtime(tiny.floats(seed=1))
    found = runtime.predict(tiny.floats(seed=2), hold_statistics=True)

    other = load("running", adapt=False)
    other.restore(runtime.state)
    expected = other.predict(tiny.floats(seed=2), hold_statistics=True)
    assert not fixed(runtime)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-6)


# What the next batch will take


def test_tensors_count_until_the_arena_has_them(load, tiny):
    runtime = load("running")
    arenas = {
        graph.name: int(graph.sessions[0].arena_bytes * arena_overhead(graph.batch))
        for graph in runtime._bundle.manifest.graphs
    }

    assert runtime.transient_bytes == arenas["step-4"] > 0
    runtime(tiny.floats())
    assert runtime.transient_bytes == 0
    runtime.set_level(Level.STATISTICS)
    assert runtime.transient_bytes == arenas["observe-4"]
    runtime.set_level(Level.DROP)
    assert runtime.transient_bytes == 0


def test_where_each_tensor_goes_back_they_count_always(load, tiny, monkeypatch):
    monkeypatch.setattr("ecotta_rt.session.opening._return_freed_memory", lambda: None)
    runtime = load("source", options=SessionOptions(memory="returning"))

    runtime(tiny.floats())

    assert runtime.transient_bytes > 0


# Giving up


class Halfway:
    """A session whose n-th run from now is told to end."""

    def __init__(self, runtime, session, at):
        self.runtime, self.session, self.left = runtime, session, at

    def run_with_iobinding(self, binding, options):
        self.left -= 1
        if not self.left:
            self.runtime.interrupt()
        self.session.run_with_iobinding(binding, options)


@pytest.mark.parametrize(
    ("frame_by_frame", "graph", "at"), [(False, "step-4", 1), (True, "accumulate", 3), (True, "update", 1)]
)
def test_a_step_that_is_given_up_leaves_the_state_as_it_was_and_the_next_one_is_made(
    load, tiny, frame_by_frame, graph, at
):
    runtime, untouched = (load("running", frame_by_frame=frame_by_frame) for _ in range(2))
    for one in (runtime, untouched):
        one(tiny.floats(seed=1))
    run = runtime._graphs.runs[graph]
    session, run._session = run._session, Halfway(runtime, run._session, at)

    with pytest.raises(Interrupted, match="given up half-way"):
        runtime(tiny.floats(seed=2))

    assert_equal(runtime.state, untouched.state)
    run._session = session
    for one in (runtime, untouched):
        one(tiny.floats(seed=3))
    assert_equal(runtime.state, untouched.state)


class GivenUp:
    """A session in which somebody gives up answering, at the first run."""

    def __init__(self, runtime, session):
        self.runtime, self.session = runtime, session

    def run_with_iobinding(self, binding, options):
        self.runtime.interrupt(answers=True)
        self.session.run_with_iobinding(binding, options)


def test_an_answer_is_given_up_only_where_that_is_asked_for_and_the_next_one_comes(load, tiny):
    runtime = load("source", adapt=False)
    (run,) = runtime._graphs.runs.values()
    session, run._session = run._session, GivenUp(runtime, run._session)

    with pytest.raises(Interrupted, match="predict-4.: given up half-way"):
        runtime.predict(tiny.floats())
    run._session = session

    assert runtime.predict(tiny.floats()).why == "off"


def test_answering_is_not_given_up(load, tiny):
    runtime = load("running")

    runtime.interrupt()

    assert runtime.predict(tiny.floats()).why == "off"
