"""What a user asks `ecotta-bench --latency` for, checked before any work begins."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from ecotta_rt.bench.bundles import BundleOrder, ForwardOrder, check_bundle, normalisation_of
from ecotta_rt.bench.graph_use import graph_use
from ecotta_rt.bench.latency_contestants import Contestant, check_latency_methods, line_up
from ecotta_rt.bench.network_files import NetworkFiles, dataset_of, find_network
from ecotta_rt.bench.peers import METHODS
from ecotta_rt.bench.request import GRADIENTS, check_choice
from ecotta_rt.data.image_sets import EMBEDDED, find_image_set
from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.options import MEMORY_KINDS, NORMALISATIONS, OPTIMISATIONS

__all__ = ["LatencyPlan", "LatencyRequest", "Start", "make_latency_plan"]


@dataclass(frozen=True)
class LatencyRequest:
    """The options of `ecotta-bench --latency`, as given.

    Attributes:
        model: Model id.
        methods: Names of contestants; empty for the usual ones.
        batches: Frames a step, a race for each.
        threads: Threads of a contestant, a race for each.
        normalisations: Those that EcoTTA is timed in.
        gradient: `exact` or `constant`, for EcoTTA in `batch` normalisation.
        rounds: Turns of each contestant.
        data: `fashion-mnist-c` or a folder.
        seed: Of the frames and the methods.
        bundles: Bundles to take instead of looking for some, one a normalisation.
        optimisation: Of the sessions that run a bundle's graphs.
        memory_kind: Of the same.
    """

    model: str = "wrn-40-2"
    methods: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1, 64)
    threads: tuple[int, ...] = (1, 2)
    normalisations: tuple[str, ...] = ("source", "running", "batch")
    gradient: str = "exact"
    rounds: int = 10
    data: str = EMBEDDED
    seed: int = 0
    bundles: tuple[Path, ...] = ()
    optimisation: str = "all"
    memory_kind: str = "arena"


@dataclass(frozen=True)
class Start:
    """Who races at one batch size and one number of threads."""

    batch: int
    threads: int
    contestants: tuple[Contestant, ...]


@dataclass(frozen=True)
class LatencyPlan:
    """A request that can be met.

    Attributes:
        request: As given.
        files: The trained network.
        starts: The races.
        resources: Method id -> file that it needs beside the network.
        orders: (method id, normalisation) -> bundle, which may have to be made.
        forwards: Batch -> inference-only graph, which may have to be made.
        named: Normalisation -> bundle that the user named.
        left_out: Contestants that cannot run, each with the reason.
    """

    request: LatencyRequest
    files: NetworkFiles
    starts: tuple[Start, ...]
    resources: Mapping[str, Path]
    orders: Mapping[tuple[str, str], BundleOrder]
    forwards: Mapping[int, ForwardOrder]
    named: Mapping[str, Path] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def make_latency_plan(request: LatencyRequest) -> LatencyPlan:
    """Check a request against what there is; imports no torch.

    Raises:
        UsageError: An unknown name, a value out of range, or a named bundle that does not fit.
        InputFileError: `data` or a bundle cannot be read.
        Unavailable: torch, the embedded sample or a file that a method needs is missing.
    """
    names = _check_values(request)
    source = find_image_set(request.data)
    if max(request.batches) > source.count:
        raise UsageError(f"--batch {max(request.batches)}: {request.data} has {source.count} test images")
    files = find_network(request.model, dataset_of(source.name))
    starts, left_out = [], {}
    for batch in request.batches:
        contestants, cannot = line_up(names, batch, request.normalisations)
        left_out.update(cannot)
        starts += [Start(batch, threads, tuple(contestants)) for threads in request.threads]
    resources = _resources([contestant for start in starts for contestant in start.contestants], files)
    orders = _orders(request, files, starts, resources, tuple(source.classes))
    named = {normalisation_of(path): path for path in request.bundles}
    for (method, normalisation), order in orders.items():
        if normalisation in named:
            try:
                check_bundle(named[normalisation], order)
            except UsageError as error:
                raise UsageError(f"{method} cannot run: {error}") from error
    forwards = {batch: ForwardOrder(str(files.network), batch) for batch in request.batches}
    return LatencyPlan(request, files, tuple(starts), resources, orders, forwards, named, left_out)


def _check_values(request: LatencyRequest) -> tuple[str, ...]:
    for option, values, known in (
        ("--normalisation", request.normalisations, NORMALISATIONS),
        ("--gradient", (request.gradient,), GRADIENTS),
        ("--optimisation", (request.optimisation,), OPTIMISATIONS),
        ("--memory-kind", (request.memory_kind,), MEMORY_KINDS),
    ):
        for value in values:
            check_choice(option, value, known)
    for name, numbers in (
        ("--batch", request.batches),
        ("--threads", request.threads),
        ("--rounds", (request.rounds,)),
    ):
        if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
            given = ",".join(map(str, numbers))
            raise UsageError(f"{name} {given}: give one or more different numbers, each at least 1")
    if request.seed < 0:
        raise UsageError(f"--seed {request.seed}: it must be at least 0")
    if find_spec("torch") is None:
        raise Unavailable("a race against torch needs torch, which is not installed: pip install 'ecotta_rt[bench]'")
    return check_latency_methods(request.methods)


def _resources(contestants: list[Contestant], files: NetworkFiles) -> dict[str, Path]:
    resources = {}
    for method in dict.fromkeys(contestant.method for contestant in contestants):
        entry = METHODS[method]
        if "warmed" in entry.takes:
            resources[method] = files.beside(f"ecotta-k{entry.fixed['parts']}")
        elif "fine_tuned" in entry.takes:
            resources[method] = files.beside("fine-tuned")
        if method in resources and not resources[method].is_file():
            raise Unavailable(
                f"{method} cannot run: {resources[method]} is missing; "
                "`python benchmarks/warm_up_networks.py NETWORK --data DATA` makes it"
            )
    return resources


def _orders(
    request: LatencyRequest,
    files: NetworkFiles,
    starts: list[Start],
    resources: Mapping[str, Path],
    classes: tuple[str, ...],
) -> dict[tuple[str, str], BundleOrder]:
    batches: dict[tuple[str, str], dict[int, None]] = {}
    for start in starts:
        for contestant in start.contestants:
            if contestant.from_bundle:
                batches.setdefault((contestant.method, contestant.normalisation), {})[start.batch] = None
    orders = {}
    for (method, normalisation), sizes in batches.items():
        use = graph_use(method)
        orders[method, normalisation] = BundleOrder(
            network=str(files.network),
            warmed=str(resources[method]),
            normalisation=normalisation,
            gradient=(use and use.gradient) or request.gradient,
            batches=tuple(sizes),
            frame_by_frame=False,
            # Of those that race unasked the fast one is taken where a bundle has it, and not worth making one.
            fast=f"{method}-fast" in request.methods,
            classes=classes,
        )
    return orders
