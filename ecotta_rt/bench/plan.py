"""Check a request against what there is, before any work begins: networks, warmed-up states, bundles, devices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ecotta_rt.bench.bundles import BundleOrder, check_bundle, normalisation_of
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.contestants import line_up
from ecotta_rt.bench.memory_cage import MemoryCage
from ecotta_rt.bench.network_files import NetworkFiles, dataset_of, find_network, sha256_of
from ecotta_rt.bench.peers import METHODS
from ecotta_rt.bench.request import Request, check_request, load_devices
from ecotta_rt.bench.results import Enforced
from ecotta_rt.data.image_sets import find_image_set
from ecotta_rt.errors import EcottaError, Unavailable, UsageError
from ecotta_rt.machine.device import DeviceProfile, load_device

__all__ = [
    "DEFAULT_FRAMES",
    "BenchPlan",
    "bundle_orders",
    "make_plan",
    "named_bundles",
    "unfit",
    "why_not",
    "with_files",
]

DEFAULT_FRAMES = 64

_WhyNot = Callable[[Case], EcottaError | None]
"""Why a case cannot run; None where it can."""


@dataclass(frozen=True)
class BenchPlan:
    """A request that can be met.

    Attributes:
        request: With nothing left open: frames counted, no batch larger than those.
        files: The trained network.
        cases: What is measured, in order; those of one race next to each other.
        devices: Profiles of the devices asked for.
        orders: (method id, normalisation) -> bundle, which may have to be made; onnx only.
        named: Normalisation -> bundle that the user named.
        left_out: Methods or contestants that cannot run here, each with the reason.
        enforced: The hard limit, under which nothing has run yet; None where none was asked for.
    """

    request: Request
    files: NetworkFiles
    cases: tuple[Case, ...]
    devices: tuple[DeviceProfile, ...] = ()
    orders: Mapping[tuple[str, str], BundleOrder] = field(default_factory=dict)
    named: Mapping[str, Path] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    enforced: Enforced | None = None

    def beside(self) -> dict[str, str]:
        """What methods take beside the network, `ecotta-k4`, `fine-tuned`, and the SHA-256 of its file."""
        paths = sorted({Path(case.resource) for case in self.cases if case.resource is not None})
        return {self.files.kind_of(path): sha256_of(path) for path in paths}


def make_plan(request: Request) -> BenchPlan:
    """Check a request against what there is; imports no torch and corrupts no image.

    Raises:
        UsageError: An unknown name, a value out of range, values that contradict each other, or a method that was
            named and cannot run.
        InputFileError: `data` is a folder that cannot be read as a data set, or a bundle is none.
        Unavailable: The engine, the embedded sample, or a file that a named method needs is missing; or no hard limit
            can be set here.
        ConfigurationError: The file of a device profile is wrong.
    """
    methods = check_request(request)
    images = find_image_set(request.data)
    files = find_network(request.model, dataset_of(images.name))
    request = _closed(request, images.count)
    cases, left_out = _line_up(methods, request)
    # Of the default set and of all some may be left out.
    strict = request.timed or bool({*request.methods} - {"all"})
    cases, refused = _able([with_files(case, request, files) for case in cases], why_not, strict)
    left_out |= refused
    if request.engine == "onnx" and request.frames is not None and request.frames % request.batches[0]:
        raise UsageError(
            f"--frames {request.frames}: a graph takes exactly --batch {request.batches[0]} frames; "
            "choose a multiple of that"
        )
    orders = bundle_orders(cases, request, tuple(images.classes))
    named = named_bundles(request)
    _, refused = _able([case for case in cases if case.from_bundle], unfit(orders, named), strict)
    return BenchPlan(
        request,
        files,
        tuple(case for case in cases if case.label not in refused),
        load_devices(request.devices),
        {key: order for key, order in orders.items() if key[0] not in refused},
        named,
        {**left_out, **refused},
        _enforced(request.enforce),
    )


def _closed(request: Request, there: int) -> Request:
    if request.timed:
        if max(request.batches) > there:
            raise UsageError(f"--batch {max(request.batches)}: {request.data} has {there} test images")
        return request
    frames = min(DEFAULT_FRAMES, there) if request.frames is None else request.frames
    if frames > there:
        raise UsageError(f"--frames {frames}: {request.data} has {there} test images")
    allocator = request.allocator or ("libc" if request.engine == "onnx" else "returning")
    # No step is larger than the frames of one corruption, and the rows must not say that one was.
    return replace(request, frames=frames, batches=(min(request.batches[0], frames),), allocator=allocator)


def _line_up(methods: Sequence[str], request: Request) -> tuple[list[Case], dict[str, str]]:
    """A case for each method, or for each contestant of each race; and who cannot take part."""
    if not request.timed:
        (batch,), (threads,), (normalisation,) = request.batches, request.threads, request.normalisations
        return [Case(method, request.engine, batch, threads, normalisation) for method in methods], {}
    cases: list[Case] = []
    left_out: dict[str, str] = {}
    for batch in request.batches:
        for threads in request.threads:
            racers, cannot = line_up(methods, batch, threads, request.normalisations)
            cases += racers
            left_out |= cannot
    return cases, left_out


def with_files(case: Case, request: Request, files: NetworkFiles) -> Case:
    """The case with what the request says of it, and the files that are there."""
    kind = METHODS[case.method].resource
    return replace(
        case,
        gradient=request.gradient,
        seed=request.seed,
        hyperparameters=dict(request.hyperparameters),
        learning_rate=request.learning_rates.get(case.method),
        views=request.views,
        memory_format=request.memory_format,
        allocator=request.allocator or "libc",
        frame_by_frame=request.frame_by_frame,
        fast=case.fast or request.fast,
        optimisation=request.optimisation,
        memory_kind=request.memory_kind,
        network=str(files.network),
        resource=None if kind is None else str(files.beside(kind)),
    )


def _able(cases: Sequence[Case], why_not: _WhyNot, strict: bool) -> tuple[list[Case], dict[str, str]]:
    """Those that can run, and of the others the reason by label; an error where one must run, or none can."""
    errors = {case.label: error for case in cases if (error := why_not(case)) is not None}
    kept = [case for case in cases if case.label not in errors]
    if errors and (strict or not kept):
        case = next(case for case in cases if case.label in errors)
        error = errors[case.label]
        raise type(error)(f"{case.method} cannot run: {error}")
    return kept, {label: str(error) for label, error in errors.items()}


def why_not(case: Case) -> EcottaError | None:
    """Why a case with its files cannot run; None where it can."""
    reason = None if case.timed else _no_graph(case) or _one_view(case) or _batch_too_small(case) or _twin(case)
    if reason is not None:
        return UsageError(reason)
    if case.resource is None or Path(case.resource).is_file():
        return None
    return Unavailable(
        f"{case.resource} is missing; `python benchmarks/warm_up_networks.py NETWORK --data DATA` makes it"
    )


def _no_graph(case: Case) -> str | None:
    if METHODS[case.method].follows and (case.engine == "torch" or case.normalisation != "running"):
        return "it runs a bundle by its own rule; use --engine onnx --normalisation running"
    if case.engine == "torch" or METHODS[case.method].graph is not None:
        return None
    return "onnxruntime computes no gradients; those of EcoTTA and TENT alone are compiled; use --engine torch"


def _one_view(case: Case) -> str | None:
    if case.views == 1 or case.engine == "torch" or case.from_bundle:
        return None
    return f"--views {case.views} is for --engine torch: inference alone answers one view a frame"


def _batch_too_small(case: Case) -> str | None:
    if case.batch > 1 or METHODS[case.method].one_by_one:
        return None
    if "warmed" not in METHODS[case.method].takes and not case.from_bundle:
        # Most of torch's peers adapt through the statistics of the batch.
        return "it uses the statistics of the batch, and a single frame has none; use --batch 2 or more"
    if case.normalisation == "batch":
        return "a single frame has no batch statistics; add --normalisation running, or use --batch 2 or more"
    return None


def _twin(case: Case) -> str | None:
    """Why a row of its own would show nothing new."""
    constant = case.gradient == "constant" or case.normalisation != "batch"
    if METHODS[case.method].fixed.get("frozen_gradient") == "constant" and constant:
        return "the statistics are constant in the backward anyway, so it is the same run as ecotta-k4"
    if case.method == "lame" and case.batch == 1:
        return "a frame alone has no neighbours, so it is the same run as source; use --batch 2 or more"
    return None


def bundle_orders(
    cases: Sequence[Case], request: Request, classes: tuple[str, ...]
) -> dict[tuple[str, str], BundleOrder]:
    """The bundles that these cases need: one a method and normalisation, with a graph for each batch."""
    orders: dict[tuple[str, str], BundleOrder] = {}
    for case in cases:
        if not case.from_bundle:
            continue
        key, batch = (case.method, case.normalisation), 1 if case.frame_by_frame else case.batch
        order = orders.get(key) or BundleOrder(
            network=case.network,
            warmed=case.resource,
            normalisation=case.normalisation,
            gradient=METHODS[case.method].fixed.get("frozen_gradient", case.gradient),
            batches=(),
            frame_by_frame=case.frame_by_frame,
            # Of those that race unasked the fast one is taken where a bundle has it, and not worth making one.
            fast=request.fast or f"{case.method}-fast" in request.methods,
            follows=METHODS[case.method].follows,
            classes=classes,
        )
        orders[key] = replace(order, batches=tuple(dict.fromkeys((*order.batches, batch))))
    return orders


def named_bundles(request: Request) -> dict[str, Path]:
    """Normalisation -> bundle that the user named."""
    if request.timed or request.streams:
        return {normalisation_of(path): path for path in request.bundles}
    return dict(zip(request.normalisations, request.bundles, strict=False))  # one that has another is then refused


def unfit(orders: Mapping[tuple[str, str], BundleOrder], named: Mapping[str, Path]) -> _WhyNot:
    """Why a case cannot run from the bundle that the user named for it."""

    def why_not(case: Case) -> UsageError | None:
        path = named.get(case.normalisation)
        try:
            if path is not None:
                check_bundle(path, orders[case.method, case.normalisation])
        except UsageError as error:
            return error
        return None

    return why_not


def _enforced(limit: int | str | None) -> Enforced | None:
    """The limit, once a cage of it could be made: better refused now than after the stream has been made."""
    if limit is None:
        return None
    if isinstance(limit, str):
        device = load_device(limit)
        enforced = Enforced(device.default_limit_bytes, device.id, {})
    else:
        enforced = Enforced(limit, None, {})
    with MemoryCage(enforced.limit_bytes):
        return enforced
