"""Give memory that nobody uses any more back to the system: onnxruntime's shared arena, and the C library's heap.

The arena that our sessions share (`ecotta_rt.session.opening`) keeps the regions of a closed session. onnxruntime lets
go of them at the end of a run that asks for it, whichever session runs; so a graph of a single node is run, for a
millisecond. A step of 64 frames of WRN-40-2 held 261 MiB: with its session closed 261 were left, after the run 110, and
61 once the heap was trimmed too (x86-64, onnxruntime 1.31.1, an arena that grew by request). Of an arena whose regions
double the first region stays, at least 1 MiB: as much as the first request of all, which in our graphs is small.

Source: onnxruntime, include/onnxruntime/core/session/onnxruntime_run_options_config_keys.h,
memory.enable_memory_arena_shrinkage; malloc_trim(3).
"""

from contextlib import suppress
from typing import Any

from ecotta_rt.options import SessionOptions
from ecotta_rt.session.opening import session_settings, trim_heap

__all__ = ["SMALLEST_GRAPH", "give_back_memory"]

SMALLEST_GRAPH = bytes.fromhex(
    "0808"  # ir_version 8
    "3a37"  # graph
    "0a10" "0a0178" "120179" "22084964656e74697479"  # node: y = Identity(x)
    "120167"  # name: g
    "5a0f0a0178120a0a08080112040a020801"  # input x: float32 [1]
    "620f0a0179120a0a08080112040a020801"  # output y: float32 [1]
    "4204" "0a00" "100d"  # operator set 13
)  # fmt: skip
"""An ONNX model of 65 bytes that gives back the number it is given."""

_SHRINK = ("memory.enable_memory_arena_shrinkage", "cpu:0")


def give_back_memory(options: SessionOptions) -> None:
    """Give back what closed sessions have left.

    Args:
        options: Of the sessions: with memory `returning` there is no arena.
    """
    if options.memory == "arena":
        # Where it fails the memory stays where it is, and the next reading tells.
        with suppress(Exception):  # onnxruntime's errors have no common base
            _shrink_arena(options)
    trim_heap()


def _shrink_arena(options: SessionOptions) -> None:
    import numpy as np
    import onnxruntime as ort

    session: Any = ort.InferenceSession(
        SMALLEST_GRAPH, session_settings(options), providers=["CPUExecutionProvider"], enable_fallback=0
    )
    run_options = ort.RunOptions()
    run_options.add_run_config_entry(*_SHRINK)
    session.run(None, {"x": np.zeros(1, np.float32)}, run_options)
