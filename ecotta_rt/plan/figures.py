"""The planner's answer for one graph: what a session of it needs."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import Bundle, Manifest
from ecotta_rt.bundle.figures import SessionFigures, Tenant
from ecotta_rt.files.onnx_graph import Graph, Initializer, Node
from ecotta_rt.files.onnx_reader import read_model
from ecotta_rt.files.temporary import temporary_folder
from ecotta_rt.options import OPTIMISATIONS, SessionOptions
from ecotta_rt.plan.planned_run import PlannedRun, simulate
from ecotta_rt.session.costs import arena_doubles
from ecotta_rt.session.opening import open_session

__all__ = ["plan_session", "session_figures", "with_figures"]

_TENANTS = 5
_FEW = 64  # numbers: a weight with no more says little about where a tensor comes from


def with_figures(bundle: Bundle, *, anew: bool = False) -> Manifest:
    """A bundle's manifest with the figures of every graph; those that are there are kept, unless `anew`.

    Raises:
        InputFileError: onnxruntime refuses a graph.
    """
    graphs = [
        graph
        if graph.sessions and not anew
        else replace(graph, sessions=tuple(session_figures(bundle, graph.name, level) for level in OPTIMISATIONS))
        for graph in bundle.manifest.graphs
    ]
    return replace(bundle.manifest, graphs=tuple(graphs))


def session_figures(bundle: Bundle, name: str, optimisation: str) -> SessionFigures:
    """Let onnxruntime optimise a graph and run it on paper.

    Args:
        bundle: Where the graph is.
        name: Its name.
        optimisation: `all` or `extended`; what `all` means depends on this processor.

    Raises:
        UsageError: The bundle has no such graph.
        InputFileError: onnxruntime refuses it.
    """
    return plan_session(bundle, name, optimisation)[0]


def plan_session(bundle: Bundle, name: str, optimisation: str, threads: int = 1) -> tuple[SessionFigures, PlannedRun]:
    """As `session_figures`, with the run itself: what is alive at each node."""
    graph, original = _optimised_graph(bundle, name, optimisation), read_model(bundle.graph(name), name).graph
    frames = next(entry.batch for entry in bundle.manifest.graphs if entry.name == name)
    run = simulate(graph, original, threads, doubling=arena_doubles(frames))
    # Names of nested graphs may be the same as outer ones: what is summed must not be a mapping.
    weights = [weight for nested in graph.all_graphs() for weight in nested.initializers.values()]
    makers = {output: node for node in graph.nodes for output in node.outputs}
    figures = SessionFigures(
        optimisation=optimisation,
        nodes=sum(1 for _ in graph.all_nodes()),
        live_bytes=run.peak_bytes,
        arena_bytes=run.arena_bytes,
        copied_bytes=sum(weight.value.bytes for weight in weights if not weight.external),
        mapped_bytes=sum(weight.value.bytes for weight in weights if weight.external),
        tenants=tuple(
            Tenant(_described(tenant, makers, graph, graph.initializers), size)
            for tenant, size in list(run.tenants.items())[:_TENANTS]
        ),
    )
    return figures, run


def _optimised_graph(bundle: Bundle, name: str, optimisation: str) -> Graph:
    """The graph as a session would run it here: with "all", the width of this processor's vectors decides."""
    with temporary_folder(tempfile.gettempdir(), "ecotta-plan-") as folder:
        path = folder / "optimised.onnx"
        options = SessionOptions(optimisation=optimisation)
        open_session(bundle, name, options, optimised=path, constants=_constants(bundle, name))
        return read_model(path.read_bytes(), f"{name}, as onnxruntime has optimised it").graph


def _constants(bundle: Bundle, name: str) -> dict[str, NDArray[np.float32]]:
    """What learns, in graphs that only answer: they run with it as constants."""
    entry = bundle.manifest.graph(name)
    if entry is None or entry.kind not in ("predict", "observe"):
        return {}
    parameters = bundle.manifest.layout.pack(bundle.initial_state())[0]
    learned = [vector.name for vector in bundle.manifest.ports.state if vector.role == "learned"]
    return dict.fromkeys(learned, parameters) if bundle.allows_constants(name, learned) else {}


def _described(name: str, makers: Mapping[str, Node], graph: Graph, weights: Mapping[str, Initializer]) -> str:
    """A tensor by what makes it: its own name says nothing to anybody."""
    node = makers.get(name)
    if node is None:
        return name
    value = graph.values.get(name)
    shape = "x".join(map(str, value.shape)) if value is not None and value.shape else ""
    weight = next((f" {taken}" for taken in node.inputs if taken in weights and _tells(taken, weights[taken])), "")
    return f"{node.op}{weight}{', ' if shape else ''}{shape}"


def _tells(name: str, weight: Initializer) -> bool:
    """Whether the weight's name helps: what onnxruntime laid out anew has a name of its own, a number."""
    return math.prod(weight.value.sizes or ()) > _FEW and not name.startswith("reorder")
