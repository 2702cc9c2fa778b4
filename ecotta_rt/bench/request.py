"""What a user asks the bench for, and what can be refused without looking at any file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import find_spec
from math import inf
from pathlib import Path

from ecotta_rt.bench.adaptation import HYPERPARAMETERS
from ecotta_rt.bench.allocator import ALLOCATORS
from ecotta_rt.bench.contestants import check_latency_methods
from ecotta_rt.bench.peers import METHODS, expand
from ecotta_rt.bench.streams.protocols import PROTOCOLS
from ecotta_rt.data.corruptions import CORRUPTIONS, SEVERITIES, check_corruption
from ecotta_rt.data.image_sets import EMBEDDED
from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.extras import how_to_install
from ecotta_rt.machine.device import DeviceProfile, device_ids, load_device
from ecotta_rt.options import MEMORY_KINDS, NORMALISATIONS, OPTIMISATIONS

__all__ = [
    "ENGINES",
    "GRADIENTS",
    "LATENCY",
    "MEMORY_FORMATS",
    "ORDERS",
    "STREAMS",
    "Request",
    "check_request",
    "load_devices",
]

ENGINES = ("torch", "onnx")
GRADIENTS = ("exact", "constant")
ORDERS = ("official", "shuffled")
MEMORY_FORMATS = ("channels_last", "contiguous")
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Request:
    """The options of `ecotta-bench`, as given. The defaults are those of `--memory`; `LATENCY` has the others.

    Attributes:
        timed: Whether steps are timed in races; else methods play the stream one after the other, and memory and error
            are measured.
        model: Model id.
        methods: Method ids, `all` among them perhaps, or names of contestants; empty for the default set.
        batches: Frames a step; a race for each.
        normalisations: Of `NORMALISATIONS`, for EcoTTA; the peers have their own.
        threads: Threads of each measured process; a race for each.
        gradient: One of `GRADIENTS`, for EcoTTA: whether statistics of the batch are differentiated through.
        data: `fashion-mnist-c` or a folder.
        seed: Of the stream and of the methods.
        bundles: Bundles to take instead of looking for some: one; of a race one a normalisation.
        optimisation: One of `OPTIMISATIONS` of a session.
        memory_kind: One of `MEMORY_KINDS` of a session.
        rounds: Turns of each contestant; what follows is for memory.
        engine: One of `ENGINES`.
        frames: Frames a corruption; None for 64, or all where there are fewer.
        corruptions: Names, in the order in which they are played.
        severity: 1 to 5.
        order: One of `ORDERS`.
        hyperparameters: What EcoTTA's step is to have otherwise than `ADAPTATION`, by its names. Torch only: a bundle
            has its own.
        learning_rates: Method id -> step size, for peers that are not to have their paper's. Torch only.
        views: 2 averages the answers to each frame and its mirror image, of all methods; `source` in torch alone.
        memory_format: One of `MEMORY_FORMATS`, of networks and frames; torch only.
        allocator: One of `ALLOCATORS`: whether freed memory goes back to the system at once. None for the engine's
            own: `returning` with torch; with onnx `libc`, since its sessions have `memory_kind`.
        devices: Device ids, or `all`.
        frame_by_frame: Learn from each batch in the memory of one frame; onnx only.
        fast: Prefer the step of more memory and less time; onnx only.
        streams: Protocols that are played, each with each of `seeds`; none where memory or time is measured.
        seeds: Of stream and methods, where streams are played.
        engines: Of streams: those that run a method, each on its own; none for the one that suits the method.
        keep: Keep what another version of the code has measured of the same cases.
        enforce: A hard limit for each method's process, in bytes, or the device whose default limit it is; None for
            none.
    """

    timed: bool = False
    model: str = "wrn-40-2"
    methods: tuple[str, ...] = ()
    batches: tuple[int, ...] = (64,)
    normalisations: tuple[str, ...] = ("batch",)
    threads: tuple[int, ...] = (1,)
    gradient: str = "exact"
    data: str = EMBEDDED
    seed: int = 0
    bundles: tuple[Path, ...] = ()
    optimisation: str = "all"
    memory_kind: str = "arena"
    rounds: int = 10
    engine: str = "torch"
    frames: int | None = None
    corruptions: tuple[str, ...] = CORRUPTIONS
    severity: int = 5
    order: str = "official"
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    views: int = 1
    memory_format: str = "channels_last"
    allocator: str | None = None
    devices: tuple[str, ...] = ()
    frame_by_frame: bool = False
    fast: bool = False
    enforce: int | str | None = None
    streams: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    engines: tuple[str, ...] = ()
    keep: bool = False


LATENCY = Request(timed=True, batches=(1, 64), threads=(1, 2), normalisations=("source", "running", "batch"))
"""What is asked for by `--latency` alone."""


STREAMS = Request(streams=("continual",), batches=(1, 64), normalisations=(), frames=1000)
"""What is asked for by `--stream` alone."""


def check_request(request: Request) -> tuple[str, ...]:
    """Check what can be checked without the data.

    Returns:
        Method ids, or names of contestants.

    Raises:
        UsageError, Unavailable, ConfigurationError: As `ecotta_rt.bench.plan.make_plan`.
    """
    _check_words(request)
    _check_numbers(request)
    if request.streams:
        _check_streams(request)
    elif not request.timed:
        _check_memory(request)
    methods = check_latency_methods(request.methods) if request.timed else expand(request.methods)
    if request.hyperparameters and not any("warmed" in METHODS[method].takes for method in methods):
        raise UsageError(
            f"{_named(request.hyperparameters)} is EcoTTA's, and none of {', '.join(methods)} is; leave it out"
        )
    _check_learning_rates(request, methods)
    load_devices(request.devices)
    if isinstance(request.enforce, str):
        load_device(request.enforce)
    if (request.timed or request.streams or request.engine == "torch") and find_spec("torch") is None:
        raise Unavailable(f"measuring methods needs torch, which is not installed: {how_to_install('bench')}")
    return methods


def _check_words(request: Request) -> None:
    for option, values, known in (
        ("--normalisation", request.normalisations, NORMALISATIONS),
        ("--gradient", (request.gradient,), GRADIENTS),
        ("--order", (request.order,), ORDERS),
        ("--memory-format", (request.memory_format,), MEMORY_FORMATS),
        ("--allocator", (request.allocator or "libc",), tuple(ALLOCATORS)),
        ("--engine", (request.engine, *request.engines), ENGINES),
        ("--stream", request.streams, tuple(PROTOCOLS)),
        ("--optimisation", (request.optimisation,), OPTIMISATIONS),
        ("--memory-kind", (request.memory_kind,), MEMORY_KINDS),
    ):
        for value in values:
            _check_choice(option, value, known)
    for name in request.corruptions:
        check_corruption(name)


def _check_numbers(request: Request) -> None:
    for option, numbers, least in (
        ("--batch", request.batches, 1),
        ("--threads", request.threads, 1),
        ("--rounds", (request.rounds,), 1),
        ("--frames", () if request.frames is None else (request.frames,), 1),
        ("--seed", (request.seed,), 0),
        ("--seeds", request.seeds, 0),
    ):
        given = ",".join(map(str, numbers))
        if min(numbers, default=least) < least:
            raise UsageError(f"{option} {given}: it must be at least {least}")
        if len(set(numbers)) < len(numbers):
            raise UsageError(f"{option} {given}: give one or more different numbers")
    if request.views not in (1, 2):
        raise UsageError(f"--views {request.views}: 1 is the frame alone, 2 the frame and its mirror image")
    if not 0 < (lr := request.hyperparameters.get("lr", 1.0)) < inf:
        raise UsageError(f"--step-lr {lr}: a step size is a finite number above 0")
    if not 0 <= (weight := request.hyperparameters.get("l1_weight", 0.0)) < inf:
        raise UsageError(f"--l1-weight {weight}: a weight is a finite number, 0 or above")
    if (largest := max(request.seed, *request.seeds)) > _LARGEST_SEED:
        raise UsageError(f"--seed {largest}: torch takes seeds up to {_LARGEST_SEED}")
    if request.severity not in SEVERITIES:
        raise UsageError(f"--severity {request.severity}: it goes from {SEVERITIES[0]} (slight) to {SEVERITIES[-1]}")


def _check_learning_rates(request: Request, methods: Sequence[str]) -> None:
    able = [name for name in methods if METHODS[name].has_own_learning_rate] if request.learning_rates else []
    for name, rate in request.learning_rates.items():
        _check_choice("--peer-lr", name, able)
        if not 0 < rate < inf:
            raise UsageError(f"--peer-lr {name}={rate}: a step size is a finite number above 0")
    if request.learning_rates and "onnx" in (request.engine, *request.engines):
        raise UsageError("--peer-lr is for --engine torch; bundles run with the paper's value")


def _named(hyperparameters: Mapping[str, float]) -> str:
    return HYPERPARAMETERS[next(iter(hyperparameters))]


def _check_streams(request: Request) -> None:
    if len(request.threads) > 1:
        raise UsageError(f"--threads {','.join(map(str, request.threads))}: --stream takes one; run it once for each")
    if request.hyperparameters and request.engines != ("torch",):
        raise UsageError(f"{_named(request.hyperparameters)} is for --engine torch; bundles run with the paper's value")


def _check_memory(request: Request) -> None:
    """Refuse several values where one is meant, and what the engine has no use for."""
    usual = Request()
    for option, values in (
        ("--batch", request.batches),
        ("--normalisation", request.normalisations),
        ("--threads", request.threads),
        ("--bundle", request.bundles),
    ):
        if len(values) > 1:
            given = ",".join(map(str, values))
            raise UsageError(f"{option} {given}: --memory takes one; run it once for each")
    if request.engine == "torch":
        for name in ("bundles", "frame_by_frame", "fast", "optimisation", "memory_kind"):
            if getattr(request, name) != getattr(usual, name):
                option = name.removesuffix("s").replace("_", "-")
                raise UsageError(f"--{option} is for --engine onnx; with torch there is no such choice")
    elif request.hyperparameters:
        raise UsageError(f"{_named(request.hyperparameters)} is for --engine torch; bundles run with the paper's value")
    elif request.memory_format != usual.memory_format:
        raise UsageError("--memory-format is for --engine torch; onnxruntime chooses the layout by --optimisation")
    if request.frame_by_frame and request.normalisations == ("batch",):
        raise UsageError(
            "--frame-by-frame with --normalisation batch: batch statistics couple the frames of a batch; "
            "add --normalisation running or source"
        )


def _check_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is not among the known ones, naming the nearest."""
    if value in known:
        return
    nearest = get_close_matches(value, known, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise UsageError(f"{option} {value!r}: known are {', '.join(known)}{hint}")


def load_devices(names: Sequence[str]) -> tuple[DeviceProfile, ...]:
    """The profiles of these ids, each once; `all` stands for every one.

    Raises:
        UsageError: An unknown id.
        ConfigurationError: The file of a profile is wrong.
    """
    ids = dict.fromkeys(device for name in names for device in (device_ids() if name == "all" else (name,)))
    return tuple(load_device(device) for device in ids)
