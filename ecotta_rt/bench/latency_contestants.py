"""Who takes part in a race: methods, engines and normalisations for one batch size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecotta_rt.bench.graph_use import graph_use
from ecotta_rt.bench.peers import METHODS, expand
from ecotta_rt.errors import UsageError

__all__ = ["FORWARD", "LATENCY_METHODS", "Contestant", "check_latency_methods", "line_up"]

FORWARD = "forward"
"""Inference alone, the denominator of every race."""

_FAST = "-fast"

LATENCY_METHODS = ("ecotta-k4", "ecotta-k4-fast", "tent", "cotta")
"""Who races when nobody chooses; `forward` always does."""

_TIMED_WITH_ONE_FRAME = ("tent", "tent-episodic", "cotta", "source")
"""Torch methods whose step can be timed with one frame; where its statistics are the batch's, its answers are worth
nothing then."""

_FEW_ROUNDS = {"cotta": 2}
"""Turns of methods whose single step takes longer than a round of all others."""


@dataclass(frozen=True)
class Contestant:
    """One process of a race.

    Attributes:
        name: What its row is called: a method id, perhaps with `-fast`, or `forward`.
        engine: `torch` or `onnx`.
        normalisation: What EcoTTA is asked to use; the peers have their own.
    """

    name: str
    engine: str
    normalisation: str

    @property
    def method(self) -> str:
        """Its method id; `source` for `forward`."""
        return "source" if self.name == FORWARD else self.name.removesuffix(_FAST)

    @property
    def fast(self) -> bool:
        """Whether it runs the step of more memory and less time."""
        return self.name.endswith(_FAST)

    @property
    def from_bundle(self) -> bool:
        """Whether its graph comes from a bundle."""
        return self.engine == "onnx" and self.name != FORWARD

    @property
    def label(self) -> str:
        """For people: `onnx ecotta-k4 running`."""
        return f"{self.engine} {self.name}" + (f" {self.normalisation}" if self.from_bundle else "")

    def rounds(self, asked: int) -> int:
        """How many turns it has in a race of so many rounds."""
        return min(asked, _FEW_ROUNDS.get(self.method, asked))


def check_latency_methods(names: Sequence[str]) -> tuple[str, ...]:
    """What a user wrote, each once; the usual ones where it is nothing. `forward` may be named and always runs.

    Raises:
        UsageError: An unknown name, a method that cannot be timed alone, or `-fast` after one without a step in onnx.
    """
    chosen = dict.fromkeys(names or LATENCY_METHODS)
    chosen.pop(FORWARD, None)
    for name in chosen:
        (method,) = expand([name.removesuffix(_FAST)]) if name != "all" else (name,)
        if method == "all":
            raise UsageError("--methods all: a race of all methods would not end; name those that are to be timed")
        if "source_frames" in METHODS[method].takes:
            raise UsageError(f"--methods {name}: its time depends on the frames it chooses; use ecotta-bench --memory")
        use = graph_use(method)
        if name.endswith(_FAST) and (use is None or use.kind != "step"):
            raise UsageError(f"--methods {name}: {method} has no graph of a step, so no fast one")
    return tuple(chosen)


def line_up(names: Sequence[str], batch: int, normalisations: Sequence[str]) -> tuple[list[Contestant], dict[str, str]]:
    """The contestants of a race, in the order in which they take turns.

    Args:
        names: From `check_latency_methods`.
        batch: Frames a step.
        normalisations: Those that EcoTTA is timed in, as far as `batch` allows.

    Returns:
        The contestants, and those that cannot run with that many frames, by label with the reason.
    """
    modes = [mode for mode in normalisations if mode != "batch" or batch > 1]
    contestants, left_out = [Contestant(FORWARD, "onnx", "source")], dict[str, str]()
    for name in names:
        for contestant in _of(name, modes):
            if contestant.engine == "torch" and batch == 1 and not _takes_one_frame(contestant):
                left_out[f"{contestant.label}, batch 1"] = "it uses the statistics of the batch"
            else:
                contestants.append(contestant)
    # All that runs in onnxruntime first: neighbours in time are compared most closely.
    return sorted(contestants, key=lambda contestant: contestant.engine), left_out


def _of(name: str, modes: Sequence[str]) -> Iterator[Contestant]:
    use = graph_use(name.removesuffix(_FAST))
    if use is None or use.kind == "forward":
        yield Contestant(name, "torch", "batch")
        return
    own = [mode for mode in modes if mode == "batch"] if use.gradient == "constant" else modes
    yield from (Contestant(name, "onnx", mode) for mode in own)
    if own and not name.endswith(_FAST):
        # One mode will do: the paper's where it can be had, that for single frames where not.
        yield Contestant(name, "torch", min(own, key=("batch", "running", "source").index))


def _takes_one_frame(contestant: Contestant) -> bool:
    entry = METHODS[contestant.method]
    if "warmed" in entry.takes:
        return contestant.normalisation != "batch"
    return contestant.method in _TIMED_WITH_ONE_FRAME
