"""Who takes part in a race: methods, engines and normalisations for one batch size."""

from collections.abc import Iterator, Sequence

from ecotta_rt.bench.case import FORWARD, Case
from ecotta_rt.bench.peers import METHODS, expand
from ecotta_rt.errors import UsageError

__all__ = ["LATENCY_METHODS", "check_latency_methods", "line_up"]

_FAST = "-fast"

LATENCY_METHODS = ("ecotta-k4", "ecotta-k4-fast", "tent", "cotta")
"""Who races when nobody chooses; `forward` always does."""

_TIMED_WITH_ONE_FRAME = ("tent", "tent-episodic", "cotta")
"""Torch methods of batch statistics whose step can be timed with one frame; its answers are worth nothing then."""


def check_latency_methods(names: Sequence[str]) -> tuple[str, ...]:
    """What a user wrote, each once; the usual ones where it is nothing. `forward` may be named and always runs.

    Raises:
        UsageError: An unknown name, a method that cannot be timed alone, or `-fast` after one without a step in onnx.
    """
    chosen = dict.fromkeys(names or LATENCY_METHODS)
    chosen.pop(FORWARD, None)
    for name in chosen:
        if name.removesuffix(_FAST) == "all":
            raise UsageError("--methods all: a race of all methods would not end; name those that are to be timed")
        (method,) = expand([name.removesuffix(_FAST)])
        if METHODS[method].untimed is not None:
            raise UsageError(f"--methods {name}: {METHODS[method].untimed}; use ecotta-bench --memory")
        if name.endswith(_FAST) and (METHODS[method].graph != "step" or "warmed" not in METHODS[method].takes):
            raise UsageError(f"--methods {name}: {method} has no graph of a step, so no fast one")
    return tuple(chosen)


def line_up(
    names: Sequence[str], batch: int, threads: int, normalisations: Sequence[str]
) -> tuple[list[Case], dict[str, str]]:
    """The contestants of a race, in the order in which they take turns.

    Args:
        names: From `check_latency_methods`.
        batch: Frames a step.
        threads: Of each process.
        normalisations: Those that EcoTTA is timed in, as far as `batch` allows.

    Returns:
        The contestants, and those that cannot run with that many frames, by label with the reason.
    """
    modes = [mode for mode in normalisations if mode != "batch" or batch > 1]
    cases, left_out = [Case("source", "onnx", batch, threads, "source", timed=True)], dict[str, str]()
    for name in names:
        method, fast = name.removesuffix(_FAST), name.endswith(_FAST)
        for engine, mode in _engines_and_modes(method, fast, modes):
            case = Case(method, engine, batch, threads, mode, timed=True, fast=fast)
            if engine == "torch" and batch == 1 and not _takes_one_frame(case):
                left_out[f"{case.label}, batch 1"] = "it uses the statistics of the batch"
            else:
                cases.append(case)
    # All that runs in onnxruntime first: neighbours in time are compared most closely.
    return sorted(cases, key=lambda case: case.engine), left_out


def _engines_and_modes(method: str, fast: bool, modes: Sequence[str]) -> Iterator[tuple[str, str]]:
    entry = METHODS[method]
    if "warmed" not in entry.takes:
        yield "torch", "batch"
        return
    constant = entry.fixed.get("frozen_gradient") == "constant"
    own = [mode for mode in modes if mode == "batch" or not constant]
    if entry.follows:
        yield from (("onnx", mode) for mode in own if mode == "running")
        return
    yield from (("onnx", mode) for mode in own)
    if own and not fast:
        # One mode will do: the paper's where it can be had, that for single frames where not.
        yield "torch", min(own, key=("batch", "running", "source").index)


def _takes_one_frame(case: Case) -> bool:
    if "warmed" in METHODS[case.method].takes:
        return case.normalisation != "batch"
    return METHODS[case.method].one_by_one or case.method in _TIMED_WITH_ONE_FRAME
