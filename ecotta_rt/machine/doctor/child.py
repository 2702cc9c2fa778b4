"""What the doctor runs in a process of its own, since it may end the process: import the libraries, run a session.

Says `begin STEP` before each step and `end STEP RESULT` after it, so that the last step begun is the one that failed.
"""

import sys

from ecotta_rt.machine.doctor.tiny_graph import ANSWER, FRAMES_SHAPE, tiny_graph

__all__ = ["STEPS", "main"]

STEPS = ("numpy", "safetensors", "onnxruntime", "session", "run", "psutil")
"""psutil comes last: the daemon can do without it, so its failure must not hide the others'."""


def main() -> None:
    """Go through `STEPS`; the argument is the number of threads."""
    threads = int(sys.argv[1])
    _begin("numpy")
    import numpy as np

    _end("numpy", np.__version__)
    _begin("safetensors")
    import safetensors.numpy

    _end("safetensors", safetensors.__version__)
    _begin("onnxruntime")
    import onnxruntime as ort

    _end("onnxruntime", ort.__version__)
    _begin("session")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(tiny_graph(), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    _end("session", threads)
    _begin("run")
    (answer,) = session.run(None, {"frames": np.ones(FRAMES_SHAPE, np.float32)})
    _end("run", float(np.abs(answer - ANSWER).max()))
    _begin("psutil")
    import psutil

    _end("psutil", psutil.virtual_memory().total)


def _begin(step: str) -> None:
    print("begin", step, flush=True)


def _end(step: str, result: object) -> None:
    print("end", step, result, flush=True)


if __name__ == "__main__":
    main()
