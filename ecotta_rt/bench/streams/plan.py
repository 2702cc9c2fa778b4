"""Check a request for streams against what there is, and list the cases of every stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ecotta_rt.bench.bundles import BundleOrder, find_bundle
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.network_files import NetworkFiles, dataset_of, find_network
from ecotta_rt.bench.peers import METHODS, MethodEntry
from ecotta_rt.bench.plan import bundle_orders, named_bundles, unfit, why_not, with_files
from ecotta_rt.bench.request import Request, check_request
from ecotta_rt.data.image_sets import ImageSet, find_image_set
from ecotta_rt.errors import EcottaError, Unavailable

__all__ = ["StreamPlan", "label", "make_stream_plan"]


@dataclass(frozen=True)
class StreamPlan:
    """A request for streams that can be met.

    Attributes:
        request: As asked.
        files: The trained network.
        images: What the streams are made of.
        cases: What plays each stream, without seed and recording.
        orders: (method id, normalisation) -> bundle, which may have to be made; onnx only.
        named: Normalisation -> bundle that the user named.
        left_out: Cases that cannot run, by label, each with the reason.
    """

    request: Request
    files: NetworkFiles
    images: ImageSet
    cases: tuple[Case, ...]
    orders: Mapping[tuple[str, str], BundleOrder]
    named: Mapping[str, Path]
    left_out: Mapping[str, str] = field(default_factory=dict)


def label(case: Case) -> str:
    """What a row is called: `ecotta-k4 onnx running, batch 1`, `eata torch, batch 64, lr 0.02`."""
    norms = f" {case.normalisation}" if "warmed" in METHODS[case.method].takes else ""
    views = "" if case.views == 1 else f", {case.views} views"
    rate = "" if case.learning_rate is None else f", lr {case.learning_rate:g}"
    return f"{case.method} {case.engine}{norms}, batch {case.batch}{rate}{views}"


def make_stream_plan(request: Request, cache: Path) -> StreamPlan:
    """Check a request; imports no torch and corrupts no image.

    Args:
        request: What was asked for.
        cache: Folder that keeps corrupted images.

    Raises:
        UsageError, InputFileError, Unavailable, ConfigurationError: As `ecotta_rt.bench.plan.make_plan`; a method that
            was named and cannot run in any engine, batch size or normalisation that was asked for is one of them. One
            of which only a file is missing is left out where others can run.
    """
    methods = check_request(request)
    images = find_image_set(request.data, cache)
    files = find_network(request.model, dataset_of(images.name))
    offered = [with_files(case, request, files) for case in _offered(methods, request)]
    able, refused = _sifted(offered, why_not)
    classes, named = tuple(images.classes), named_bundles(request)
    able, without = _sifted(able, lambda case: _no_bundle(case, request, classes, named))
    refused |= without
    running = {case.method for case in able}
    for case in offered:
        if case.method in running:
            continue
        error = refused[label(case)]
        if not able or (request.methods and not isinstance(error, Unavailable)):
            raise type(error)(f"{label(case)} cannot run: {error}")
    left_out = {who: str(error) for who, error in refused.items()}
    orders = bundle_orders(able, request, classes)
    return StreamPlan(request, files, images, tuple(able), orders, named, left_out)


def _no_bundle(case: Case, request: Request, classes: tuple[str, ...], named: Mapping[str, Path]) -> EcottaError | None:
    """Why a case cannot run from the bundle that was named, or from one that only `ecotta prepare` can make."""
    if not case.from_bundle:
        return None
    orders = bundle_orders([case], request, classes)
    try:
        if METHODS[case.method].follows and case.normalisation not in named:
            find_bundle(orders[case.method, case.normalisation], lambda line: None)
    except EcottaError as error:
        return error
    return unfit(orders, named)(case)


def _offered(methods: Sequence[str], request: Request) -> Iterator[Case]:
    for method in methods:
        entry = METHODS[method]
        engines = request.engines or (_usual_engine(entry, request.views),)
        for engine in engines:
            for batch in request.batches:
                for normalisation in _normalisations(method, batch, request):
                    allocator = request.allocator or ("libc" if engine == "onnx" else "returning")
                    yield Case(method, engine, batch, request.threads[0], normalisation, True, allocator=allocator)


def _usual_engine(entry: MethodEntry, views: int) -> str:
    if entry.graph == "forward":
        return "onnx" if views == 1 else "torch"
    return "onnx" if entry.graph is not None and "warmed" in entry.takes else "torch"


def _normalisations(method: str, batch: int, request: Request) -> Sequence[str]:
    """Those of ours; a peer has its own, and its case says `batch`."""
    if "warmed" not in METHODS[method].takes:
        return ("source",) if METHODS[method].graph == "forward" else ("batch",)
    if METHODS[method].follows:
        return ("running",)
    return request.normalisations or ("running" if batch == 1 else "batch",)


def _sifted(
    cases: Sequence[Case], reason: Callable[[Case], EcottaError | None]
) -> tuple[list[Case], dict[str, EcottaError]]:
    """Those that can run, and of the others the reason by label."""
    refused = {label(case): error for case in cases if (error := reason(case)) is not None}
    return [case for case in cases if label(case) not in refused], refused
