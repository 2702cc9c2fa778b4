"""What a process has before any bundle is there: measured, in one that does what a device's does.

    start a process  ->  import what the runtime imports  ->  open and run the smallest graph  ->  VmRSS after each

Part of `verify`, which see.
"""

import functools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto, helper

__all__ = ["ProcessStart", "measure_start"]

_SCRIPT = """\
import sys
def resident():
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
sys.path.insert(0, sys.argv[1])
import numpy
import onnxruntime
import ecotta_rt.runtime.engine
imported = resident()
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = 1
graph = sys.stdin.buffer.read()
session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"], enable_fallback=0)
session.run(None, {"x": numpy.zeros(1, numpy.float32)})
print(imported, resident())
"""


@dataclass(frozen=True)
class ProcessStart:
    """Resident memory of a process that has done nothing for us yet."""

    imports_bytes: int  # with interpreter, numpy, onnxruntime and the engine loaded
    started_bytes: int  # with a graph of one operator opened and run, too: onnxruntime sets itself up at the first one


@functools.cache
def measure_start() -> ProcessStart:
    """Measure it on this machine, once."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "smallest", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    command = [sys.executable, "-P", "-c", _SCRIPT, str(Path(__file__).resolve().parents[2])]
    done = subprocess.run(command, input=model.SerializeToString(), capture_output=True, check=True)
    return ProcessStart(*map(int, done.stdout.split()))
