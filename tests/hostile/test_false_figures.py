"""Bundles that need far more memory than they say: the step fails in a sentence, and the kernel has nothing to kill."""

import hashlib
import json
import subprocess
import sys

import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import InputFileError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, INT64, FLOAT = onnx.helper, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT

MIB = 1 << 20
HOG_MIB = 1000  # what the graph takes, beside a few kilobytes that the manifest tells of
LIMIT_MIB = 200

PROCESS = f"""
import json, sys
import numpy as np
from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.runtime.engine import Runtime
runtime = Runtime.load(sys.argv[1], memory_limit_bytes={LIMIT_MIB} << 20)
before, frames = runtime.state, np.full((2, 4, 4, 3), 200, np.uint8)
told = []
for ask in (runtime, lambda frames: runtime.predict(frames, hold_statistics=True)):
    try:
        told.append(ask(frames).why)
    except BudgetExceeded as error:
        told.append([str(error), error.need_bytes, error.limit_bytes, error.largest_tenant])
same = {{distance for name, distance in runtime.state.compare(before).items() if not name.startswith("adaptation/")}}
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps([told, list(same), int(peak[0]) // 1024]))
"""


def hog(parts, name):
    """Let a graph fill a tensor of a shape that nobody can see before it runs, and add nothing of it to the answer."""
    model = onnx.ModelProto.FromString(parts.members[f"graphs/{name}.onnx"])
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
        node.input[:] = ["before" if name == "logits" else name for name in node.input]
    for constant, numbers in (("many", [HOG_MIB << 18]), ("one", [1]), ("start", [0]), ("axis", [0])):
        graph.initializer.append(helper.make_tensor(constant, INT64, [1], numbers))
    graph.initializer.append(helper.make_tensor("zero", FLOAT, [], [0.0]))
    graph.node.extend(
        [
            helper.make_node("Slice", ["parameters", "start", "one", "axis"], ["number"]),
            helper.make_node("Expand", ["number", "many"], ["hog"]),
            helper.make_node("ReduceSum", ["hog"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
            helper.make_node("Add", ["before", "nothing"], ["logits"]),
        ]
    )
    parts.replace_graph(name, model.SerializeToString())
    next(graph for graph in parts.manifest["graphs"] if graph["name"] == name)["nodes"] += 5


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_step_that_needs_more_than_the_limit_fails_in_a_sentence_and_leaves_the_state(parts):
    hog(parts, "step-2")

    done = run("-c", PROCESS, parts.pack())

    assert (done.returncode, done.stderr) == (0, "")
    (step, answer), difference, peak_mib = json.loads(done.stdout)
    message, need_bytes, limit_bytes, tenant = step
    assert f"graph 'step-2': needs {HOG_MIB}.0 MiB more for a result of Expand; the limit leaves" in message
    assert need_bytes == HOG_MIB * MIB > LIMIT_MIB * MIB > limit_bytes
    assert tenant == "a result of Expand"
    assert (answer, difference) == ("off", [0.0])
    assert peak_mib < LIMIT_MIB


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.ppm").write_bytes(b"P6 4 4 255 " + bytes(range(48)))
    return folder


def ecotta_run(bundle, pictures, *options):
    code = "import sys; from ecotta_rt.cli.main import main; sys.exit(main())"
    return run("-c", code, "run", bundle, pictures, "--no-state", *options)


def test_the_guard_steps_down_and_every_frame_is_answered(parts, pictures):
    hog(parts, "step-2")

    done = ecotta_run(parts.pack(), pictures, "--memory-limit", f"{LIMIT_MIB}MiB")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [(line["from"], line["to"], line["why"]) for line in lines if "event" in line] == [
        ("full", "statistics", "limit")
    ]
    assert [line["frame"] for line in lines if "label" in line] == list(range(6))


def test_where_no_graph_can_be_run_frames_are_refused_and_nothing_is_killed(parts, pictures):
    hog(parts, "step-2")
    hog(parts, "predict-2")
    hog(parts, "observe-2")

    done = ecotta_run(parts.pack(), pictures, "--memory-limit", f"{LIMIT_MIB}MiB")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3  # a run that memory let no frame into
    assert "give more memory" in done.stderr
    assert [line["to"] for line in lines if "event" in line] == ["statistics", "inference", "drop"]
    assert not [line for line in lines if "label" in line]


def test_without_a_guard_the_run_ends_with_the_sentence(parts, pictures):
    hog(parts, "step-2")
    parts.manifest["graphs"][1]["sessions"][0]["optimisation"] = "extended"  # that of devices with an Arm processor

    done = ecotta_run(parts.pack(), pictures, "--device", "raspberry-pi-zero-2w", "--guard", "off")

    assert done.returncode == 3
    assert "needs 1000.0 MiB more" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("figure", "reason"),
    [
        ("step_peak_bytes", "step_peak_bytes = 1, and the tensor 'large' alone take 400000 bytes"),
        ("live_bytes", "all: live_bytes = 1, and the tensor 'large' alone take 400000 bytes"),
    ],
)
def test_figures_that_a_look_at_the_graph_contradicts_are_refused(parts, figure, reason):
    model = onnx.ModelProto.FromString(parts.members["graphs/step-2.onnx"])
    model.graph.node.append(helper.make_node("Neg", ["logits"], ["large"]))
    model.graph.value_info.append(helper.make_tensor_value_info("large", FLOAT, [100, 1000]))
    parts.replace_graph("step-2", model.SerializeToString())
    entry = parts.manifest["graphs"][1]
    enough = {"live_bytes": 1 << 20, "arena_bytes": 1}
    entry |= {"nodes": entry["nodes"] + 1, "step_peak_bytes": 1 << 20}
    entry["sessions"][0] |= enough

    assert read_bundle(parts.pack()).graph("step-2")
    (entry if figure == "step_peak_bytes" else entry["sessions"][0])[figure] = 1
    with pytest.raises(InputFileError, match=reason):
        read_bundle(parts.pack()).graph("step-2")


def test_weights_that_are_far_more_than_the_manifest_says_are_refused(parts):
    model = onnx.ModelProto.FromString(parts.members["graphs/step-2.onnx"])
    entries = parts.manifest["weights"]
    content = bytearray(parts.members["weights.bin"])
    large = {"name": "large", "shape": [50_000], "offset": len(content) + -len(content) % 64}
    content += bytes(large["offset"] - len(content) + 200_000)
    entries.append(large)
    parts.members["weights.bin"] = bytes(content)
    parts.manifest |= {"weights_bytes": len(content), "weights_sha256": hashlib.sha256(content).hexdigest()}
    tensor = onnx.TensorProto(name="large", data_type=FLOAT, dims=[50_000], data_location=1)
    for key, value in (("location", "weights.bin"), ("offset", large["offset"]), ("length", 200_000)):
        tensor.external_data.add(key=key, value=str(value))
    model.graph.initializer.append(tensor)
    parts.replace_graph("step-2", model.SerializeToString())

    with pytest.raises(
        InputFileError, match="copied_bytes . mapped_bytes = 32, and its weights alone take 200032 bytes"
    ):
        read_bundle(parts.pack()).graph("step-2")


def test_a_limit_that_is_large_enough_changes_nothing(parts):
    script = PROCESS.replace(f"{LIMIT_MIB} << 20", "1 << 40")

    (step, answer), _, _ = json.loads(run("-c", script, parts.pack()).stdout)

    assert (step, answer) == ("adapted", "off")
