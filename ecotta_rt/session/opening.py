"""Start onnxruntime on one graph of a bundle, with options chosen by trial on x86-64 for a small process.

What each is worth: benchmarks/measure_sessions.py.

option            value               why
execution order   as written          the exporter writes nodes in an order that keeps few tensors alive
memory pattern    off                 its plan holds twice what the tensors need
arena             by request, or for  few holes: see `ecotta_rt.session.costs.arena_doubles`
                  batches doubling
spinning          off                 idle threads would burn the battery between two frames
weights           mapped              straight from the bundle file, see `ecotta_rt.bundle.relocate`
product fusion    off in "extended"   fused products run late and keep what they read alive
prepacking        off                 it would keep a second copy of the weights of every product

With optimisation "all", the default, onnxruntime lays the weights of convolutions out anew when it loads a graph, which
copies them: all but those that the exporter keeps out of its reach.
"""

import ctypes
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import Bundle
from ecotta_rt.bundle.fixing import with_constants
from ecotta_rt.errors import BudgetExceeded, InputFileError
from ecotta_rt.options import SessionOptions
from ecotta_rt.session.costs import DOUBLING_SLACK, arena_doubles

__all__ = ["first_line", "open_session", "session_settings", "short_of_memory", "trim_heap"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MIB = 1 << 20
# onnxruntime/core/framework/bfc_arena.cc and allocator.cc, 1.31.1
_NO_MEMORY = re.compile(
    r"smaller than requested bytes of (\d+)|Failed to allocate memory for requested buffer of size (\d+)"
)
_AT_NODE = re.compile(r"while running (\w+) node")


def open_session(
    bundle: Bundle,
    graph: str,
    options: SessionOptions,
    optimised: Path | None = None,
    constants: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
) -> Any:
    """An onnxruntime.InferenceSession of one graph.

    Args:
        bundle: Where the graph is.
        graph: Its name.
        options: How to run it.
        optimised: A file for the graph as onnxruntime has optimised it.
        constants: Inputs that shall be constants, see `ecotta_rt.bundle.fixing`.

    Raises:
        UsageError: The bundle has no such graph.
        InputFileError: onnxruntime refuses it, or the bundle file was replaced since it was opened.
        BudgetExceeded: There is no memory for it below the ceiling.
    """
    import onnxruntime as ort

    entry = bundle.manifest.graph(graph)
    settings = session_settings(options, frames=1 if entry is None else entry.batch)
    if optimised is not None:
        settings.optimized_model_filepath = str(optimised)
    folder = str(bundle.file.parent)
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    content = bundle.relocated_graph(graph)
    if constants:
        content = with_constants(content, constants)
    # onnxruntime opens the file anew, by its name. Asked on both sides: only so nothing was replaced in between.
    bundle.require_unreplaced()
    try:
        # Its fallback would print a banner to standard output, and try the same again.
        session = ort.InferenceSession(content, settings, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime's errors have no common base
        bundle.require_unreplaced()  # the better reason
        origin = f"{bundle.path}, graph {graph!r}"
        raise short_of_memory(error, origin, options) or InputFileError(
            f"{origin}: onnxruntime {ort.__version__} refuses it: {first_line(error)}"
        ) from error
    bundle.require_unreplaced()
    trim_heap()
    return session


def short_of_memory(error: Exception, origin: str, options: SessionOptions) -> BudgetExceeded | None:
    """What to raise when onnxruntime got no memory for a tensor; None where that was not the reason.

    Args:
        error: What onnxruntime raised.
        origin: Bundle and graph, for the message.
        options: Of the session.
    """
    text = str(error)
    asked = _NO_MEMORY.search(text)
    if asked is None:
        return None
    node = _AT_NODE.search(text)
    tenant = "a tensor" if node is None else f"a result of {node[1]}"
    asked_bytes = int(asked[1] or asked[2])
    ceiling = options.ceiling_bytes
    limit_bytes = asked_bytes if ceiling is None else ceiling
    left = "there is none" if ceiling is None else f"the limit leaves {ceiling / _MIB:.1f} MiB for all tensors"
    return BudgetExceeded(
        f"{origin}: needs {asked_bytes / _MIB:.1f} MiB more for {tenant}; {left}; take fewer frames a step or allow "
        "more. Where `ecotta plan` promised less, the bundle's figures are false",
        need_bytes=max(asked_bytes, limit_bytes + 1),
        limit_bytes=limit_bytes,
        largest_tenant=tenant,
    )


def first_line(error: Exception) -> str:
    """What onnxruntime says, short enough for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def session_settings(options: SessionOptions, frames: int = 1) -> Any:
    """onnxruntime.SessionOptions for a small device, as the table above says, for graphs of so many frames a run."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # what goes wrong is raised; the log would repeat it on standard error
    # The nodes are written in an order that keeps few tensors alive.
    settings.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    settings.enable_mem_pattern = False
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.disable_prepacking", "1")
    if options.optimisation == "extended":
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        # It makes products of the weight gradients anew, and what is made anew runs last: a fifth of the arena at 64
        # frames, for a hundredth of the time. With "all" other nodes are made after them, and nothing is gained.
        settings.add_session_config_entry("optimization.disable_specified_optimizers", "MatmulTransposeFusion")
    if options.memory == "arena" and _shares_arena(ort, arena_doubles(frames), options.ceiling_bytes):
        settings.add_session_config_entry("session.use_env_allocators", "1")
    elif options.memory == "returning":
        settings.enable_cpu_mem_arena = False
        _return_freed_memory()
    return settings


_shared_arena: Literal["doubling", "by request", "none", "not asked"] = "not asked"
_asking = Lock()  # two sessions may be made at the same time


def _shares_arena(ort: Any, doubling: bool, ceiling_bytes: int | None) -> bool:
    """Whether a session may use the arena that is registered for all sessions of the process; the first one makes it.

    False where the application has set one up, and for a graph of a batch where the first session was of single frames:
    an arena of its own grows as onnxruntime's do, by doubling.
    """
    global _shared_arena
    with _asking:
        if _shared_arena == "not asked":
            _shared_arena = _registered_arena(ort, doubling, ceiling_bytes)
    return _shared_arena == "doubling" or (_shared_arena == "by request" and not doubling)


def _registered_arena(ort: Any, doubling: bool, ceiling_bytes: int | None) -> Literal["doubling", "by request", "none"]:
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    growth = {"arena_extend_strategy": 0 if doubling else 1}  # next power of two, or as requested
    if ceiling_bytes is not None:
        growth["max_mem"] = int(ceiling_bytes * (DOUBLING_SLACK if doubling else 1))
    try:
        ort.create_and_register_allocator(info, ort.OrtArenaCfg(growth))
    except Exception:  # an application that embeds us may have its own
        return "none"
    return "doubling" if doubling else "by request"


def trim_heap() -> None:
    """Give back what was freed, some megabytes after loading; without glibc nothing happens."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _return_freed_memory() -> None:
    """Let the C library give every freed tensor back to the system at once; without glibc nothing happens."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _MIB)
        libc.mallopt(_M_TRIM_THRESHOLD, _MIB)
