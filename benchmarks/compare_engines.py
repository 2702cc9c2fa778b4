"""Hold the exported step against the torch step that it was traced from, on a corrupted stream.

    python benchmarks/compare_engines.py                                 200 steps in all modes: one and a half hours
    python benchmarks/compare_engines.py --cases running-1 source-1      the quick ones: three minutes
    python benchmarks/compare_engines.py --cases batch-64 --steps 20 --json /tmp/parity.json

Two questions, which must not be mixed up:

    restarted      Both engines start every step from the same state, that of the torch engine. What differs is one
                   step's rounding: logits, parameters and statistics must agree to 1e-5.
    free-running   Each engine goes its own way. Rounding differences grow then, as they do between two torch engines
                   that differ in the memory layout alone; so those two are reported beside each other.

A difference is relative to the section it belongs to: max |a - b| / max |b| over all logits of a step, over all
parameters, over all momentum, over all statistics. Not element by element: a sum of large terms that nearly cancel
keeps their rounding error, so a tiny element has no digits that two engines could agree in, and it carries no weight in
what the network computes either.

The momentum does not always agree to 1e-5, and cannot: gradients pass through the signs of some 300,000 numbers a frame
(ReLUs, L1), and one that is zero but for rounding has another sign in another engine. Where that happens, a gradient
jumps, seldom by more than a thousandth. Two things show that it is only this. With single frames the signs of both
engines are compared as well: where all are the same, the momentum must agree to 1e-5 too (`equal_signs`). And torch's
own float32 step jumps as much and as often against torch in float64, or in another memory layout, from the same state:
`yardsticks` holds these distances.

The network is the embedded WRN-40-2 for Fashion-MNIST with its warmed-up meta groups, K = 4; the stream is the embedded
sample under all 15 corruptions at severity 5. Cases are MODE-BATCH. Each case replaces the one of its name in the file.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from ecotta_rt.adapt.moving import Moving
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.peers.memory_format import to_memory_format
from ecotta_rt.bundle import Bundle, StateLayout, read_bundle
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.stream import open_stream
from ecotta_rt.errors import EcottaError
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.lean import bits
from ecotta_rt.method.state import StepState, to_adapt_state, to_step_state
from ecotta_rt.method.step import Step
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import SessionOptions, StepOptions
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.session.opening import open_session
from ecotta_rt.state import AdaptState

HERE = Path(__file__).parent
NETWORK = HERE / "networks" / "wrn-40-2-fashion-mnist.safetensors"
CASES = ("batch-64", "running-64", "source-64", "running-1", "source-1")
LIMIT = 1e-5
SECTIONS = ("logits", "parameters", "momentum", "statistics")
YARDSTICKS = ("torch to torch in float64", "exported to torch in float64", "torch, channels-last, to torch")
MARKS = (10, 50, 200)
"""Steps after which the drift of the free-running engines is written down."""
YARDSTICK_EVERY = {1: 1, 64: 10}
"""By batch: of how many steps one is run in float64 and in another memory layout as well."""

MOST_FRAMES = 500
"""Of each corruption."""

Floats = NDArray[np.float32]
Frames = Iterator[Floats]


class Taken(NamedTuple):
    """What one step gave."""

    logits: NDArray[Any]  # [N, C]
    kept: NDArray[np.bool_]  # [N]
    state: AdaptState


@dataclass(frozen=True)
class Case:
    """One mode and batch, ready to run.

    Attributes:
        network: Frozen, with its groups.
        options: How it adapts.
        state: Where it starts, the warmed-up state.
        bundle: The same step, exported.
        batch: Frames a step.
    """

    network: AdaptableNetwork
    options: StepOptions
    state: AdaptState
    bundle: Bundle
    batch: int


class ExportedStep:
    """The step graph of a bundle as a function. `Runtime` runs the same session, but hands out no logits.

    Attributes:
        signs: The masks of the last run as bytes, if they are watched: where ReLUs and L1 terms were above zero and
            where below.

    Args:
        bundle: Has a step of that batch.
        batch: Frames a step.
        threads: Of onnxruntime.
        watch_signs: Whether to.
    """

    def __init__(self, bundle: Bundle, batch: int, threads: int = 1, watch_signs: bool = False) -> None:
        entry = next(graph for graph in bundle.manifest.graphs if graph.kind == "step" and graph.batch == batch)
        watched = _Watched(bundle) if watch_signs else bundle
        self._session = open_session(watched, entry.name, SessionOptions(threads=threads))  # type: ignore[arg-type]
        self.signs: set[bytes] = set()
        self._watched = watched.signs if isinstance(watched, _Watched) else []
        self._layout = bundle.manifest.layout
        self._moving = _moving(self._layout, float(bundle.manifest.options["statistics_momentum"]))
        self._inputs = [port.name for port in entry.inputs]
        self._outputs = [port.name for port in entry.outputs]

    def __call__(self, state: AdaptState, frames: Floats) -> Taken:
        parameters, momentum, statistics = self._layout.pack(state)
        feeds = {"frames": frames, "parameters": parameters, "momentum": momentum, "statistics": statistics}
        wanted = [*self._outputs, *self._watched]
        results = dict(zip(wanted, self._session.run(wanted, {n: feeds[n] for n in self._inputs}), strict=True))
        maps = [results[name] for name in self._watched if results[name].ndim == 4]
        self.signs = {np.packbits(where).tobytes() for a in maps for where in (a > 0, a < 0)[: 1 + (a.dtype != bool)]}
        followed = statistics.copy()
        if "seen" in results:
            self._moving(statistics, results["seen"], followed)
        after = self._layout.unpack(
            results["next_parameters"], results["next_momentum"], followed, state.network_digest
        )
        return Taken(results["logits"], results["kept"], after)


def _moving(layout: StateLayout, momentum: float) -> Moving:
    return Moving([(array.name, array.count) for array in layout.statistics], momentum)


class _Watched:
    """A bundle whose graphs give the results of their comparisons with zero as well."""

    def __init__(self, bundle: Bundle) -> None:
        self.path, self.file, self.manifest, self._bundle = bundle.path, bundle.file, bundle.manifest, bundle
        self.signs: list[str] = []

    def relocated_graph(self, name: str) -> bytes:
        model = onnx.load_model_from_string(self._bundle.relocated_graph(name))
        self.signs = [node.output[0] for node in model.graph.node if node.op_type in ("Greater", "Sign")]
        known = {value.name for value in model.graph.output}
        self.signs = [value for value in self.signs if value not in known]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(value) for value in self.signs)
        content: bytes = model.SerializeToString()
        return content

    def require_unreplaced(self) -> None:
        self._bundle.require_unreplaced()


@contextmanager
def _signs_of_torch() -> Iterator[set[bytes]]:
    """Collects the masks that torch steps pack within it, as `ExportedStep.signs`."""
    signs: set[bytes] = set()
    pack: Any = bits._pack_between

    def collect(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
        signs.add(np.packbits(((x > low) & (x < high)).numpy()).tobytes())
        packed: torch.Tensor = pack(x, low, high)
        return packed

    bits._pack_between = collect  # type: ignore[assignment]
    try:
        yield signs
    finally:
        bits._pack_between = pack


def relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Max |found - expected| / max |expected|; 0 where both are zero throughout."""
    difference = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    return difference / float(np.abs(expected).max()) if difference else 0.0


def distances(found: Taken, expected: Taken) -> dict[str, float]:
    """The relative difference by section."""
    measured = {"logits": relative(found.logits, expected.logits)}
    for section in SECTIONS[1:]:
        arrays = [(getattr(found.state, section)[name], a) for name, a in getattr(expected.state, section).items()]
        one, other = (np.concatenate([pair[i].ravel() for pair in arrays]) for i in (0, 1))
        measured[section] = relative(one, other)
    return measured


def make_case(name: str, folder: Path) -> Case:
    """Open the network and export its step.

    Args:
        name: One of `CASES`.
        folder: For the bundle.
    """
    mode, _, batch = name.partition("-")
    state = AdaptState.load(NETWORK.with_suffix(".ecotta-k4.safetensors"))
    network = to_memory_format(load_network(NETWORK).eval(), "contiguous")
    adaptable = attach(partition(network, torch.zeros(1, 3, 32, 32), 4))
    options = StepOptions(normalisation=mode)  # type: ignore[arg-type]
    path = folder / f"{name}.ecotta"
    classes = [str(i) for i in range(10)]
    export(
        adaptable, state, path, ExportOptions(model="wrn-40-2", classes=classes, batches=(int(batch),), step=options)
    )
    return Case(adaptable, options, state, read_bundle(path), int(batch))


def frames_of(steps: int, batch: int, seed: int = 0) -> Frames:
    """Batches of the stream, float32 `[batch, 3, 32, 32]` in [0, 1], over all 15 corruptions.

    Where its frames do not suffice, they come again.
    """
    stream = open_stream(seed=seed, frames=min(-(-steps * batch // len(CORRUPTIONS)), MOST_FRAMES))
    played = np.concatenate([segment.frames for segment in stream.segments])
    for step in range(steps):
        chosen = np.arange(step * batch, (step + 1) * batch) % len(played)
        yield np.ascontiguousarray(played[chosen].transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def compare(
    case: Case,
    frames: Frames,
    *,
    free_running: bool = True,
    yardstick_every: int | None = None,
    threads: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run both engines over `frames`.

    Args:
        case: What to run.
        frames: Batches, as `frames_of` gives them.
        free_running: Let each engine go its own way as well, and a torch engine of another memory layout.
        yardstick_every: Of how many steps one is run in float64 and in another memory layout too; None decides by
            the batch.
        threads: Of onnxruntime.
        advance: Called after each step.

    Returns:
        `restarted`: relative differences by section, the worst and the median, and how many steps were above `LIMIT`.
        `equal_signs`: the same of the steps in which all signs were equal; of single frames only, in a batch of 64
        there is hardly one.
        `yardsticks`: the same between torch and torch in float64, exported step and torch in float64, and torch and
        torch in another memory layout.
        `free_running`: drift from the torch engine, after `MARKS` steps.
    """
    yardstick_every = yardstick_every or YARDSTICK_EVERY.get(case.batch, 10)
    exported = ExportedStep(case.bundle, case.batch, threads, watch_signs=case.batch == 1)
    other_network = to_memory_format(copy.deepcopy(case.network), "channels_last")
    reference, other, free_other = (
        TorchEngine(network, case.options, case.state) for network in (case.network, other_network, other_network)
    )
    drifted = case.state
    restarted, equal_signs, drift = Distances(), Distances(), Drift()
    yardsticks = {name: Distances() for name in YARDSTICKS}
    learning = flips = 0
    for index, batch in enumerate(frames):
        before = reference.state
        with _signs_of_torch() as signs:
            expected = _torch_step(reference, batch)
        found = exported(before, batch)
        restarted.add(distances(found, expected))
        if signs == exported.signs:
            equal_signs.add(distances(found, expected))
        flips += _flips(found, expected)
        learning += int(expected.kept.any())
        if index % yardstick_every == 0:
            exact = _float64_step(case, before, batch)
            other.restore(before)
            pairs = ((expected, exact), (found, exact), (_torch_step(other, batch, torch.channels_last), expected))
            for name, pair in zip(YARDSTICKS, pairs, strict=True):
                yardsticks[name].add(distances(*pair))
        if free_running:
            free = exported(drifted, batch)
            drifted = free.state
            drift.add("exported", index + 1, free, expected)
            drift.add("torch, channels-last", index + 1, _torch_step(free_other, batch, torch.channels_last), expected)
        advance()
    return {
        "steps_that_learn": learning,
        "restarted": {**restarted.as_json(), "gate_flips": flips},
        **({"equal_signs": equal_signs.as_json()} if case.batch == 1 else {}),
        "yardsticks": {name: found.as_json() for name, found in yardsticks.items()},
        **({"free_running": drift.by_engine} if free_running else {}),
    }


class Distances:
    """Collects relative differences by section."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {section: [] for section in SECTIONS}

    def add(self, measured: dict[str, float]) -> None:
        for section, value in measured.items():
            self._values[section].append(value)

    def as_json(self) -> dict[str, Any]:
        """Of no step at all everything is 0."""
        values = {section: found or [0.0] for section, found in self._values.items()}
        return {
            "steps": len(self._values["logits"]),
            "worst": {section: max(found) for section, found in values.items()},
            "median": {section: statistics.median(found) for section, found in values.items()},
            "steps_above_limit": {
                section: sum(not value <= LIMIT for value in found) for section, found in values.items()
            },
        }


class Drift:
    """How far free-running engines have gone from the reference, after some of the steps."""

    def __init__(self) -> None:
        self.by_engine: dict[str, Any] = {}

    def add(self, engine: str, step: int, taken: Taken, reference: Taken) -> None:
        record = self.by_engine.setdefault(engine, {"gate_flips": 0, "after_steps": {}})
        record["gate_flips"] += _flips(taken, reference)
        if step in MARKS:
            record["after_steps"][str(step)] = {**distances(taken, reference), "gate_flips": record["gate_flips"]}


def _torch_step(engine: TorchEngine, frames: Floats, layout: torch.memory_format = torch.contiguous_format) -> Taken:
    outcome = engine.step(torch.from_numpy(frames).contiguous(memory_format=layout))
    return Taken(outcome.logits.numpy(), outcome.report["kept"].numpy(), engine.state)


def _float64_step(case: Case, state: AdaptState, frames: Floats) -> Taken:
    """The same step from the same state, with sixteen digits."""
    network = copy.deepcopy(case.network).double()
    start = to_step_state(case.network, state)
    moments = {name: (mean.double(), variance.double()) for name, (mean, variance) in start.statistics.items()}
    wide = StepState(*({n: v.double() for n, v in named.items()} for named in start[:2]), moments)
    outcome = Step(network, case.options)(wide, torch.from_numpy(frames).double())
    followed = wide.vector("statistics")
    if outcome.seen is not None:
        moving = _moving(StateLayout.of(state), case.options.statistics_momentum)
        moving(wide.vector("statistics").numpy(), outcome.seen.numpy(), followed.numpy())
    after = to_adapt_state(outcome.state.with_vectors(statistics=followed), "")
    return Taken(outcome.logits.numpy(), outcome.report["kept"].numpy(), after)


def _flips(found: Taken, expected: Taken) -> int:
    return int((found.kept != expected.kept).sum())


@contextmanager
def _progress(name: str, steps: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, a line when done elsewhere; on stderr."""
    began = time.monotonic()
    if sys.stderr.isatty() and find_spec("rich") is not None:
        from rich import progress
        from rich.console import Console

        columns = (progress.TextColumn(name), progress.BarColumn(), progress.MofNCompleteColumn())
        with progress.Progress(
            *columns, progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True
        ) as bar:
            task = bar.add_task(name, total=steps)
            yield lambda: bar.advance(task)
    else:
        yield lambda: None
    print(f"{name}: {steps} steps in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="MODE-BATCH")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the stream")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of onnxruntime")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "parity.json", help="where to write")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.threads < 1:
        parser.error("--steps and --threads: give 1 or more")
    torch.set_num_threads(args.threads)
    settings = {
        "network": NETWORK.stem,
        "stream": {"name": "fashion-mnist-c", "severity": 5, "seed": args.seed},
        "limit": LIMIT,
        "environment": asdict(read_environment(args.threads)),
    }
    cases = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in args.cases:
                case = make_case(name, Path(folder))
                with _progress(name, args.steps) as advance:
                    frames = frames_of(args.steps, case.batch, args.seed)
                    cases[name] = {**settings, **compare(case, frames, threads=args.threads, advance=advance)}
                _write(args.json, cases)
    except EcottaError as error:
        print(f"compare_engines: error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(_table(cases)))
    return 0


def _write(path: Path, cases: dict[str, Any]) -> None:
    """Put the cases in the file, beside those of other names that are there already."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    merged = {**known, **cases}
    ordered = {name: merged[name] for name in CASES if name in merged}
    write_atomic(path, (json.dumps(ordered, indent=1) + "\n").encode())


def _table(cases: dict[str, Any]) -> list[str]:
    lines = [
        f"| restarted | steps | {' | '.join(SECTIONS)} | momentum, median | torch to float64, median | gate flips |",
        "| --- " + "| ---: " * (len(SECTIONS) + 4) + "|",
    ]
    for name, case in cases.items():
        worst = [f"{case['restarted']['worst'][section]:.1e}" for section in SECTIONS]
        medians = [case["restarted"]["median"], case["yardsticks"][YARDSTICKS[0]]["median"]]
        cells = [name, str(case["restarted"]["steps"]), *worst, *(f"{median['momentum']:.1e}" for median in medians)]
        lines.append(f"| {' | '.join([*cells, str(case['restarted']['gate_flips'])])} |")
    marks = [str(mark) for mark in MARKS]
    lines += [
        "",
        f"| free-running, parameters after | {' | '.join(marks)} | gate flips |",
        "| --- " + "| ---: " * 4 + "|",
    ]
    for name, case in cases.items():
        for engine, drift in case.get("free_running", {}).items():
            after = drift["after_steps"]
            cells = [f"{after[mark]['parameters']:.1e}" if mark in after else "" for mark in marks]
            lines.append(f"| {' | '.join([f'{name}, {engine}', *cells, str(drift['gate_flips'])])} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
