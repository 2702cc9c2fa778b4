"""Bundles are written and read; the small one in tests/hostile/ is also what the hostile tests damage."""

import hashlib
import importlib.util
import io
import json
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.bundle import (
    ArrayShape,
    FrameSpec,
    GraphFacts,
    Manifest,
    StateLayout,
    place_weights,
    read_bundle,
    write_bundle,
)
from ecotta_rt.bundle.figures import SessionFigures, Tenant
from ecotta_rt.bundle.ports import MethodPorts, ReportPort, StateVector
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.stored_zip import NewMember, checksum, read_directory, write_stored_zip
from ecotta_rt.state import AdaptState


@pytest.fixture
def small(checkout):
    return checkout / "tests" / "hostile" / "small.ecotta"


@pytest.fixture
def parts(small):
    """What `write_bundle` was given to make the small bundle."""
    return parts_of(read_bundle(small))


def parts_of(bundle):
    manifest = bundle.manifest
    facts = ("made_with", "model", "network_digest", "classes", "parts", "frame", "normalisation", "options", "layout")
    return {
        **{name: getattr(manifest, name) for name in (*facts, "metadata")},
        "graphs": {
            graph.name: (
                GraphFacts(
                    graph.kind,
                    graph.batch,
                    graph.activation_bytes,
                    graph.step_peak_bytes,
                    graph.variant,
                    graph.sessions,
                ),
                bundle.graph(graph.name),
            )
            for graph in manifest.graphs
        },
        "weights": dict(bundle.weights()),
        "state": bundle.initial_state(),
    }


OLD = ("first-version", "second-version", "third-version", "fourth-version")


@pytest.mark.parametrize(("name", "version"), [(name, place + 1) for place, name in enumerate(OLD)])
def test_a_bundle_of_an_older_version_is_read_for_ever(small, name, version):
    old = small.with_name(f"{name}.ecotta")

    manifest = read_bundle(old).manifest

    with zipfile.ZipFile(old) as archive:
        assert json.loads(archive.read("manifest.json"))["version"] == version
    now = read_bundle(small).manifest
    frame = now.frame if version > 2 else FrameSpec(3, 4, 4, "cover", 1.0)
    graphs, method = manifest.graphs, MethodPorts.of_ecotta(1, "running", "tracked")
    digest = manifest.state_sha256
    assert manifest == replace(now, graphs=graphs, frame=frame, method=method, state_sha256=digest)
    assert [(graph.name, graph.kind) for graph in graphs] == [("predict-2", "predict"), ("step-2", "step")]
    assert bool(graphs[1].sessions) == (version > 1)
    assert graphs[0].outputs == (ArrayShape("logits", (2, 2)), ArrayShape("next_statistics", (4,)))
    for graph in graphs:
        read_bundle(old).graph(graph.name)


def test_a_bundle_of_the_fifth_version_is_read_for_ever(small):
    bundle = read_bundle(small)

    manifest = bundle.manifest
    assert manifest.made_with == {"ecotta_rt": "0.1.0", "onnx": "1.23.2", "opset": "18"}
    assert (manifest.model, manifest.parts, manifest.normalisation) == ("tiny", 1, "running")
    assert manifest.classes == ("red", "green")
    assert manifest.frame == FrameSpec(3, 4, 4, "stretch", 0.875)
    assert manifest.options == {"lr": 0.001, "sgd_momentum": 0.9, "nesterov": False, "gradient": "exact"}
    step = manifest.graph("step-2")
    assert (step.kind, step.batch, step.nodes, step.activation_bytes, step.step_peak_bytes) == ("step", 2, 18, 32, 128)
    assert step.variant == {"masks": "bool", "recompute": "none"}
    tenant = Tenant("Conv pick.weight, 2x2x4x4", 256)
    assert step.sessions == (SessionFigures("all", 12, 256, 512, 0, 32, (tenant,)),)
    assert step.inputs[3] == ArrayShape("frames", (2, 3, 4, 4))
    assert step.outputs[4] == ArrayShape("kept", (2,), "bool")
    assert manifest.method == MethodPorts(
        "ecotta",
        state=(
            StateVector("parameters", "learned"),
            StateVector("momentum", "optimiser"),
            StateVector("statistics", "observed"),
        ),
        gradients=("entropy_gradient", "l1_gradient"),
        report=(
            ReportPort("entropy_nats", (), "frame"),
            ReportPort("kept", (), "frame", "bool"),
            ReportPort("l1", (1,), "step"),
        ),
    )
    assert bundle.weights()["pick.bias"].tolist() == [0.5, 0.25]
    assert bundle.initial_state().parameters["group.scale"].tolist() == [1, 2]


def test_a_recipe_and_its_tables_come_back_as_they_were_given(parts, tmp_path):
    recipe = {"statistics": "de-classed", "filter": True, "momentum": 0.01, "views": 2}
    tables = {"rows": np.ones((2, 3), np.float32), "mix": np.arange(4, dtype=np.float16)}

    write_bundle(tmp_path / "n.ecotta", **parts, adaptation=recipe, tables=tables)

    bundle = read_bundle(tmp_path / "n.ecotta")
    assert bundle.manifest.adaptation == recipe
    assert {name: (table.dtype, table.tolist()) for name, table in bundle.tables().items()} == {
        name: (table.dtype, table.tolist()) for name, table in tables.items()
    }
    with pytest.raises(UsageError, match="n.ecotta was not written: .*'rows' is float64"):
        write_bundle(tmp_path / "n.ecotta", **parts, tables={"rows": np.ones(2)})


def test_the_small_bundle_is_what_its_script_makes(small, tmp_path):
    pytest.importorskip("onnx")
    spec = importlib.util.spec_from_file_location("make_small_bundle", small.with_name("make_small_bundle.py"))
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    script.make(tmp_path / "again.ecotta")

    assert (tmp_path / "again.ecotta").read_bytes() == small.read_bytes()


def test_what_is_written_is_what_is_read_and_the_same_bytes_every_time(parts, small, tmp_path):
    manifest = write_bundle(tmp_path / "new folder" / "n.ecotta", **parts)

    assert read_bundle(tmp_path / "new folder" / "n.ecotta").manifest == manifest
    assert (tmp_path / "new folder" / "n.ecotta").read_bytes() == small.read_bytes()


def test_weights_begin_on_a_page_and_arrays_on_a_cache_line(small):
    with zipfile.ZipFile(small) as archive, small.open("rb") as file:
        local = archive.getinfo("weights.bin").header_offset
        file.seek(local + 26)
        name_bytes, extra_bytes = np.frombuffer(file.read(4), "<u2")
    start = local + 30 + int(name_bytes) + int(extra_bytes)

    bundle = read_bundle(small)

    assert start % 4096 == 0
    assert [entry.offset % 64 for entry in bundle.manifest.weights] == [0, 0]
    assert all(array.ctypes.data % 64 == 0 for array in bundle.weights().values())


def test_weights_are_views_of_the_file_that_nobody_can_write_to(parts, tmp_path):
    large = np.zeros((1 << 20, 4), np.float32)
    write_bundle(tmp_path / "n.ecotta", **{**parts, "weights": {**parts["weights"], "large": large}})

    tracemalloc.start()
    try:
        weights = read_bundle(tmp_path / "n.ecotta").weights()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < large.nbytes / 4
    assert weights["large"].shape == large.shape
    with pytest.raises(ValueError, match="read-only"):
        weights["large"][0] = 1
    with pytest.raises(TypeError):
        weights["large"] = large


def test_writing_holds_no_second_copy_of_the_weights(parts, tmp_path):
    large = np.zeros((1 << 20, 4), np.float32)

    tracemalloc.start()
    try:
        write_bundle(tmp_path / "n.ecotta", **{**parts, "weights": {**parts["weights"], "large": large}})
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < large.nbytes / 4


def test_weights_of_any_memory_order_and_size_come_back(parts, tmp_path):
    weights = {
        **parts["weights"],
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "number": np.array(7, np.float32),
        "nothing": np.zeros((0, 3), np.float32),
        "last": np.ones(1, np.float32),
    }
    write_bundle(tmp_path / "n.ecotta", **{**parts, "weights": weights})

    read = read_bundle(tmp_path / "n.ecotta").weights()

    assert list(read) == list(weights)
    assert all(np.array_equal(read[name], weights[name]) for name in weights)
    assert all(read[name].shape == weights[name].shape for name in weights)


def test_any_zip_program_unpacks_it_and_the_stock_onnxruntime_runs_it(small, tmp_path):
    """What docs/bundle-format.md promises a phone: all files in one folder, as `unzip -j` does."""
    onnxruntime = pytest.importorskip("onnxruntime")
    with zipfile.ZipFile(small) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            (tmp_path / name.rpartition("/")[2]).write_bytes(archive.read(name))
    frames = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    bundle = read_bundle(small)
    vectors = bundle.manifest.layout.pack(bundle.initial_state())

    session = onnxruntime.InferenceSession(tmp_path / "predict-2.onnx", providers=["CPUExecutionProvider"])
    fed = dict(zip(("parameters", "momentum", "statistics"), vectors, strict=True))
    (logits,) = session.run(["logits"], {**{i.name: fed.get(i.name, frames) for i in session.get_inputs()}})

    means = frames.mean(axis=(2, 3))[:, :2] + [0.5, 0.25]
    np.testing.assert_allclose(logits, means * [1, 2] + [0, 0.125], rtol=1e-6)


def test_graphs_load_from_memory_but_for_the_fast_one_of_a_single_frame(tiny):
    """The other way of docs/bundle-format.md, and the exception it names: where this fails, the sentence there goes."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tiny.bundle("source")
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("weights.bin")
        graphs = {entry.name: archive.read(entry.member) for entry in read_bundle(path).manifest.graphs}

    def refused(graph):
        settings = onnxruntime.SessionOptions()
        settings.add_external_initializers_from_files_in_memory(["weights.bin"], [weights], [len(weights)])
        try:
            onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph:
            return True
        return False

    assert [name for name, graph in graphs.items() if refused(graph)] == ["step-1-fast"]


def test_without_verification_damaged_weights_are_not_noticed_and_with_it_they_are(small, tmp_path):
    content = small.read_bytes()
    at = content.index(np.array([0.5, 0.25], np.float32).tobytes())
    path = tmp_path / "n.ecotta"
    path.write_bytes(content[:at] + b"\1" + content[at + 1 :])

    assert read_bundle(path, verify=False).weights()
    with pytest.raises(InputFileError, match=r"weights\.bin: its SHA-256 is"):
        read_bundle(path)


def test_an_unknown_graph_is_answered_with_the_known_ones(small):
    with pytest.raises(UsageError, match=r"no graph 'step-3'; did you mean step-2\? It has: predict-2, step-2"):
        read_bundle(small).graph("step-3")


def test_place_weights_puts_each_at_the_next_multiple_of_64():
    entries = place_weights({"a": (3,), "b": (4, 4), "c": (), "d": (2,)})

    assert [(entry.name, entry.offset, entry.bytes) for entry in entries] == [
        ("a", 0, 12),
        ("b", 64, 64),
        ("c", 128, 4),
        ("d", 192, 8),
    ]


def test_what_a_reader_would_refuse_is_not_written(parts, tmp_path, subtests):
    for changes, reason in [
        ({"classes": ("one",)}, "1 classes, expected at least 2"),
        ({"normalisation": "none"}, "expected one of batch, running, source"),
        ({"network_digest": "ab" * 32}, "the state belongs to network"),
        ({"options": {"lr": float("nan")}}, "not JSON compliant"),
        ({"graphs": {}}, "graphs': none"),
        ({"graphs": {"../evil": (GraphFacts("step", 1, 0, 0), None)}}, "no name for a graph"),
        ({"graphs": {"step": (GraphFacts("step", 1, 0, 0), b"PK")}}, "graph 'step'"),
        (
            {"graphs": {"step": (GraphFacts("dance", 1, 0, 0), None)}},
            "expected one of step, predict, observe, accumulate, update",
        ),
        ({"weights": {"w": np.zeros(1)}}, "weight 'w' is float64"),
        ({"weights": {}}, "the manifest lists no weight of that name"),
        ({"weights": {"pick.bias": np.zeros(2, np.float32)}}, "the manifest lists no weight of that name"),
        ({"metadata": {"note": "\x1b[2J"}}, "printable"),
        ({"layout": StateLayout((), ())}, "the layout does not know it"),
    ]:
        with subtests.test(reason):
            for name, (facts, graph) in changes.get("graphs", {}).items():
                changes["graphs"][name] = (facts, parts["graphs"]["step-2"][1] if graph is None else graph)

            with pytest.raises(UsageError, match=reason) as refusal:
                write_bundle(tmp_path / "n.ecotta", **{**parts, **changes})

            assert "was not written" in str(refusal.value)
            assert not list(tmp_path.iterdir())


def test_weights_in_another_order_than_they_were_placed_in_are_refused(parts, tmp_path):
    swapped = dict(reversed(parts["weights"].items()))

    with pytest.raises(UsageError, match=r"'pick\.weight' is float32 \[2, 3, 1, 1\], 24 bytes at 0 of weights.bin"):
        write_bundle(tmp_path / "n.ecotta", **{**parts, "weights": swapped})


def test_a_state_that_diverged_is_not_written(parts, tmp_path):
    bad = {**parts["state"].parameters, "group.scale": np.array([1, np.inf], np.float32)}

    with pytest.raises(UsageError, match="group.scale holds NaN or infinity"):
        write_bundle(tmp_path / "n.ecotta", **{**parts, "state": replace(parts["state"], parameters=bad)})


def test_a_folder_in_the_way_is_told(parts, tmp_path):
    with pytest.raises(UsageError, match="is a folder: name a file in it"):
        write_bundle(tmp_path, **parts)


# The layout of a state.

LAYOUT = StateLayout(
    parameters=(ArrayShape("b", (2, 3)), ArrayShape("a", ()), ArrayShape("c", (0,))),
    statistics=(ArrayShape("n.mean", (2,)),),
)


def state(**changes):
    values = {
        "parameters": {"a": np.array(9, np.float32), "b": np.arange(6, dtype=np.float32).reshape(2, 3)},
        "statistics": {"n.mean": np.array([1, 2], np.float32)},
        "network_digest": "d",
        "metadata": {"seed": "0"},
    }
    values["parameters"]["c"] = np.zeros(0, np.float32)
    values["momentum"] = {name: 2 * array for name, array in values["parameters"].items()}
    return AdaptState(**{**values, **changes})


def test_arrays_are_packed_in_the_layouts_order():
    parameters, momentum, statistics = LAYOUT.pack(state())

    assert (LAYOUT.parameter_count, LAYOUT.statistic_count) == (7, 2)
    assert parameters.tolist() == [0, 1, 2, 3, 4, 5, 9]
    assert momentum.tolist() == [0, 2, 4, 6, 8, 10, 18]
    assert statistics.tolist() == [1, 2]
    assert {vector.dtype for vector in (parameters, momentum, statistics)} == {np.dtype(np.float32)}


def test_unpacking_gives_the_state_back_in_copies():
    vectors = LAYOUT.pack(state())

    unpacked = LAYOUT.unpack(*vectors, "d", {"seed": "0"})
    for vector in vectors:
        vector[:] = -1

    assert set(unpacked.compare(state()).values()) == {0.0}
    assert unpacked.network_digest == "d"
    assert unpacked.metadata == {"seed": "0"}


@given(shapes=st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), max_size=5))
def test_pack_and_unpack_are_inverse(shapes):
    layout = StateLayout(tuple(ArrayShape(f"p{i}", shape) for i, shape in enumerate(shapes)), ())
    vector = np.arange(layout.parameter_count, dtype=np.float32)

    packed = layout.pack(layout.unpack(vector, -vector, np.zeros(0, np.float32), "d"))

    assert np.array_equal(packed[0], vector)
    assert np.array_equal(packed[1], -vector)


def test_a_layout_can_be_taken_from_a_state():
    assert StateLayout.of(state()) == replace(
        LAYOUT, parameters=(LAYOUT.parameters[1], LAYOUT.parameters[0], LAYOUT.parameters[2])
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"momentum": {}}, "momentum/.*: the state lacks it"),
        ({"statistics": {"m": np.zeros(2, np.float32)}}, "statistics/"),
        ({"statistics": {"n.mean": np.zeros(3, np.float32)}}, r"n.mean is float32 \[3\], expected float32 \[2\]"),
        ({"statistics": {"n.mean": np.zeros(2)}}, r"n.mean is float64 \[2\], expected float32 \[2\]"),
    ],
)
def test_a_state_of_another_layout_is_refused(changes, reason):
    with pytest.raises(InputFileError, match=reason):
        LAYOUT.pack(state(**changes))


@pytest.mark.parametrize("vector", [np.zeros(6, np.float32), np.zeros(7), np.zeros((1, 7), np.float32)])
def test_a_vector_of_another_length_or_type_is_a_usage_error(vector):
    with pytest.raises(UsageError, match=r"momentum is float\d\d \[.*\], expected float32 \[7\]"):
        LAYOUT.unpack(np.zeros(7, np.float32), vector, np.zeros(2, np.float32), "d")


# The container.


@given(contents=st.lists(st.binary(max_size=300), min_size=1, max_size=5), alignment=st.sampled_from([1, 4, 64, 4096]))
def test_the_standard_library_reads_the_zips_we_write(contents, alignment):
    file = io.BytesIO()
    members = [
        NewMember(f"m/{i}.x", len(content), checksum([content]), lambda c=content: [c[:7], c[7:]], alignment)
        for i, content in enumerate(contents)
    ]
    write_stored_zip(file, members)

    listed = read_directory(file, "z", max_bytes=1 << 20, max_members=5)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert [archive.read(name) for name in archive.namelist()] == contents
        assert [(info.filename, info.file_size, info.CRC) for info in archive.infolist()] == [
            (member.name, member.size, member.crc32) for member in listed
        ]
    assert all(member.start % alignment == 0 for member in listed)
    assert [file.getvalue()[member.start :][: member.size] for member in listed] == contents


# The manifest.


def test_a_manifest_survives_its_json(small):
    manifest = read_bundle(small).manifest

    assert Manifest.from_json(manifest.to_json(), "m") == manifest
    assert Manifest.from_json(manifest.to_json().encode(), "m").to_json() == manifest.to_json()


def test_digests_in_the_manifest_are_those_of_the_members(small):
    manifest = read_bundle(small).manifest
    with zipfile.ZipFile(small) as archive:
        digests = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}

    assert manifest.weights_sha256 == digests["weights.bin"]
    assert manifest.state_sha256 == digests["state.safetensors"]
    assert {graph.member: graph.sha256 for graph in manifest.graphs}.items() <= digests.items()


def field_names(value):
    """Every key of a parsed manifest, but for the objects whose keys are free."""
    if isinstance(value, list):
        return {name for item in value for name in field_names(item)}
    if not isinstance(value, dict):
        return set()
    free = {"made_with", "options", "metadata", "variant", "adaptation"}
    return {*value} | {name for key, item in value.items() if key not in free for name in field_names(item)}


def test_every_field_of_the_manifest_is_in_the_specification(small, checkout):
    text = (checkout / "docs" / "bundle-format.md").read_text(encoding="utf-8")
    names = field_names(json.loads(read_bundle(small).manifest.to_json()))

    assert {"format", "made_with", "step_peak_bytes", "dtype", "offset", "colour"} <= names
    assert {name for name in names if f"`{name}`" not in text} == set()
