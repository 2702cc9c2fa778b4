"""Write a bundle: the host's last step."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ecotta_rt._version import __version__
from ecotta_rt.bundle.figures import SessionFigures
from ecotta_rt.bundle.graph_check import WEIGHTS, check_graph, graph_ports
from ecotta_rt.bundle.layout import StateLayout
from ecotta_rt.bundle.manifest import (
    MAX_GRAPH_BYTES,
    FrameSpec,
    GraphEntry,
    GraphKind,
    Manifest,
    WeightEntry,
    place_weights,
)
from ecotta_rt.bundle.ports import MethodPorts
from ecotta_rt.bundle.tables import TABLES, Table, read_tables, table_shapes, tables_content
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.atomic import open_atomic
from ecotta_rt.files.digest import sha256
from ecotta_rt.files.stored_zip import NewMember, checksum, write_stored_zip
from ecotta_rt.state import AdaptState

__all__ = ["MANIFEST", "MAX_BUNDLE_BYTES", "PAGE_BYTES", "STATE", "GraphFacts", "write_bundle"]

MANIFEST = "manifest.json"
STATE = "state.safetensors"

PAGE_BYTES = 4096
"""`weights.bin` begins at a multiple of this in the bundle."""

MAX_BUNDLE_BYTES = 1 << 30


@dataclass(frozen=True)
class GraphFacts:
    """What cannot be read off a graph itself; see `GraphEntry`.

    Attributes:
        kind: What it is for.
        batch: Frames a run.
        activation_bytes: Most bytes kept for its own backward at any moment.
        step_peak_bytes: Most bytes of tensors alive at any moment.
        variant: What else it was made with.
        sessions: What running it needs, as planned.
    """

    kind: GraphKind
    batch: int
    activation_bytes: int
    step_peak_bytes: int
    variant: Mapping[str, str] = field(default_factory=dict)
    sessions: tuple[SessionFigures, ...] = ()


def write_bundle(
    path: str | os.PathLike[str],
    *,
    model: str,
    network_digest: str,
    classes: Sequence[str],
    parts: int,
    frame: FrameSpec,
    normalisation: str,
    options: Mapping[str, str | float | int | bool],
    layout: StateLayout,
    graphs: Mapping[str, tuple[GraphFacts, bytes]],
    weights: Mapping[str, NDArray[np.float32]],
    state: AdaptState,
    made_with: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    method: MethodPorts | None = None,
    adaptation: Mapping[str, str | float | int | bool] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> Manifest:
    """Write a bundle, whole or not at all. Equal content gives equal bytes.

    Args:
        path: Where to, usually `NAME.ecotta`.
        model: Name of the architecture.
        network_digest: Digest of the frozen network, the same as the state's.
        classes: Class names in the order of the logits.
        parts: K.
        frame: What the graphs take.
        normalisation: `batch`, `running` or `source`.
        options: What the step was made with.
        layout: How a state lies in the graphs' flat vectors.
        graphs: Name -> what the graph is for, and its ONNX file. Its external tensors lie in `weights.bin` where
            `place_weights` puts the weights of the same names.
        weights: Frozen float32 arrays by name, in the order that `place_weights` was given. They are not copied.
        state: The initial state.
        made_with: Versions by name. `ecotta_rt` is filled in.
        metadata: Free text by name.
        method: What the graphs take and give; None: those of EcoTTA.
        adaptation: How the device follows the stream.
        tables: Arrays that this needs, float32 or float16, by name.

    Returns:
        The manifest that was written.

    Raises:
        UsageError: `read_bundle` would refuse it: the message says what.
        TransferError: The file cannot be written; `path` is as it was before.
    """
    entries = place_weights({name: array.shape for name, array in weights.items()})
    for name, array in weights.items():
        if array.dtype != np.float32:
            raise UsageError(f"{path} was not written: weight {name!r} is {array.dtype}, expected float32")
    weights_digest, weights_crc32 = _digests(_weight_pieces(entries, weights))
    state_content, tables_member = state.to_bytes(), tables_content(tables or {})
    try:
        if state.network_digest != network_digest:
            raise InputFileError(f"the state belongs to network {state.network_digest}, not to {network_digest}")
        layout.pack(state)
        manifest = Manifest(
            made_with={"ecotta_rt": __version__, **(made_with or {})},
            model=model,
            network_digest=network_digest,
            classes=tuple(classes),
            parts=parts,
            frame=frame,
            normalisation=normalisation,
            options=dict(options),
            layout=layout,
            graphs=tuple(_graph_entry(name, *graph, entries) for name, graph in graphs.items()),
            weights=entries,
            weights_bytes=_end(entries),
            weights_sha256=weights_digest,
            state_sha256=sha256(state_content).hexdigest(),
            metadata=dict(metadata or {}),
            method=method or MethodPorts.of_ecotta(parts, normalisation),
            adaptation=dict(adaptation or {}),
            tables=table_shapes(tables or {}),
            tables_sha256=sha256(tables_member).hexdigest(),
        )
        manifest_content = manifest.to_json().encode()
        Manifest.from_json(manifest_content, MANIFEST)  # the reader's checks are the writer's
        read_tables(tables_member, manifest.tables, TABLES)
    except ValueError as error:  # InputFileError of the checks, and JSON's on NaN
        raise UsageError(f"{path} was not written: {error}") from error
    members = [
        _member(MANIFEST, manifest_content),
        *(_member(entry.member, graphs[entry.name][1]) for entry in manifest.graphs),
        NewMember(WEIGHTS, manifest.weights_bytes, weights_crc32, lambda: _weight_pieces(entries, weights), PAGE_BYTES),
        _member(STATE, state_content),
        *([_member(TABLES, tables_member)] if manifest.tables else []),
    ]
    total_bytes = sum(member.size + 1024 for member in members) + PAGE_BYTES
    if total_bytes > MAX_BUNDLE_BYTES:
        raise UsageError(f"{path} was not written: about {total_bytes} bytes, more than {MAX_BUNDLE_BYTES}")
    with open_atomic(path) as file:
        write_stored_zip(file, members)
    return manifest


def _graph_entry(name: str, facts: GraphFacts, content: bytes, weights: Sequence[WeightEntry]) -> GraphEntry:
    origin = f"graph {name!r}"
    if len(content) > MAX_GRAPH_BYTES:
        raise InputFileError(f"{origin}: {len(content)} bytes, more than {MAX_GRAPH_BYTES}; keep its weights outside")
    model = check_graph(content, {entry.name: entry for entry in weights}, origin)
    return GraphEntry(
        name=name,
        kind=facts.kind,
        batch=facts.batch,
        variant=dict(facts.variant),
        nodes=sum(1 for _ in model.graph.all_nodes()),
        activation_bytes=facts.activation_bytes,
        step_peak_bytes=facts.step_peak_bytes,
        inputs=graph_ports(model.inputs, origin),
        outputs=graph_ports(model.outputs, origin),
        bytes=len(content),
        sha256=sha256(content).hexdigest(),
        sessions=facts.sessions,
    )


def _member(name: str, content: bytes) -> NewMember:
    return NewMember(name, len(content), checksum([content]), lambda: [content])


def _weight_pieces(
    entries: Sequence[WeightEntry], weights: Mapping[str, NDArray[np.float32]]
) -> Iterator[bytes | memoryview]:
    position = 0
    for entry in entries:
        yield bytes(entry.offset - position)
        yield np.ascontiguousarray(weights[entry.name], "<f4").reshape(-1).view(np.uint8).data
        position = entry.offset + entry.bytes


def _end(entries: Sequence[WeightEntry]) -> int:
    return entries[-1].offset + entries[-1].bytes if entries else 0


def _digests(pieces: Iterator[bytes | memoryview]) -> tuple[str, int]:
    """SHA-256 and CRC-32 in one pass."""
    digest = sha256()

    def watched() -> Iterator[bytes | memoryview]:
        for piece in pieces:
            digest.update(piece)
            yield piece

    crc32 = checksum(watched())
    return digest.hexdigest(), crc32
