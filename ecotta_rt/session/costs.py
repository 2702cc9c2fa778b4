"""What a process with onnxruntime takes beside its tensors: every measured constant of plans, sessions and engine.

Measured on x86-64 with Python 3.11, numpy 2.4 and onnxruntime 1.31.1; no board has been measured yet.
benchmarks/results/budgets.json holds planned, verified and measured peaks side by side.
"""

__all__ = [
    "CODE_AT_LOAD_BYTES",
    "CODE_AT_RUN_BYTES",
    "DOUBLING_SLACK",
    "HEAP_HOLES_BYTES",
    "INTERPRETER_BYTES",
    "LAYING_OUT",
    "LIBRARY_BYTES",
    "MARGIN",
    "NODE_BYTES",
    "RETURNING_OVERHEAD",
    "SESSION_BYTES",
    "THREAD_BYTES",
    "TWO_SESSIONS_BYTES",
    "arena_doubles",
    "arena_overhead",
]

_MIB = 1 << 20

# Resident memory of a fresh process (VmRSS):
INTERPRETER_BYTES = int(31.8 * _MIB)  # Python 9, numpy 17.5, this package 3, `ecotta run` 2.3
LIBRARY_BYTES = int(16.7 * _MIB)  # importing onnxruntime, its telemetry off
CODE_AT_LOAD_BYTES = 10 * _MIB  # pages of its code that making a session touches
CODE_AT_RUN_BYTES = int(2.5 * _MIB)  # and that running one adds

# Anonymous memory of a loaded session, over graphs of 391 to 1,775 nodes:
SESSION_BYTES = 1 * _MIB
NODE_BYTES = 5530
THREAD_BYTES = 128 * 1024  # the stack that a worker touches
TWO_SESSIONS_BYTES = 16 * _MIB  # code and nodes of two, where nobody has counted the nodes

# What malloc needs for tensors that are given back one by one: the small ones leave holes in the heap, up to what an
# arena would have.
RETURNING_OVERHEAD = 1.10
HEAP_HOLES_BYTES = 6 * _MIB

# Of the weights that are laid out anew, what is there a second time at the worst moment of loading, by memory kind:
LAYING_OUT = {"arena": 0.97, "returning": 0.5}

# Mapped pages and the heap differ by some per cent from run to run; a plan must not be below any of them.
MARGIN = 0.04

# Regions of double size hold some memory that nobody touches, which a ceiling must not count.
DOUBLING_SLACK = 1.25


def arena_doubles(frames: int) -> bool:
    """Whether the arena of a graph grows in regions of double size, instead of by each request.

    Feature maps of many frames are of few, large sizes. In a region far larger than any of them freed neighbours become
    one, and what is never reached of it is no memory; in regions of one tensor each, every larger tensor needs a new
    one. WRN-40-2, 64 frames: 236 MiB a process against 301 (benchmarks/results/sessions.json). For single frames it is
    the other way round, if at all (WRN-28-10: 352 against 327).

    Args:
        frames: Of a run.
    """
    return frames > 1


def arena_overhead(frames: int) -> float:
    """What malloc takes for an arena, as a multiple of its planned bytes.

    Regions are rounded to pages. Where they double, how tensors come to lie in them depends on the order of requests
    within an operator, which is not known.

    Args:
        frames: Of a run.
    """
    return 1.07 if arena_doubles(frames) else 1.05
