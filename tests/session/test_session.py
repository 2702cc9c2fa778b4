"""How onnxruntime is started on a graph: the options, and what happens when something is in the way."""

import numpy as np
import onnx
import onnxruntime
import pytest

from ecotta_rt.bundle import GraphFacts, read_bundle, write_bundle
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.options import MEMORY_KINDS, OPTIMISATIONS, SessionOptions
from ecotta_rt.session import opening as session_module
from ecotta_rt.session.opening import open_session, session_settings


@pytest.fixture
def bundle(tiny):
    return read_bundle(tiny.bundle("source"))


def answer(bundle, tiny, options=None):
    """Logits of the prediction of one frame."""
    session = open_session(bundle, "predict-1", options or SessionOptions())
    parameters, _, _ = bundle.manifest.layout.pack(bundle.initial_state())
    return session.run(["logits"], {"frames": tiny.floats(1), "parameters": parameters})[0]


@pytest.fixture(autouse=True)
def leave_malloc_alone(monkeypatch):
    """What `memory="returning"` sets holds for the whole process, so also for the tests after these."""
    calls = []
    monkeypatch.setattr(session_module, "_return_freed_memory", lambda: calls.append("asked"))
    return calls


# Options


def test_the_defaults_suit_a_small_device():
    assert SessionOptions().as_json() == {"threads": 1, "optimisation": "all", "memory": "arena"}


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"threads": 0}, "threads=0: give a number from 1 to 1024"),
        ({"optimisation": "most"}, "optimisation='most': choose one of all, extended"),
        ({"memory": "pool"}, "memory='pool': choose one of arena, returning"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(wrong, match):
    with pytest.raises(UsageError, match=match):
        SessionOptions(**wrong)


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
@pytest.mark.parametrize("memory", MEMORY_KINDS)
def test_no_option_changes_the_answer(bundle, tiny, leave_malloc_alone, optimisation, memory):
    expected = answer(bundle, tiny)

    found = answer(bundle, tiny, SessionOptions(optimisation=optimisation, memory=memory))

    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert leave_malloc_alone == (["asked"] if memory == "returning" else [])


def test_options_reach_onnxruntime(bundle):
    found = open_session(bundle, "predict-1", SessionOptions(threads=2, optimisation="extended")).get_session_options()

    assert (found.intra_op_num_threads, found.inter_op_num_threads) == (2, 1)
    assert found.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    assert found.execution_order == onnxruntime.ExecutionOrder.PRIORITY_BASED
    assert not found.enable_mem_pattern
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "0"


# The shared arena


@pytest.mark.parametrize(("frames", "strategy"), [(1, 1), (64, 0)], ids=["by request", "doubling"])
def test_one_arena_is_registered_for_all_sessions(monkeypatch, frames, strategy):
    registered, asked = [], []
    monkeypatch.setattr(session_module, "_shared_arena", "not asked")
    monkeypatch.setattr(onnxruntime, "OrtArenaCfg", lambda wanted: asked.append(wanted))
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", lambda *given: registered.append(given))

    for _ in range(2):
        settings = session_settings(SessionOptions(), frames)
        assert settings.get_session_config_entry("session.use_env_allocators") == "1"

    assert len(registered) == 1
    assert asked == [{"arena_extend_strategy": strategy}]


@pytest.mark.parametrize(("first", "then", "shared"), [(1, 64, False), (64, 1, True), (64, 64, True)])
def test_a_batch_gets_an_arena_of_its_own_where_the_shared_one_grows_by_request(monkeypatch, first, then, shared):
    monkeypatch.setattr(session_module, "_shared_arena", "not asked")
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", lambda *_: None)

    session_settings(SessionOptions(), first)
    settings = session_settings(SessionOptions(), then)

    if shared:
        assert settings.get_session_config_entry("session.use_env_allocators") == "1"
    else:
        with pytest.raises(RuntimeError):  # nobody has set it
            settings.get_session_config_entry("session.use_env_allocators")


def test_an_application_that_has_an_arena_of_its_own_is_no_obstacle(bundle, tiny, monkeypatch):
    def refuse(*_):
        raise RuntimeError("an allocator for this device has already been registered for sharing")

    expected = answer(bundle, tiny)
    monkeypatch.setattr(session_module, "_shared_arena", "not asked")
    monkeypatch.setattr(onnxruntime, "create_and_register_allocator", refuse)

    np.testing.assert_array_equal(answer(bundle, tiny), expected)
    assert session_module._shared_arena == "none"


# Weights


def test_weights_come_from_the_bundle_and_from_no_file_beside_it(tiny, bundle, tmp_path):
    expected = answer(bundle, tiny)
    moved = tmp_path / "Bündel with spaces" / "n.ecotta"
    moved.parent.mkdir()
    moved.write_bytes(bundle.path.read_bytes())
    for name in ("weights.bin", "n.bin"):
        (moved.parent / name).write_bytes(bytes(1 << 20))

    np.testing.assert_array_equal(answer(read_bundle(moved), tiny), expected)


def test_a_link_to_a_bundle_will_do(tiny, bundle, tmp_path):
    """The target has another name in another folder."""
    link = tmp_path / "link.ecotta"
    link.symlink_to(bundle.path)

    np.testing.assert_array_equal(answer(read_bundle(link), tiny), answer(bundle, tiny))


# A file that is replaced while it is open


def replace_bundle(path, content):
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


@pytest.fixture
def own(bundle, tmp_path):
    """A bundle that may be replaced."""
    (tmp_path / "own.ecotta").write_bytes(bundle.path.read_bytes())
    return read_bundle(tmp_path / "own.ecotta")


def test_a_bundle_that_was_replaced_is_not_started(own):
    replace_bundle(own.path, own.path.read_bytes())

    with pytest.raises(InputFileError, match=r"own\.ecotta: was replaced while it was open; load it again"):
        open_session(own, "predict-1", SessionOptions())


def test_a_bundle_that_is_replaced_while_it_starts_is_not_used(own, monkeypatch):
    start = onnxruntime.InferenceSession

    def start_and_replace(*given, **options):
        session = start(*given, **options)
        replace_bundle(own.path, own.path.read_bytes())
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", start_and_replace)

    with pytest.raises(InputFileError, match="was replaced while it was open; load it again"):
        open_session(own, "predict-1", SessionOptions())


def test_a_bundle_that_was_removed_is_not_started(own):
    own.path.unlink()

    with pytest.raises(InputFileError, match="was removed while it was open"):
        open_session(own, "predict-1", SessionOptions())


# What is refused


def test_an_unknown_graph_is_named_with_those_there_are(bundle):
    with pytest.raises(UsageError, match=r"no graph 'step-2'.*did you mean step-\d\? It has: step-1, predict-1"):
        open_session(bundle, "step-2", SessionOptions())


def changed(bundle, path, change):
    """The bundle with one graph of it rewritten by `change`, as a stranger may have made it."""
    manifest = bundle.manifest
    entry = next(graph for graph in manifest.graphs if graph.name == "predict-1")
    model = onnx.load_model_from_string(bundle.graph(entry.name))
    change(model)
    write_bundle(
        path,
        graphs={entry.name: (GraphFacts(entry.kind, entry.batch, 0, 0), model.SerializeToString())},
        weights=dict(bundle.weights()),
        state=bundle.initial_state(),
        **{
            name: getattr(manifest, name)
            for name in ("model", "network_digest", "classes", "parts", "frame", "normalisation", "options", "layout")
        },
    )
    return read_bundle(path)


def wrong_number_of_inputs(model):
    del model.graph.node[-1].input[1:]


def missing_input(model):
    model.graph.node[0].input[0] = "nowhere"


@pytest.mark.parametrize("change", [wrong_number_of_inputs, missing_input])
def test_what_onnxruntime_refuses_is_a_bad_file_and_says_which(bundle, tmp_path, change):
    broken = changed(bundle, tmp_path / "broken.ecotta", change)

    with pytest.raises(
        InputFileError, match=r"broken\.ecotta, graph 'predict-1': onnxruntime 1\.\S+ refuses it: "
    ) as caught:
        open_session(broken, "predict-1", SessionOptions())

    assert len(str(caught.value).splitlines()) == 1


def test_a_weight_that_says_no_offset_is_the_first_of_the_weights_and_not_the_bundles_head(bundle, tiny, tmp_path):
    """A writer may leave an offset of zero out."""

    def leave_out(model):
        for tensor in model.graph.initializer:
            said = [entry for entry in tensor.external_data if (entry.key, entry.value) != ("offset", "0")]
            del tensor.external_data[:]
            tensor.external_data.extend(said)

    rewritten = changed(bundle, tmp_path / "n.ecotta", leave_out)
    tensors = onnx.load_model_from_string(rewritten.graph("predict-1")).graph.initializer
    assert sorted(len(tensor.external_data) for tensor in tensors if tensor.external_data) == [2, 3, 3, 3]

    np.testing.assert_array_equal(answer(rewritten, tiny), answer(bundle, tiny))


@pytest.mark.parametrize(("optimisation", "fused"), [("all", True), ("extended", False)])
def test_products_of_weight_gradients_stay_where_they_were_written(tiny, tmp_path, optimisation, fused):
    """Fused ones would run after all others, and keep what they read alive until then."""
    target = tmp_path / "optimised.onnx"

    open_session(read_bundle(tiny.bundle("batch")), "step-4", SessionOptions(optimisation=optimisation), target)

    operators = {node.op_type for node in onnx.load(target, load_external_data=False).graph.node}
    assert ("FusedMatMul" in operators) is fused
