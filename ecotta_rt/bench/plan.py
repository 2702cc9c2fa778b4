"""Check a request against what there is, before any work begins: networks, warmed-up states, bundles, devices."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ecotta_rt.bench.bundles import BundleOrder, ForwardOrder, check_bundle
from ecotta_rt.bench.graph_use import ONNX_METHODS, graph_use
from ecotta_rt.bench.memory_cage import MemoryCage
from ecotta_rt.bench.network_files import NetworkFiles, dataset_of, find_network, sha256_of
from ecotta_rt.bench.peers import METHODS, expand
from ecotta_rt.bench.request import Request, check_request, load_devices
from ecotta_rt.bench.results import Enforced
from ecotta_rt.data.image_sets import find_image_set
from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.machine.device import DeviceProfile, load_device

__all__ = ["DEFAULT_FRAMES", "Plan", "make_plan"]

DEFAULT_FRAMES = 64


@dataclass(frozen=True)
class Plan:
    """A request that can be met.

    Attributes:
        request: With nothing left open: methods expanded, frames counted, no batch larger than those.
        files: The trained network.
        devices: Profiles of the devices asked for.
        resources: Method id -> file that it needs beside the network.
        orders: Method id -> bundle that it needs, which may have to be made; onnx only.
        forward: The inference-only graph, which may have to be made; onnx only.
        left_out: Methods of the default set that cannot run here, each with the reason.
        enforced: The hard limit, under which nothing has run yet; None where none was asked for.
    """

    request: Request
    files: NetworkFiles
    devices: tuple[DeviceProfile, ...]
    resources: Mapping[str, Path] = field(default_factory=dict)
    orders: Mapping[str, BundleOrder] = field(default_factory=dict)
    forward: ForwardOrder | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    enforced: Enforced | None = None

    def beside(self) -> dict[str, str]:
        """What methods take beside the network, `ecotta-k4`, `fine-tuned`, and the SHA-256 of its file."""
        paths = {self.resources[method] for method in self.request.methods if method in self.resources}
        return {self.files.kind_of(path): sha256_of(path) for path in sorted(paths)}


def make_plan(request: Request) -> Plan:
    """Check a request against what there is; imports no torch and corrupts no image.

    Raises:
        UsageError: An unknown name, a value out of range, values that contradict each other, or a method that was
            named and cannot run.
        InputFileError: `data` is a folder that cannot be read as a data set, or `bundle` no bundle.
        Unavailable: The engine, the embedded sample, or a file that a named method needs is missing; or no hard limit
            can be set here.
        ConfigurationError: The file of a device profile is wrong.
    """
    check_request(request)
    source = find_image_set(request.data)
    files = find_network(request.model, dataset_of(source.name))
    frames = _count_frames(request, source.count)
    # No step is larger than the frames of one corruption, and the rows must not say that one was.
    batch = min(request.batch, frames)
    allocator = request.allocator or ("libc" if request.engine == "onnx" else "returning")
    methods = expand(request.methods)
    closed = replace(request, methods=methods, frames=frames, batch=batch, allocator=allocator)
    named = bool(request.methods)
    plan = _choose_methods(closed, files, load_devices(request.devices), named)
    plan = replace(plan, enforced=_enforced(request.enforce))
    return plan if request.engine == "torch" else _with_orders(plan, tuple(source.classes), named)


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
        reason = (
            _no_graph(method, request)
            or _batch_too_small(method, request)
            or _twin(method, request)
            or _missing(resource)
        )
        if resource is not None:
            resources[method] = resource
        if reason is not None:
            left_out[method] = reason
    methods = tuple(method for method in request.methods if method not in left_out)
    if left_out and (named or not methods):
        method, reason = next(iter(left_out.items()))
        lacks_its_file = reason == _missing(resources.get(method))
        raise (Unavailable if lacks_its_file else UsageError)(f"{method} cannot run: {reason}")
    return Plan(replace(request, methods=methods), files, devices, resources, left_out=left_out)


def _with_orders(plan: Plan, classes: tuple[str, ...], named: bool) -> Plan:
    """What has to be there, or made, for the methods that onnxruntime runs."""
    request = plan.request
    if request.frames is not None and request.frames % request.batch:
        raise UsageError(
            f"--frames {request.frames}: a graph takes exactly --batch {request.batch} frames; "
            "choose a multiple of that"
        )
    orders = {method: _order(method, plan, classes) for method in request.methods if method != "source"}
    unfit = {} if request.bundle is None else _unfit(request.bundle, orders)
    if unfit and (named or len(unfit) == len(orders)):
        method, reason = next(iter(unfit.items()))
        raise UsageError(f"{method} cannot run: {reason}")
    return replace(
        plan,
        request=replace(request, methods=tuple(method for method in request.methods if method not in unfit)),
        orders=orders,
        forward=ForwardOrder(str(plan.files.network), request.batch),
        left_out={**plan.left_out, **unfit},
    )


def _order(method: str, plan: Plan, classes: tuple[str, ...]) -> BundleOrder:
    request, use = plan.request, graph_use(method)
    return BundleOrder(
        network=str(plan.files.network),
        warmed=str(plan.resources[method]),
        normalisation=request.normalisation,
        gradient=(use and use.gradient) or request.gradient,
        batches=(1,) if request.frame_by_frame else (request.batch,),
        frame_by_frame=request.frame_by_frame,
        fast=request.fast,
        classes=classes,
    )


def _unfit(bundle: Path, orders: Mapping[str, BundleOrder]) -> dict[str, str]:
    """Methods that cannot run from the bundle the user named, each with the reason."""
    reasons = {}
    for method, order in orders.items():
        try:
            check_bundle(bundle, order)
        except UsageError as error:
            reasons[method] = str(error)
    return reasons


def _no_graph(method: str, request: Request) -> str | None:
    if request.engine == "torch" or method in ONNX_METHODS:
        return None
    return "onnxruntime computes no gradients, and only EcoTTA's are compiled into a graph; use --engine torch"


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
