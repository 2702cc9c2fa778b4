import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from ecotta_rt.options import SessionOptions
from ecotta_rt.session.give_back import SMALLEST_GRAPH, give_back_memory

# A process of its own. A small graph takes the first region of the shared arena, which may stay; a graph that needs
# 128 MiB more is closed.
FILL_AND_GIVE_BACK = """
import sys
import numpy as np, onnxruntime as ort
from onnx import TensorProto, helper
from ecotta_rt.machine.process_memory import held_memory
from ecotta_rt.session.give_back import SMALLEST_GRAPH, give_back_memory
from ecotta_rt.session.opening import session_settings
from ecotta_rt.options import SessionOptions

nodes = [helper.make_node("Expand", ["x", "shape"], ["large"]), helper.make_node("ReduceMax", ["large"], ["y"])]
value = helper.make_tensor_value_info
size = helper.make_tensor("shape", TensorProto.INT64, [1], [32 << 20])
graph = helper.make_graph(nodes, "g", [value("x", 1, [1])], [value("y", 1, [1])], [size])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
options = SessionOptions()
settings = session_settings(options, int(sys.argv[1]))
assert settings.get_session_config_entry("session.use_env_allocators") == "1"
for content in (SMALLEST_GRAPH, model.SerializeToString()):
    session = ort.InferenceSession(content, settings, ["CPUExecutionProvider"])
    session.run(None, {"x": np.ones(1, np.float32)})
    del session
held = held_memory().pss_bytes
give_back_memory(options)
print(held - held_memory().pss_bytes)
"""


@pytest.mark.parametrize("frames", [1, 64], ids=["by request", "doubling"])
def test_the_arena_of_a_closed_session_goes_back_to_the_system(frames):
    command = [sys.executable, "-c", FILL_AND_GIVE_BACK, str(frames)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert int(done.stdout) > 120 << 20


def test_the_graph_that_asks_for_it_is_a_model_that_gives_back_its_number():
    onnx.checker.check_model(onnx.load_model_from_string(SMALLEST_GRAPH))
    session = ort.InferenceSession(SMALLEST_GRAPH, providers=["CPUExecutionProvider"])

    assert session.run(None, {"x": np.float32([7.5])}) == [np.float32([7.5])]


def test_without_an_arena_only_the_heap_is_trimmed(monkeypatch):
    monkeypatch.setattr("ecotta_rt.session.give_back._shrink_arena", lambda options: 1 / 0)

    give_back_memory(SessionOptions(memory="returning"))


def test_an_arena_that_cannot_be_shrunk_is_no_error(monkeypatch):
    monkeypatch.setattr("ecotta_rt.session.give_back._shrink_arena", lambda options: 1 / 0)

    give_back_memory(SessionOptions())
