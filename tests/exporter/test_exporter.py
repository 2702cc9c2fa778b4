"""A whole bundle of a tiny network: the graphs asked for, of standard operators, over weights that are there once."""

from dataclasses import asdict

import numpy as np
import onnx
import pytest
import torch

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions, GraphRequest, requests_for
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.options import SessionOptions, StepOptions
from ecotta_rt.session.opening import open_session

MODES = ("running", "source", "batch")
CLASSES = ("ant", "bee", "cat", "dog", "elk")


def state_of(network):
    return to_adapt_state(initial_state(network), network.digest())


# What is asked for


def names(*arguments, **keywords):
    return [request.name for request in requests_for(*arguments, **keywords)]


def test_each_batch_size_gets_a_step_and_a_prediction():
    assert names([1, 64], StepOptions(normalisation="source")) == ["step-1", "predict-1", "step-64", "predict-64"]


def test_where_statistics_follow_the_stream_there_is_an_answer_that_observes_it():
    assert names([4], StepOptions(normalisation="running")) == ["step-4", "predict-4", "observe-4"]


def test_the_fast_step_comes_on_top():
    requests = requests_for([4], StepOptions(normalisation="source"), fast=True)

    assert requests[-1] == GraphRequest("step-4-fast", "step", 4, fast=True)
    assert not any(request.fast for request in requests[:-1])


@pytest.mark.parametrize(("batches", "more"), [([4], ["predict-1", "observe-1"]), ([1, 4], [])])
def test_learning_frame_by_frame_needs_two_graphs_and_answers_to_one_frame(batches, more):
    options = StepOptions(normalisation="running", frame_by_frame=True)

    assert names(batches, options)[3 * len(batches) :] == ["accumulate", "update", *more]


@pytest.mark.parametrize("batches", [[], [0], [-1, 2], [4, 4]])
def test_batch_sizes_that_cannot_be_meant_are_refused(batches):
    with pytest.raises(UsageError, match="one or more different sizes, each at least 1"):
        requests_for(batches, StepOptions(normalisation="running"))


def test_one_frame_has_no_batch_statistics():
    with pytest.raises(UsageError, match="one frame's statistics say nothing; choose 'running'"):
        requests_for([1, 64], StepOptions(normalisation="batch"))


# What is made


@pytest.fixture(params=MODES)
def bundle(request, tiny):
    return read_bundle(tiny.bundle(request.param))


def graphs_of(bundle):
    return {entry.name: onnx.load_model_from_string(bundle.graph(entry.name)) for entry in bundle.manifest.graphs}


def test_the_graphs_asked_for_are_in_it(bundle, tiny):
    mode = bundle.manifest.normalisation
    found = {entry.name: (entry.kind, entry.batch) for entry in bundle.manifest.graphs}

    batched = {f"step-{tiny.batch}": ("step", tiny.batch), f"predict-{tiny.batch}": ("predict", tiny.batch)}
    single = {"step-1": ("step", 1), "predict-1": ("predict", 1)}
    by_frame = {"accumulate": ("accumulate", 1), "update": ("update", 1)}
    fast = {"step-1-fast": ("step", 1)} if mode == "source" else {}
    observing = {f"observe-{n}": ("observe", n) for n in (1, tiny.batch)} if mode == "running" else {}
    assert found == (batched if mode == "batch" else {**single, **batched, **by_frame, **fast, **observing})


def test_only_standard_operators_are_in_any_graph(bundle):
    """So that a stock onnxruntime, a browser or a phone runs it."""
    for name, model in graphs_of(bundle).items():
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)], name
        assert {node.domain for node in model.graph.node} == {""}, name
        assert not model.functions and not model.training_info, name
        assert {node.op_type for node in model.graph.node} <= {schema.name for schema in standard_schemas()}, name


def standard_schemas():
    return [schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""]


def initializers(graph):
    """Those of nested graphs too."""
    nested = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [*graph.initializer, *(tensor for inner in nested for tensor in initializers(inner))]


def test_every_graph_passes_the_checker_once_its_weights_are_in_it(bundle):
    weights = bundle.weights()
    for model in graphs_of(bundle).values():
        for tensor in initializers(model.graph):
            if tensor.external_data:
                tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))

        onnx.checker.check_model(model, full_check=True)


def test_inputs_and_outputs_are_those_of_the_state(bundle):
    layout = bundle.manifest.layout
    sizes = {"parameters": layout.parameter_count, "momentum": layout.parameter_count}
    entry = next(graph for graph in bundle.manifest.graphs if graph.kind == "step")

    inputs = {port.name: port.shape for port in entry.inputs}
    outputs = {port.name: (port.shape, port.dtype) for port in entry.outputs}

    n = entry.batch
    observed = bundle.manifest.normalisation == "running"
    vectors = {**sizes, "statistics": layout.statistic_count} if observed else sizes
    assert inputs == {"frames": (n, 3, 8, 8), **{name: (size,) for name, size in vectors.items()}}
    assert outputs == {
        "logits": ((n, 5), "float32"),
        "entropy_nats": ((n,), "float32"),
        "kept": ((n,), "bool"),
        "l1": ((2,), "float32"),
        "moved": ((), "bool"),
        **{f"next_{name}": ((size,), "float32") for name, size in sizes.items()},
        **({"seen": ((n, layout.statistic_count), "float32")} if observed else {}),
    }


def test_the_manifest_says_how_the_step_was_made(bundle, tiny):
    manifest = bundle.manifest

    options = tiny.options(manifest.normalisation, frame_by_frame=manifest.normalisation != "batch")
    assert dict(manifest.options) == {
        key: value for key, value in asdict(options).items() if key != "normalisation" and value is not None
    }
    assert manifest.classes == CLASSES
    assert manifest.parts == 2
    assert manifest.made_with["torch"] == torch.__version__
    assert manifest.made_with["opset"] == "20"
    step = next(graph for graph in manifest.graphs if graph.kind == "step")
    kept = {"kept parts": "0"} if manifest.normalisation == "batch" else {}  # elsewhere nothing is computed again
    assert step.variant == {"favours": "memory", "masks": "bool", **kept}


def test_memory_is_counted_for_each_graph(bundle):
    for entry in bundle.manifest.graphs:
        learns = entry.kind in ("step", "accumulate")
        assert (entry.activation_bytes > 0) == learns
        assert entry.step_peak_bytes > entry.activation_bytes


def test_the_initial_state_is_the_one_given(bundle, tiny):
    assert set(bundle.initial_state().compare(state_of(tiny.network())).values()) == {0.0}


# Weights


def test_equal_weights_are_stored_once_for_all_graphs(bundle):
    contents = [array.tobytes() for array in bundle.weights().values()]

    assert len(set(contents)) == len(contents)
    used = [{t.name for t in model.graph.initializer if t.external_data} for model in graphs_of(bundle).values()]
    assert set.union(*used) == set(bundle.weights())
    predict = next(model for name, model in graphs_of(bundle).items() if name.startswith("predict"))
    assert {t.name for t in predict.graph.initializer if t.external_data} == {
        f"block{block}.conv{i}.weight" for block in (1, 2) for i in (1, 2)
    }


def test_weights_bear_the_names_and_values_of_the_network(bundle, tiny):
    known = {
        name: parameter.detach().numpy()
        for piece in tiny.network().frozen_pieces()
        for name, parameter in piece.named_parameters()
    }

    named = {name: array for name, array in bundle.weights().items() if name in known}
    turned = {name: array for name, array in bundle.weights().items() if name.endswith(".turned")}

    assert len(named) == 4
    for name, array in named.items():
        np.testing.assert_array_equal(array, known[name])
    for name, array in turned.items():
        np.testing.assert_array_equal(array, known[name.removesuffix(".turned")].swapaxes(0, 1)[..., ::-1, ::-1])


# The same every time


def test_equal_input_gives_equal_bytes(tiny, tmp_path):
    heard = []

    def make(path, report=None):
        network = tiny.network()
        export(
            network,
            state_of(network),
            path,
            ExportOptions(model="tiny", classes=CLASSES, step=tiny.options("source")),
            report=report,
        )
        return path.read_bytes()

    first = make(tmp_path / "first.ecotta")
    second = make(tmp_path / "second.ecotta", lambda *said: heard.append(said))

    assert first == second
    assert heard == [("step-1", 0, 2), ("predict-1", 1, 2), ("the plan", 2, 2)]


def test_the_fast_step_is_left_out_where_it_is_no_other(tiny):
    """Of one frame some weights are heavy beside their feature map, of 4 frames none."""
    manifest = read_bundle(tiny.bundle("source")).manifest

    variants = {entry.name: entry.variant["favours"] for entry in manifest.graphs if entry.kind == "step"}

    assert variants == {"step-1": "memory", "step-4": "memory", "step-1-fast": "time"}


def test_a_fast_step_of_a_batch_computes_less_again_and_gives_the_same(tiny, tmp_path):
    network, options = tiny.network(), tiny.options("batch")
    path = tmp_path / "net.ecotta"
    export(
        network,
        state_of(network),
        path,
        ExportOptions(model="tiny", classes=CLASSES, batches=(4,), step=options, fast=True),
    )
    bundle = read_bundle(path)
    plain, fast = (bundle.manifest.graph(name) for name in ("step-4", "step-4-fast"))
    layout = bundle.manifest.layout
    vectors = zip(("parameters", "momentum", "statistics"), layout.pack(bundle.initial_state()), strict=True)
    feeds = {**dict(vectors), "frames": tiny.floats()}

    results = []
    for entry in (plain, fast):
        session = open_session(bundle, entry.name, SessionOptions())
        results.append(session.run(None, {port.name: feeds[port.name] for port in session.get_inputs()}))

    assert (plain.variant["kept parts"], fast.variant["kept parts"]) == ("0", "1")
    assert fast.nodes < plain.nodes and fast.activation_bytes > plain.activation_bytes
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# What is refused


def refused(tiny, tmp_path, error, match, classes=CLASSES, **changes):
    network = tiny.network()
    given = {"state": state_of(network), "path": tmp_path / "n.ecotta", **changes}
    with pytest.raises(error, match=match):
        export(network, **given, options=ExportOptions("tiny", classes=classes, step=tiny.options("source")))
    assert not (tmp_path / "n.ecotta").exists()


@pytest.mark.parametrize("classes", [CLASSES[:2], (*CLASSES, "fox")])
def test_class_names_that_are_not_one_a_logit_are_refused(tiny, tmp_path, classes):
    refused(tiny, tmp_path, UsageError, f"{len(classes)} class names, and the network gives .N, 5.", classes=classes)


def test_a_state_of_another_network_is_refused(tiny, tmp_path):
    refused(tiny, tmp_path, InputFileError, "belongs to network", state=state_of(tiny.network(seed=1)))
