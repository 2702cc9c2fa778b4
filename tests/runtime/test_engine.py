"""The device's engine against the torch engine, and what it does with frames that are of no use."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import BadFrames, BudgetExceeded, InputFileError, UsageError
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.machine.device import load_device
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import SessionOptions
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.session.opening import open_session
from ecotta_rt.state import AdaptState

MODES = ("batch", "running", "source")
SECTIONS = ("parameters", "momentum", "statistics")


@pytest.fixture
def load(tiny):
    """Runtime of a tiny bundle, by normalisation; steps of 4 frames unless told otherwise."""

    def load(normalisation, **keywords):
        return Runtime.load(tiny.bundle(normalisation), **{"batch": tiny.batch, **keywords})

    return load


@pytest.fixture
def torch_engine(tiny):
    def make(normalisation, **changes):
        return TorchEngine(tiny.network(), tiny.options(normalisation, **changes))

    return make


def section_distances(found, expected):
    """Per section, the largest difference against the largest value."""
    distances = {}
    for section in SECTIONS:
        pairs = [(getattr(found, section)[name], array) for name, array in getattr(expected, section).items()]
        one, other = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
        distances[section] = float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-30))
    return distances


def assert_alike(found, expected, tolerance=1e-5):
    assert max(section_distances(found, expected).values()) < tolerance


def assert_equal(found, expected, sections=SECTIONS):
    """Bit for bit."""
    for section in sections:
        for name, array in getattr(expected, section).items():
            np.testing.assert_array_equal(getattr(found, section)[name], array, err_msg=f"{section} {name}")


def uncertain_frames(tiny, runtime, count=4):
    """Frames that the runtime, as it is now, is least certain about; its state stays."""
    state = runtime.state
    candidates = tiny.floats(400, seed=77)
    entropies = []
    for start in range(0, 400, runtime.batch):
        entropies += runtime.predict(candidates[start : start + runtime.batch]).entropy_nats.tolist()
        runtime.restore(state)
    return candidates[np.argsort(entropies)[-count:]]


# What it computes


@pytest.mark.parametrize("normalisation", MODES)
def test_step_after_step_it_does_what_torch_does(load, torch_engine, tiny, normalisation):
    """Free-running over five steps: buffers that were mixed up would show in the second or third."""
    runtime, engine = load(normalisation), torch_engine(normalisation)

    for seed in range(5):
        frames = tiny.floats(seed=seed)
        outcome = engine.step(torch.from_numpy(frames))
        prediction = runtime(frames)

        probabilities = outcome.logits.softmax(1).numpy()
        np.testing.assert_allclose(prediction.probabilities, probabilities, atol=2e-6)
        np.testing.assert_allclose(prediction.entropy_nats, outcome.report["entropy_nats"].numpy(), atol=1e-5)
        assert prediction.labels.tolist() == outcome.logits.argmax(1).tolist()
        assert prediction.kept.tolist() == outcome.report["kept"].tolist()
        assert (prediction.adapted, prediction.why) == (True, "adapted")
        assert_alike(runtime.state, engine.state)


@pytest.mark.parametrize("normalisation", ["running", "source"])
def test_frame_by_frame_it_does_what_torch_does_frame_by_frame(load, torch_engine, tiny, normalisation):
    """Of a number of frames that no graph is made for."""
    runtime, engine = (
        load(normalisation, batch=3, frame_by_frame=True),
        torch_engine(normalisation, frame_by_frame=True),
    )

    for seed in range(4):
        frames = tiny.floats(3, seed=seed)
        outcome = engine.step(torch.from_numpy(frames))
        prediction = runtime(frames)

        np.testing.assert_allclose(prediction.probabilities, outcome.logits.softmax(1).numpy(), atol=2e-6)
        assert prediction.kept.tolist() == outcome.report["kept"].tolist()
        assert prediction.adapted
        assert_alike(runtime.state, engine.state)


def test_a_long_run_forgets_none_of_its_buffers(load, torch_engine, tiny):
    """More calls than the runtime remembers arrays."""
    runtime = load("source", batch=1, frame_by_frame=True)
    engine = torch_engine("source", frame_by_frame=True)

    for frame in tiny.floats(70, seed=9):
        engine.step(torch.from_numpy(frame[None]))
        runtime(frame[None])

    assert_alike(runtime.state, engine.state, tolerance=1e-3)  # free-running


@pytest.mark.parametrize("normalisation", ["source", "running"])
def test_frame_by_frame_equals_the_whole_batch(load, tiny, normalisation):
    """Statistics that follow the frames do so when all of them have been answered."""
    whole, single = load(normalisation), load(normalisation, frame_by_frame=True)

    for seed in range(3):
        frames = tiny.floats(seed=seed)
        expected, found = whole(frames), single(frames)

        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
        assert found.kept.tolist() == expected.kept.tolist()
        assert_alike(single.state, whole.state)


def test_frame_by_frame_equals_the_whole_batch_with_statistics_held(tiny, tmp_path):
    """In running mode with a statistics momentum of 0."""
    network = tiny.network()
    state = to_adapt_state(initial_state(network), network.digest())
    options = tiny.options("running", statistics_momentum=0.0, frame_by_frame=True)
    path, names = tmp_path / "held.ecotta", ["a", "b", "c", "d", "e"]
    export(network, state, path, ExportOptions(model="tiny", classes=names, batches=(4,), step=options))
    whole, single = Runtime.load(path, batch=4), Runtime.load(path, batch=4, frame_by_frame=True)
    engine = TorchEngine(network, tiny.options("running", statistics_momentum=0.0))

    for seed in range(3):
        frames = tiny.floats(seed=seed)
        engine.step(torch.from_numpy(frames))
        expected, found = whole(frames), single(frames)

        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
        assert found.kept.tolist() == expected.kept.tolist()
        assert_alike(single.state, engine.state)
        assert_alike(whole.state, engine.state)
        assert_equal(single.state, state, ["statistics"])


def test_single_frames_are_steps_of_their_own(load, torch_engine, tiny):
    runtime, engine = load("running", batch=1), torch_engine("running")

    for seed in range(4):
        frames = tiny.floats(1, seed=seed)
        engine.step(torch.from_numpy(frames))
        runtime(frames)

        assert_alike(runtime.state, engine.state)


def test_pixels_and_floats_are_the_same_frames(load, tiny):
    pixels, floats = load("running"), load("running")

    from_pixels, from_floats = pixels(tiny.frames(seed=1)), floats(tiny.floats(seed=1))

    np.testing.assert_array_equal(from_pixels.probabilities, from_floats.probabilities)
    assert_equal(pixels.state, floats.state)


@pytest.mark.parametrize("normalisation", MODES)
def test_a_prediction_moves_at_most_the_statistics_and_those_only_in_running_mode(
    load, torch_engine, tiny, normalisation
):
    runtime, engine = load(normalisation), torch_engine(normalisation)
    before = runtime.state

    for seed in range(2):
        logits = engine.predict(torch.from_numpy(tiny.floats(seed=seed)))
        prediction = runtime.predict(tiny.frames(seed=seed))

        np.testing.assert_allclose(prediction.probabilities, logits.softmax(1).numpy(), atol=2e-6)
        assert (prediction.adapted, prediction.why) == (False, "off")
        assert not prediction.kept.any()

    assert_equal(runtime.state, before, ["parameters", "momentum"])
    assert_alike(runtime.state, engine.state)
    moved = section_distances(runtime.state, before)["statistics"] > 0
    assert moved == (normalisation == "running")


def test_predicting_frame_by_frame_takes_any_number(load, torch_engine, tiny):
    runtime, engine = load("running", batch=3, frame_by_frame=True), torch_engine("running")

    prediction = runtime.predict(tiny.floats(3))
    expected = engine.predict(torch.from_numpy(tiny.floats(3)))

    np.testing.assert_allclose(prediction.probabilities, expected.softmax(1).numpy(), atol=2e-6)
    assert_alike(runtime.state, engine.state)


def test_answers_stay_when_the_next_ones_come(load, tiny):
    runtime = load("running")
    first = runtime(tiny.floats(seed=1))
    kept, probabilities = first.kept.copy(), first.probabilities.copy()

    runtime(tiny.floats(seed=2))

    np.testing.assert_array_equal(first.kept, kept)
    np.testing.assert_array_equal(first.probabilities, probabilities)


def test_two_runtimes_in_one_process_do_not_disturb_each_other(load, tiny):
    def adapt(runtime, seeds):
        return [runtime(tiny.floats(seed=seed)).probabilities for seed in seeds]

    apart = [adapt(load("running"), (0, 1)), adapt(load("running"), (2, 3))]
    first, second = load("running"), load("running")
    interleaved = [[], []]
    for seeds in ((0, 2), (1, 3)):
        for results, runtime, seed in zip(interleaved, (first, second), seeds, strict=True):
            results += adapt(runtime, [seed])

    np.testing.assert_array_equal(interleaved, apart)


@pytest.mark.parametrize(
    "options",
    [SessionOptions(optimisation="extended"), SessionOptions(threads=2)],
    ids=["extended", "two threads"],
)
def test_session_options_change_no_result(load, tiny, options):
    expected, found = load("batch"), load("batch", options=options)

    for seed in range(2):
        np.testing.assert_allclose(
            found(tiny.floats(seed=seed)).probabilities, expected(tiny.floats(seed=seed)).probabilities, atol=1e-6
        )

    assert found.session_options is options
    assert_alike(found.state, expected.state)


def test_fast_is_a_wish(load, tiny):
    """Where a bundle has no step with weights stored twice, the other one is taken."""
    found = load("running", fast=True)

    assert found.graph == "step-4"
    assert found(tiny.floats()).why == "adapted"


def test_the_fast_step_takes_the_same_steps(load, tiny):
    plain, fast = load("source", batch=1), load("source", batch=1, fast=True)

    for seed in range(4):
        expected, found = plain(tiny.floats(1, seed)), fast(tiny.floats(1, seed))
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)

    assert (plain.graph, fast.graph) == ("step-1", "step-1-fast")
    assert_alike(fast.state, plain.state)


# Steps that are not made


@pytest.mark.parametrize(
    ("normalisation", "frame_by_frame"), [("source", False), ("running", False), ("running", True)]
)
def test_frames_of_which_none_is_certain_are_a_zero_step(load, tiny, normalisation, frame_by_frame):
    runtime = load(normalisation, frame_by_frame=frame_by_frame)
    runtime(tiny.floats(seed=1))  # so that there is a momentum that could go on
    before = runtime.state

    prediction = runtime(uncertain_frames(tiny, runtime))

    assert (prediction.adapted, prediction.why) == (False, "uncertain")
    assert not prediction.kept.any()
    assert np.abs(before.momentum["groups.0.norm.bias"]).max() > 0
    assert_equal(runtime.state, before, ["parameters", "momentum"])
    assert (section_distances(runtime.state, before)["statistics"] > 0) == (normalisation == "running")


def test_what_overflows_is_refused_with_all_of_its_step(load, tiny, beyond_range, subtests):
    """Features beyond 3e38, or only their squares, which would poison a variance while the logits look well."""
    for learns in [True, False]:
        for normalisation, frame_by_frame in [("running", False), ("running", True), ("batch", False)]:
            with subtests.test(learns=learns, normalisation=normalisation, frame_by_frame=frame_by_frame):
                runtime = load(normalisation, frame_by_frame=frame_by_frame)
                runtime(tiny.floats(seed=1))
                before, remembered = runtime.state, runtime.adaptation.arrays()
                scales = (1e37,) if normalisation == "batch" else (1e37, 1e25)  # a batch's own moments are not kept

                for scale in scales:
                    frames = tiny.floats(seed=2)
                    frames[1] *= np.float32(scale)
                    prediction = runtime(frames) if learns else runtime.predict(frames)

                    assert (prediction.adapted, prediction.why) == (False, "not-finite")
                    assert_equal(runtime.state, before)
                    assert all(np.isfinite(array).all() for array in runtime.state.statistics.values())
                    for name, array in runtime.adaptation.arrays().items():
                        np.testing.assert_array_equal(array, remembered[name])

                assert runtime(tiny.floats(seed=3)).why == "adapted"


class Failing:
    """A session that fails at its n-th run from now."""

    def __init__(self, session, fail_at):
        self.session, self.left = session, fail_at

    def run_with_iobinding(self, binding, options):
        self.left -= 1
        if not self.left:
            raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory\nat line 7")
        self.session.run_with_iobinding(binding, options)


@pytest.mark.parametrize(
    ("frame_by_frame", "graph", "fail_at"), [(True, "accumulate", 3), (True, "update", 1), (False, "step-4", 1)]
)
def test_a_run_that_fails_is_a_sentence_and_leaves_the_state_as_it_was(load, tiny, frame_by_frame, graph, fail_at):
    runtime, untouched = (load("running", frame_by_frame=frame_by_frame) for _ in range(2))
    for one in (runtime, untouched):
        one(tiny.floats(seed=1))
    before = runtime.state
    run = runtime._graphs.runs[graph]
    session, run._session = run._session, Failing(run._session, fail_at)

    with pytest.raises(InputFileError, match=f"graph '{graph}': onnxruntime could not run it: .*allocate") as caught:
        runtime(tiny.floats(seed=2))

    assert len(str(caught.value).splitlines()) == 1
    assert_equal(runtime.state, before)
    run._session = session
    runtime(tiny.floats(seed=3))
    untouched(tiny.floats(seed=3))
    assert_equal(runtime.state, untouched.state)


def test_frame_by_frame_one_bad_frame_spoils_no_other_answer(load, tiny, beyond_range):
    runtime, untouched = load("running", frame_by_frame=True), load("running", frame_by_frame=True)
    frames = tiny.floats(seed=2)
    expected = untouched(frames[[0, 0, 2, 3]])
    frames[1] *= np.float32(1e37)

    prediction = runtime(frames)

    assert prediction.why == "not-finite"
    assert np.isfinite(prediction.probabilities[[0, 2, 3]]).all()
    np.testing.assert_array_equal(prediction.probabilities[0], expected.probabilities[0])


@pytest.mark.parametrize("frame_by_frame", [False, True])
def test_weights_that_have_diverged_are_said_and_kept(load, tiny, frame_by_frame):
    """Nothing the runtime could repair; the caller hears of it in each answer and restores."""
    runtime = load("source", frame_by_frame=frame_by_frame)
    good = runtime.state
    huge = {name: np.full_like(array, 3e38) for name, array in good.parameters.items()}
    runtime.restore(AdaptState(huge, good.momentum, good.statistics, good.network_digest))

    assert runtime(tiny.floats()).why == "not-finite"
    assert_equal(runtime.state, AdaptState(huge, good.momentum, good.statistics, good.network_digest))

    runtime.restore(good)
    assert runtime(tiny.floats()).why == "adapted"


def test_frames_that_are_not_finite_are_refused_before_anything_moves(load, tiny, subtests):
    for frame_by_frame in [False, True]:
        for bad in [np.nan, np.inf, -np.inf]:
            with subtests.test(frame_by_frame=frame_by_frame, bad=bad):
                runtime = load("running", frame_by_frame=frame_by_frame)
                before = runtime.state
                frames = tiny.floats()
                frames[2, 1, 3:5, 4] = bad

                for call in (runtime, runtime.predict):
                    with pytest.raises(BadFrames, match="2 values are NaN or infinite; the state was left as it was"):
                        call(frames)

                assert_equal(runtime.state, before)


WRONG = {
    "too few": (np.zeros((3, 8, 8, 3), np.uint8), r"uint8 \[3, 8, 8, 3\], expected \[4, 8, 8, 3\].*takes 4 at a time"),
    "another size": (np.zeros((4, 8, 9, 3), np.uint8), "the bundle's frames are 8x8"),
    "channels first": (np.zeros((4, 3, 8, 8), np.uint8), r"expected \[4, 8, 8, 3\]"),
    "channels last": (np.zeros((4, 8, 8, 3), np.float32), r"expected \[4, 3, 8, 8\]"),
    "no batch": (np.zeros((8, 8, 3), np.uint8), r"expected \[4, 8, 8, 3\]"),
    "float64": (np.zeros((4, 3, 8, 8)), "frames are float64: give uint8"),
    "a tensor of torch": (torch.zeros(4, 3, 8, 8), "frames are torch.float32: give uint8"),
    "a list": ([[0]], "frames are list: give uint8"),
    "nothing": (None, "frames are NoneType"),
    "one grey picture": (np.zeros((8, 8), np.uint8), r"runtime.preprocess\(picture\)\[None\], and 4 of those"),
    "one grey picture with its channel": (np.zeros((8, 8, 1), np.uint8), r"runtime.preprocess\(picture\)"),
    "grey pictures": (np.zeros((4, 8, 8, 1), np.uint8), "the colours that the network takes"),
    "bytes with channels first": (np.zeros((4, 3, 8, 8), np.uint8), r"frames.transpose\(0, 2, 3, 1\)"),
    "floats with channels last": (np.zeros((4, 8, 8, 3), np.float32), r"frames.transpose\(0, 3, 1, 2\)"),
    "floats of 0 to 255": (np.full((4, 3, 8, 8), 200, np.float32), "from 200 to 200, expected .*divide .* by 255"),
    "normalised floats": (np.full((4, 3, 8, 8), -2, np.float32), "leave out your own mean and std"),
    "float64 of a picture": (np.zeros((4, 3, 8, 8)), r"astype\(numpy.float32\)"),
    "a picture of Pillow": (type("Image", (), {"getbands": tuple})(), r"preprocess\(numpy.asarray\(picture.convert"),
}


def test_frames_of_another_kind_are_refused(load, subtests):
    for kind, (frames, match) in WRONG.items():
        with subtests.test(kind):
            runtime = load("running")
            before = runtime.state

            for call in (runtime, runtime.predict):
                with pytest.raises(BadFrames, match=match):
                    call(frames)

            assert_equal(runtime.state, before)


# The state


def test_a_state_is_a_value_that_later_steps_do_not_reach(load, tiny):
    runtime = load("running")
    runtime(tiny.floats(seed=1))
    state = runtime.state
    copies = {name: array.copy() for name, array in state.parameters.items()}

    for seed in range(2, 5):
        runtime(tiny.floats(seed=seed))

    for name, array in copies.items():
        np.testing.assert_array_equal(state.parameters[name], array)


@pytest.mark.parametrize("normalisation", MODES)
def test_a_saved_state_goes_on_where_it_was(load, tiny, tmp_path, normalisation):
    runtime = load(normalisation)
    for seed in range(3):
        runtime(tiny.floats(seed=seed))
    runtime.save_state(tmp_path / "adapted.safetensors")
    expected = [runtime(tiny.floats(seed=seed)).probabilities for seed in (3, 4)]

    other = load(normalisation)
    other.restore(AdaptState.load(tmp_path / "adapted.safetensors"))
    found = [other(tiny.floats(seed=seed)).probabilities for seed in (3, 4)]

    np.testing.assert_array_equal(found, expected)
    assert_equal(other.state, runtime.state)


def test_reset_goes_back_to_the_bundles_state(load, tiny):
    runtime = load("running")
    expected = [runtime(tiny.floats(seed=seed)).probabilities for seed in range(3)]

    runtime.reset()
    assert_equal(runtime.state, read_bundle(tiny.bundle("running")).initial_state())
    found = [runtime(tiny.floats(seed=seed)).probabilities for seed in range(3)]

    np.testing.assert_array_equal(found, expected)


def test_metadata_travel_with_the_state(load):
    runtime = load("source")
    state = runtime.state

    runtime.restore(AdaptState(state.parameters, state.momentum, state.statistics, state.network_digest, {"by": "me"}))

    assert dict(runtime.state.metadata) == {"by": "me"}


def test_a_state_of_another_network_is_refused_and_the_own_one_stays(load, tiny):
    runtime = load("running")
    runtime(tiny.floats())
    before = runtime.state
    foreign = AdaptState(before.parameters, before.momentum, before.statistics, "ab" * 32)

    with pytest.raises(
        InputFileError, match=r"belongs to network abababababab, and the bundle .*tiny\.running\.ecotta"
    ):
        runtime.restore(foreign)

    assert_equal(runtime.state, before)


def test_a_state_with_something_missing_is_refused_and_the_own_one_stays(load, tiny):
    runtime = load("running")
    before = runtime.state
    lacking = {name: array for name, array in before.momentum.items() if name != "groups.1.conv.weight"}
    other = {name: array + 1 for name, array in before.parameters.items()}

    with pytest.raises(InputFileError, match="momentum/groups.1.conv.weight: the state lacks it"):
        runtime.restore(AdaptState(other, lacking, before.statistics, before.network_digest))

    assert_equal(runtime.state, before)


# Loading


def test_without_a_wish_the_smallest_batch_is_taken(tiny):
    runtime = Runtime.load(tiny.bundle("running"))

    assert (runtime.batch, runtime.graph) == (1, "step-1")
    assert runtime.frame_size == (8, 8)
    assert runtime.class_names == ("ant", "bee", "cat", "dog", "elk")


def test_what_a_bundle_has_no_graph_for_is_refused(load, subtests):
    for normalisation, keywords, match in [
        ("running", {"batch": 3}, r"batch=3: .* has steps for \[1, 4\] frames; export it again"),
        ("batch", {"batch": 1}, r"batch=1: .* has steps for \[4\] frames"),
        ("batch", {"frame_by_frame": True}, "no graph that learns frame by frame; export it with --frame-by-frame"),
        ("running", {"frame_by_frame": True, "batch": 0}, "batch=0: give 1 or more"),
        ("running", {"device": "raspbery-pi-5-8gb"}, "raspberry-pi-5-8gb"),
        ("running", {"threads": 0}, "threads=0: give a number from 1 to"),
    ]:
        with subtests.test(normalisation=normalisation, **keywords), pytest.raises(UsageError, match=match):
            load(normalisation, **keywords)


def recording(opened):
    def record(bundle, graph, options, **keywords):
        opened.append(graph)
        return open_session(bundle, graph, options, **keywords)

    return record


def test_a_runtime_that_does_not_learn_loads_no_graph_that_does(load, tiny, monkeypatch):
    opened = []
    monkeypatch.setattr("ecotta_rt.session.graph_run.open_session", recording(opened))
    runtime = load("running", adapt=False)

    prediction = runtime.predict(tiny.floats())

    assert opened == ["observe-4"]
    assert prediction.why == "off"
    assert runtime.graph is None
    with pytest.raises(UsageError, match="loaded with adapt=False; call predict"):
        runtime(tiny.floats())


def test_answering_needs_no_graph_that_learns(tiny):
    """A bundle that was made for a small device may have left it out."""
    bundle = read_bundle(tiny.bundle("running"))
    bundle.manifest = replace(bundle.manifest, graphs=tuple(g for g in bundle.manifest.graphs if "step" not in g.kind))

    assert Runtime(bundle, batch=4, adapt=False).predict(tiny.floats()).why == "off"
    assert Runtime(bundle, adapt=False).batch == 1
    with pytest.raises(UsageError, match="has steps for no frames"):
        Runtime(bundle, batch=4)


def test_a_state_is_restored_from_its_file_too(tiny, tmp_path):
    runtime = Runtime.load(tiny.bundle("running"), batch=4)
    runtime(tiny.frames())
    runtime.save_state(tmp_path / "s")
    learned = runtime.state
    runtime.reset()

    runtime.restore(str(tmp_path / "s"))

    assert not any(learned.compare(runtime.state).values())
    with pytest.raises(InputFileError, match="nowhere: cannot be read"):
        runtime.restore(tmp_path / "nowhere")


def test_a_folder_is_no_bundle_and_called_a_folder(tmp_path):
    with pytest.raises(InputFileError, match="it is a folder, not a regular file"):
        Runtime.load(tmp_path)


def test_a_bundle_is_found_again_when_the_working_folder_has_changed(tiny, monkeypatch):
    path = tiny.bundle("source")
    monkeypatch.chdir(path.parent)

    runtime = Runtime.load(path.name)
    monkeypatch.chdir("/")

    assert runtime(tiny.floats(1)).why == "adapted"
    assert runtime.predict(tiny.floats(1)).why == "off", "whose graph is opened only now"


WATCH = """
schema = 1
id = "watch"
name = "A watch"
host = "python"
notes = []
ram_bytes = { value = 67_108_864, mark = "estimated", source = "us" }
default_limit_bytes = { value = 33_554_432, mark = "estimated", source = "us" }
cores = { value = 1, mark = "estimated", source = "us" }
cpu = { value = "one core", mark = "estimated", source = "us" }
isa = { value = ["neon"], mark = "estimated", source = "us" }
wheels = { value = "stock", mark = "estimated", source = "us" }

[sources]
us = "made up for a test"
"""


@pytest.fixture
def small_device(tmp_path):
    """A profile of a device with one core and 32 MiB for a process."""
    path = tmp_path / "watch.toml"
    path.write_text(WATCH, encoding="utf-8")
    assert load_device(str(path)).default_limit_bytes == 32 << 20
    return str(path)


def test_what_the_device_has_no_room_for_is_refused_before_anything_is_loaded(load, small_device, monkeypatch):
    monkeypatch.setattr("ecotta_rt.session.graph_run.open_session", lambda *_: pytest.fail("a graph was loaded"))

    with pytest.raises(BudgetExceeded, match=r"watch allows 32 MiB, .* needs \d+ MiB") as caught:
        load("running", device=small_device)

    assert caught.value.exit_code == 3
    assert caught.value.limit_bytes == 32 << 20 < caught.value.need_bytes
    assert caught.value.largest_tenant


@pytest.mark.parametrize(
    ("keywords", "graph"),
    [({"adapt": False}, "observe-"), ({"frame_by_frame": True}, "accumulate and update"), ({}, "step-4")],
)
def test_a_refusal_names_the_graphs_that_were_asked_for(load, small_device, keywords, graph):
    with pytest.raises(BudgetExceeded, match=f"the smallest way to run this bundle \\({graph}"):
        load("running", device=small_device, **keywords)


def test_a_device_chooses_how_the_bundle_is_run(load, tiny):
    runtime = load("running", device="raspberry-pi-zero-2w")

    assert runtime.graph == "step-4"
    assert replace(runtime.session_options, ceiling_bytes=None) == SessionOptions(threads=2, optimisation="extended")
    assert 0 < runtime.session_options.ceiling_bytes < load_device("raspberry-pi-zero-2w").default_limit_bytes
    assert runtime(tiny.frames()).why == "adapted"


def test_options_that_are_given_are_kept_to_on_a_device(load):
    options = SessionOptions(threads=1, memory="returning")

    chosen = load("source", device="this-machine", options=options).session_options

    assert replace(chosen, ceiling_bytes=None) == options
    with pytest.raises(UsageError, match="no graph for what was asked for together"):
        load("running", device="this-machine", fast=True)


@pytest.mark.parametrize("adapt", [True, False])
def test_frame_by_frame_on_a_device_needs_no_number_of_frames(load, adapt):
    runtime = load("running", batch=None, frame_by_frame=True, adapt=adapt, device="raspberry-pi-zero-2w")

    assert (runtime.batch, runtime.graph) == (1, "accumulate" if adapt else None)


def test_a_bundle_without_figures_cannot_be_planned_for_a_device(checkout):
    first = checkout / "tests" / "hostile" / "first-version.ecotta"

    with pytest.raises(UsageError, match="made without figures .* or name no device"):
        Runtime.load(first, device="raspberry-pi-zero-2w")


def test_a_device_bounds_the_threads(load):
    assert load("running", device="raspberry-pi-zero-2w", threads=8).session_options.threads == 4
    assert load("running", threads=2).session_options.threads == 2
