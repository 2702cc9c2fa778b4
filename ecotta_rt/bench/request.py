"""What a user asks the bench for, and everything that can be refused before any work begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from ecotta_rt.bench.allocator import ALLOCATORS
from ecotta_rt.bench.network_files import NetworkFiles, dataset_of, find_network
from ecotta_rt.bench.peers import METHODS, expand
from ecotta_rt.bench.streams import CORRUPTIONS
from ecotta_rt.bench.streams.corruptions import SEVERITIES, check_corruption
from ecotta_rt.bench.streams.sources import EMBEDDED, find_source
from ecotta_rt.device import DeviceProfile, device_ids, load_device
from ecotta_rt.errors import Unavailable, UsageError

__all__ = [
    "DEFAULT_FRAMES",
    "GRADIENTS",
    "MEMORY_FORMATS",
    "NORMALISATIONS",
    "ORDERS",
    "Plan",
    "Request",
    "check_choice",
    "check_request",
    "make_plan",
]

NORMALISATIONS = ("batch", "running", "source")
GRADIENTS = ("exact", "constant")
ORDERS = ("official", "shuffled")
MEMORY_FORMATS = ("channels_last", "contiguous")
DEFAULT_FRAMES = 192
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Request:
    """The options of `ecotta-bench --memory`, as given.

    Attributes:
        model: Model id.
        methods: Method ids, `all` among them perhaps; empty for the default set.
        batch: Frames a step.
        normalisation: One of `NORMALISATIONS`, for EcoTTA; the peers have their own.
        gradient: One of `GRADIENTS`, for EcoTTA: whether statistics of the batch are differentiated through.
        data: `fashion-mnist-c` or a folder.
        frames: Frames a corruption; None for 192, or all where there are fewer.
        corruptions: Names, in the order in which they are played.
        severity: 1 to 5.
        order: One of `ORDERS`.
        seed: Of the stream and of the methods.
        threads: Threads of each measured process.
        memory_format: One of `MEMORY_FORMATS`, of networks and frames.
        allocator: One of `ALLOCATORS`: whether freed memory goes back to the system at once.
        devices: Device ids, or `all`.
    """

    model: str = "wrn-40-2"
    methods: tuple[str, ...] = ()
    batch: int = 64
    normalisation: str = "batch"
    gradient: str = "exact"
    data: str = EMBEDDED
    frames: int | None = None
    corruptions: tuple[str, ...] = CORRUPTIONS
    severity: int = 5
    order: str = "official"
    seed: int = 0
    threads: int = 1
    memory_format: str = "channels_last"
    allocator: str = "returning"
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A request that can be met.

    Attributes:
        request: With nothing left open: methods expanded, frames counted, no batch larger than those.
        files: The trained network.
        devices: Profiles of the devices asked for.
        resources: Method id -> file that it needs beside the network.
        left_out: Methods of the default set that cannot run here, each with the reason.
    """

    request: Request
    files: NetworkFiles
    devices: tuple[DeviceProfile, ...]
    resources: Mapping[str, Path] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def make_plan(request: Request) -> Plan:
    """Check a request against what there is; imports no torch and corrupts no image.

    Raises:
        UsageError: An unknown name, a value out of range, values that contradict each other, or a method that was
            named and cannot run.
        InputFileError: `data` is a folder that cannot be read as a data set.
        Unavailable: torch, the embedded sample, or a file that a named method needs is missing.
        ConfigurationError: The file of a device profile is wrong.
    """
    check_request(request)
    source = find_source(request.data)
    files = find_network(request.model, dataset_of(source.name))
    frames = _count_frames(request, source.count)
    # No step is larger than the frames of one corruption, and the rows must not say that one was.
    batch = min(request.batch, frames)
    closed = replace(request, methods=expand(request.methods), frames=frames, batch=batch)
    return _choose_methods(closed, files, _load_devices(request.devices), bool(request.methods))


def check_request(request: Request) -> None:
    """Check what can be checked without the data, so that a long download does not end in a typing error.

    Raises:
        UsageError, Unavailable, ConfigurationError: As `make_plan`.
    """
    _check_values(request)
    expand(request.methods)
    _load_devices(request.devices)
    if find_spec("torch") is None:
        raise Unavailable("measuring methods needs torch, which is not installed: pip install 'ecotta_rt[bench]'")


def _check_values(request: Request) -> None:
    for option, value, known in (
        ("--normalisation", request.normalisation, NORMALISATIONS),
        ("--gradient", request.gradient, GRADIENTS),
        ("--order", request.order, ORDERS),
        ("--memory-format", request.memory_format, MEMORY_FORMATS),
        ("--allocator", request.allocator, tuple(ALLOCATORS)),
    ):
        check_choice(option, value, known)
    for option, number, least in (
        ("--batch", request.batch, 1),
        ("--frames", request.frames, 1),
        ("--threads", request.threads, 1),
        ("--seed", request.seed, 0),
    ):
        if number is not None and number < least:
            raise UsageError(f"{option} {number}: it must be at least {least}")
    if request.seed > _LARGEST_SEED:
        raise UsageError(f"--seed {request.seed}: torch takes seeds up to {_LARGEST_SEED}")
    if request.severity not in SEVERITIES:
        raise UsageError(f"--severity {request.severity}: it goes from {SEVERITIES[0]} (slight) to {SEVERITIES[-1]}")
    for name in request.corruptions:
        check_corruption(name)


def check_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is not among the known ones, naming the nearest.

    Raises:
        UsageError: It is not.
    """
    if value in known:
        return
    nearest = get_close_matches(value, known, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise UsageError(f"{option} {value!r}: known are {', '.join(known)}{hint}")


def _load_devices(names: Sequence[str]) -> tuple[DeviceProfile, ...]:
    ids = dict.fromkeys(device for name in names for device in (device_ids() if name == "all" else (name,)))
    return tuple(load_device(device) for device in ids)


def _count_frames(request: Request, there: int) -> int:
    frames = min(DEFAULT_FRAMES, there) if request.frames is None else request.frames
    if frames > there:
        raise UsageError(f"--frames {frames}: {request.data} has {there} test images")
    return frames


def _choose_methods(request: Request, files: NetworkFiles, devices: tuple[DeviceProfile, ...], named: bool) -> Plan:
    """Find what each method needs; a method the user named must run, one of the default set may be left out."""
    resources, left_out = {}, {}
    for method in request.methods:
        resource = _resource(method, files)
        reason = _batch_too_small(method, request) or _twin(method, request) or _missing(resource)
        if resource is not None:
            resources[method] = resource
        if reason is not None:
            left_out[method] = reason
    methods = tuple(method for method in request.methods if method not in left_out)
    if left_out and (named or not methods):
        method, reason = next(iter(left_out.items()))
        lacks_its_file = reason == _missing(resources.get(method))
        raise (Unavailable if lacks_its_file else UsageError)(f"{method} cannot run: {reason}")
    return Plan(replace(request, methods=methods), files, devices, resources, left_out)


def _resource(method: str, files: NetworkFiles) -> Path | None:
    takes = METHODS[method].takes
    if "warmed" in takes:
        return files.beside(f"ecotta-k{METHODS[method].fixed['parts']}")
    return files.beside("fine-tuned") if "fine_tuned" in takes else None


def _missing(resource: Path | None) -> str | None:
    if resource is None or resource.is_file():
        return None
    return f"{resource} is missing; `python benchmarks/warm_up_networks.py NETWORK --data DATA` makes it"


def _twin(method: str, request: Request) -> str | None:
    """Why a row of its own would show nothing new."""
    constant = request.gradient == "constant" or request.normalisation != "batch"
    if METHODS[method].fixed.get("frozen_gradient") == "constant" and constant:
        return "the statistics are constant in the backward anyway, so it is the same run as ecotta-k4"
    return None


def _batch_too_small(method: str, request: Request) -> str | None:
    if request.batch > 1 or method == "source":
        return None
    if "warmed" not in METHODS[method].takes:  # the peers adapt through the statistics of the batch
        return "it uses the statistics of the batch, and a single frame has none; use --batch 2 or more"
    if request.normalisation == "batch":
        return "a single frame has no batch statistics; add --normalisation running, or use --batch 2 or more"
    return None
