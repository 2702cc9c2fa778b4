"""What a bundle says of itself: the first member, `manifest.json`.

The fields are explained in docs/bundle-format.md. Reading checks every one and what they say of each other; whether
the other members agree is for `read_bundle`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, get_args

from ecotta_rt.bundle.figures import SessionFigures
from ecotta_rt.bundle.layout import ArrayShape, Shape, StateLayout, find_twice
from ecotta_rt.bundle.ports import SEEN, SINGLE_FRAME, MethodPorts, find_other_port, required_ports
from ecotta_rt.bundle.tables import TableShapes
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.digest import sha256
from ecotta_rt.files.fields import Document, Limit, Matches, OneOf, Since
from ecotta_rt.files.json_text import parse_json
from ecotta_rt.options import NORMALISATIONS

__all__ = [
    "FORMAT",
    "MAX_GRAPHS",
    "MAX_GRAPH_BYTES",
    "MAX_MANIFEST_BYTES",
    "RESIZES",
    "VERSION",
    "WEIGHT_ALIGNMENT",
    "FrameSpec",
    "GraphEntry",
    "GraphKind",
    "Manifest",
    "Resize",
    "WeightEntry",
    "place_weights",
]

FORMAT = "ecotta-bundle"
VERSION = 5
"""Raised when a reader of the old version would misunderstand or refuse the new one.

Version 1 had no `sessions`. Version 2 had no `resize` and no `crop`, and colour frames alone. Version 3 had no
`method`: all bundles held EcoTTA. Up to version 4 graphs moved the statistics themselves, and none was held.
"""

GraphKind = Literal["step", "predict", "observe", "accumulate", "update"]

Resize = Literal["cover", "stretch"]
"""How a picture of another shape becomes a frame:

    cover      cut to the frame's aspect ratio around the centre; what is left keeps its proportions
    stretch    keep all of it; proportions change
"""

RESIZES: tuple[Resize, ...] = get_args(Resize)

WEIGHT_ALIGNMENT = 64
"""Each array in `weights.bin` begins at a multiple of this: a cache line, and wide enough for any vector load."""

MAX_MANIFEST_BYTES = 4 << 20
MAX_GRAPHS = 64
MAX_GRAPH_BYTES = 64 << 20
_LAST_OF_COLOUR_ALONE = 2
_LAST_WITHOUT_METHOD = 3
_LAST_TRACKED = 4
_COLOURS = {1: "grey", 3: "RGB"}
_FLOAT_BYTES = 4
_OF_NOTHING = sha256(b"").hexdigest()

_Bytes = Annotated[int, Limit(0, 1 << 30)]
_PlannedBytes = Annotated[int, Limit(0, 1 << 50)]
_Name = Annotated[str, Limit(most=200)]
_Sha256 = Annotated[str, Limit(most=200), Matches("[0-9a-f]{64}", "64 hexadecimal digits")]
_Side = Annotated[int, Limit(1, 1 << 14)]
_Ports = Annotated[tuple[ArrayShape, ...], Limit(most=64), find_twice]


_Setting = Annotated[str, Limit(most=200)] | float | int | bool


def _graph_name(name: str) -> str | None:
    if re.fullmatch("[a-z0-9][a-z0-9._-]{0,99}", name, re.ASCII):
        return None
    return f"{name!r} is no name for a graph; expected up to 100 of a-z, 0-9, '.', '_', '-'"


def _classes(names: Sequence[str]) -> str | None:
    return f"{len(names)} classes, expected at least 2: there is nothing to tell apart" if len(names) < 2 else None


def _channels(count: int) -> str | None:
    return None if count in _COLOURS else f"{count}, expected {' or '.join(map(str, _COLOURS))}"


def _sessions(sessions: Sequence[SessionFigures]) -> str | None:
    return find_twice(sessions, "optimisation")


def _method(ports: MethodPorts) -> str | None:
    return ports.problem()


@dataclass(frozen=True)
class WeightEntry:
    """One float32 array of `weights.bin`, little-endian, row by row.

    Attributes:
        name: The name of the initialisers that refer to it.
        shape: Its dimensions.
        offset: Bytes from the beginning of `weights.bin`, a multiple of `WEIGHT_ALIGNMENT`.
    """

    name: _Name
    shape: Shape
    offset: _Bytes

    @property
    def bytes(self) -> int:
        """Its length in bytes."""
        return _FLOAT_BYTES * math.prod(self.shape)


def place_weights(weights: Mapping[str, Sequence[int]]) -> tuple[WeightEntry, ...]:
    """Where each array will lie in `weights.bin`.

    Args:
        weights: Name -> shape. They are placed in this order, each at the next multiple of `WEIGHT_ALIGNMENT`.
    """
    entries = []
    offset = 0
    for name, shape in weights.items():
        offset += -offset % WEIGHT_ALIGNMENT
        entries.append(WeightEntry(name, tuple(map(int, shape)), offset))
        offset += entries[-1].bytes
    return tuple(entries)


@dataclass(frozen=True)
class GraphEntry:
    """One ONNX graph, the member `graphs/NAME.onnx`.

    Attributes:
        name: What it is called: small letters, digits, `.`, `_`, `-`.
        kind: `step` learns and answers; `predict` answers; `observe` answers and tells each frame's own statistics;
            `accumulate` adds a frame's gradients up and `update` spends them.
        batch: Frames a run.
        variant: What else it was made with: `{"favours": "memory", "masks": "bool"}`.
        nodes: Nodes in it, those of nested graphs included.
        activation_bytes: Most bytes that it keeps for its own backward at any moment, as planned; 0 without one.
        step_peak_bytes: Most bytes of tensors alive at any moment of a run, as planned; weights not counted.
        inputs: What it takes, in order.
        outputs: What it gives, in order.
        bytes: Size of the member.
        sha256: Digest of the member, hexadecimal.
        sessions: What running it needs, for each way the planner looked at; empty where it did not.
    """

    name: Annotated[_Name, _graph_name]
    kind: GraphKind
    batch: Annotated[int, Limit(1, 1 << 16)]
    variant: Annotated[Mapping[_Name, _Name], Limit(most=256)]
    nodes: Annotated[int, Limit(1, 1 << 16)]
    activation_bytes: _PlannedBytes
    step_peak_bytes: _PlannedBytes
    inputs: _Ports
    outputs: _Ports
    bytes: Annotated[int, Limit(1, MAX_GRAPH_BYTES)]
    sha256: _Sha256
    sessions: Annotated[tuple[SessionFigures, ...], Limit(most=8), _sessions] = ()

    @property
    def member(self) -> str:
        """Its name in the zip."""
        return f"graphs/{self.name}.onnx"

    @property
    def fast(self) -> bool:
        """Whether it was made to take more memory for less time."""
        return self.variant.get("favours") == "time"


@dataclass(frozen=True)
class FrameSpec:
    """The frames that graphs take, float32 `[N, channels, height, width]`, and how a picture becomes one.

    The graphs normalise frames themselves. `ecotta_rt.runtime.preprocess` does the rest, for warm-up and device alike.

    Attributes:
        channels: 3, or 1 for grey frames.
        height: Pixels.
        width: Pixels.
        resize: One of `RESIZES`.
        crop: Share of each side that is kept around the centre before resizing, in (0, 1]: 0.875 is "256, then 224".
        scale: What an 8-bit value is multiplied with: `1/255`, so that graphs see [0, 1].
    """

    channels: Annotated[int, Limit(1, 3), _channels]
    height: _Side
    width: _Side
    resize: Annotated[Resize, Since(3)] = "cover"
    crop: Annotated[float, Limit(above=0, most=1), Since(3)] = 1.0

    scale: ClassVar[str] = "1/255"
    DERIVED: ClassVar = ("scale", "colour")

    @property
    def colour(self) -> str:
        """Order of the channels, `RGB`; or `grey`."""
        return _COLOURS[self.channels]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True)
class Manifest:
    """All that a bundle says of itself.

    Attributes:
        made_with: Versions of what made it, by name: `ecotta_rt`, `torch`, `opset`.
        model: Name of the architecture, `wrn-40-2`.
        network_digest: Digest of the frozen network; states fit only the network they came from.
        classes: Class names; their order is that of the logits.
        parts: K, how many parts the network was cut into.
        frame: What the graphs take.
        normalisation: One of `NORMALISATIONS`.
        options: What the step was made with: `lr`, `sgd_momentum`, `l1_weight`, `entropy_margin` and others.
        layout: How a state lies in the graphs' flat vectors.
        graphs: The graphs.
        weights: The arrays of `weights.bin`.
        weights_bytes: Size of `weights.bin`.
        weights_sha256: Its digest, hexadecimal.
        state_sha256: Digest of `state.safetensors`, hexadecimal.
        metadata: Free text by name: how network and state came about.
        method: What its graphs take and give.
        adaptation: How the device follows the stream: names and values of the recipe.
        tables: The arrays of `tables.safetensors` that the recipe needs; empty where there is no such member.
        tables_sha256: Digest of that member, hexadecimal; without one, of nothing.
    """

    made_with: Annotated[Mapping[_Name, _Name], Limit(most=256)]
    model: _Name
    network_digest: _Name
    classes: Annotated[tuple[_Name, ...], Limit(most=1 << 16), _classes]
    parts: Annotated[int, Limit(1, 1024)]
    frame: FrameSpec
    normalisation: Annotated[str, OneOf(NORMALISATIONS)]
    options: Annotated[Mapping[_Name, _Setting], Limit(most=256)]
    layout: StateLayout
    graphs: Annotated[tuple[GraphEntry, ...], Limit(most=MAX_GRAPHS), find_twice]
    weights: Annotated[tuple[WeightEntry, ...], Limit(most=1 << 16), find_twice]
    weights_bytes: _Bytes
    weights_sha256: _Sha256
    state_sha256: _Sha256
    metadata: Annotated[Mapping[str, str], Limit(most=256), Since(1)] = field(default_factory=dict)
    method: Annotated[MethodPorts | None, Since(4), _method] = None
    adaptation: Annotated[Mapping[_Name, _Setting], Limit(most=256), Since(5)] = field(default_factory=dict)
    tables: Annotated[TableShapes, Since(5)] = ()
    tables_sha256: Annotated[_Sha256, Since(5)] = _OF_NOTHING

    def graph(self, name: str) -> GraphEntry | None:
        """The graph of this name, or None."""
        return next((graph for graph in self.graphs if graph.name == name), None)

    @property
    def ports(self) -> MethodPorts:
        """What its graphs take and give: declared, or those of EcoTTA."""
        return self.method or MethodPorts.of_ecotta(self.parts, self.normalisation)

    def to_json(self) -> str:
        """The text of `manifest.json`; the same for equal manifests."""
        said = {**vars(self), "method": self.ports}
        plain = {"format": FORMAT, "version": VERSION, **{key: _plain(value) for key, value in said.items()}}
        return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: str | bytes, origin: str) -> "Manifest":
        """Read what `to_json` wrote.

        Args:
            content: The text, or its UTF-8 bytes.
            origin: The file's name, for messages.

        Raises:
            InputFileError: Longer than `MAX_MANIFEST_BYTES`, not JSON, of another format or version, a field that is
                missing, unknown or out of its range, or fields that contradict each other.
        """
        encoded = content.encode() if isinstance(content, str) else content
        if len(encoded) > MAX_MANIFEST_BYTES:
            raise InputFileError(f"{origin}: {len(encoded)} bytes, more than the {MAX_MANIFEST_BYTES} of a manifest")
        document = parse_json(encoded, origin)
        document.take("format", Literal["ecotta-bundle"])
        version = document.take("version", Annotated[int, Limit(0, 1 << 31)])
        if not 1 <= version <= VERSION:
            raise document.error(
                ("version",),
                f"is {version}, and this ecotta_rt reads 1 to {VERSION}; install the one that made it",
            )
        manifest = document.read(cls, version=version)
        if not manifest.graphs:
            raise document.error(("graphs",), "none, expected at least one")
        if version <= _LAST_OF_COLOUR_ALONE and manifest.frame.channels != 3:
            raise document.error(("frame", "channels"), f"{manifest.frame.channels}, expected 3")
        if version <= _LAST_WITHOUT_METHOD:
            manifest = replace(
                manifest, method=MethodPorts.of_ecotta(manifest.parts, manifest.normalisation, "tracked")
            )
        _check_weights(manifest, document)
        _check_method(manifest, document, version)
        for index, graph in enumerate(manifest.graphs):
            _check_ports(manifest, graph, index, document)
        return manifest


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON has them."""
    if isinstance(value, ArrayShape):
        plain = {"name": value.name, "shape": list(value.shape)}
        return plain if value.dtype == "float32" else {**plain, "dtype": value.dtype}
    if isinstance(value, FrameSpec):
        return {**vars(value), **{name: getattr(value, name) for name in value.DERIVED}}
    if hasattr(value, "__dataclass_fields__"):
        return {key: _plain(item) for key, item in vars(value).items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _check_weights(manifest: Manifest, document: Document) -> None:
    end = 0
    before = ""
    for entry in sorted(manifest.weights, key=lambda entry: (entry.offset, entry.bytes)):
        if entry.offset % WEIGHT_ALIGNMENT:
            raise document.error(
                ("weights",), f"{entry.name!r} at byte {entry.offset}, no multiple of {WEIGHT_ALIGNMENT}"
            )
        if entry.offset < end:
            raise document.error(
                ("weights",), f"{entry.name!r} at byte {entry.offset} overlaps {before!r}, which ends at {end}"
            )
        end, before = entry.offset + entry.bytes, entry.name
    if end != manifest.weights_bytes:
        ends = f"{before!r} ends at byte {end}" if before else "none"
        raise document.error(("weights",), f"{ends}, and weights.bin has {manifest.weights_bytes} bytes")


def _check_method(manifest: Manifest, document: Document, version: int) -> None:
    ports, normalisation = manifest.ports, manifest.normalisation
    # Version 5 has both: a bundle of before keeps its graphs when it is written anew.
    old = version <= _LAST_TRACKED or any(vector.role == "tracked" for vector in ports.state)
    follows: Literal["observed", "tracked"] = "tracked" if old else "observed"
    known = MethodPorts.of(ports.name, ports.gradients, (), normalisation, follows)
    if set(ports.state) != set(known.state):
        roles = ", ".join(f"{vector.name} {vector.role}" for vector in known.state)
        raise document.error(("method", "state"), f"not that of {normalisation!r} normalisation: {roles}")
    usual = MethodPorts.of_ecotta(manifest.parts, normalisation, follows)
    if ports.name == usual.name and ports != usual:
        raise document.error(("method",), f"not that of {usual.name} in {manifest.parts} parts")


def _check_ports(manifest: Manifest, graph: GraphEntry, index: int, document: Document) -> None:
    if graph.kind in SINGLE_FRAME and graph.batch != 1:
        raise document.error(
            ("graphs", index, "batch"), f"{graph.batch} frames in {graph.name!r}; {graph.kind} graphs are of 1"
        )
    frame, layout = manifest.frame, manifest.layout
    sizes = {
        "frames": (frame.channels, *frame.size),
        "logits": (len(manifest.classes),),
        "parameters": (layout.parameter_count,),
        "momentum": (layout.parameter_count,),
        "statistics": (layout.statistic_count,),
        SEEN: (layout.statistic_count,),
    }
    inputs, outputs = required_ports(manifest.ports, graph.kind, graph.batch, sizes)
    for what, found, required in (("inputs", graph.inputs, inputs), ("outputs", graph.outputs, outputs)):
        problem = find_other_port(found, required)
        if problem is not None:
            raise document.error(
                ("graphs", index, what),
                f"{problem}, in the {graph.kind} graph {graph.name!r}; was it made for other frames?",
            )
