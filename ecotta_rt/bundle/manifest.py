"""What a bundle says of itself: the first member, `manifest.json`.

The fields are explained in docs/bundle-format.md. Reading checks every one and what they say of each other; whether
the other members agree is for `read_bundle`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, cast, get_args

from ecotta_rt.bundle.figures import SessionFigures, Tenant
from ecotta_rt.bundle.layout import ArrayShape, StateLayout
from ecotta_rt.bundle.ports import SINGLE_FRAME, find_other_port, required_ports
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.json_fields import JsonFields, parse_json
from ecotta_rt.files.onnx_wire import ELEMENT_TYPES
from ecotta_rt.options import NORMALISATIONS, OPTIMISATIONS

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
VERSION = 3
"""Raised when a reader of the old version would misunderstand or refuse the new one.

Version 1 had no `sessions`. Version 2 had no `resize` and no `crop`, and colour frames alone.
"""

GraphKind = Literal["step", "predict", "accumulate", "update"]

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
_MAX_BYTES = 1 << 30
_MAX_STEP_BYTES = 1 << 50
_MAX_ARRAYS = 1 << 16
_MAX_CLASSES = 1 << 16
_MAX_WORDS = 256
_MAX_PORTS = 64
_MAX_SESSIONS = 8
_MAX_TENANTS = 16
_OLDEST_VERSION = 1
_LAST_OF_COLOUR_ALONE = 2
_COLOURS = {1: "grey", 3: "RGB"}
_MAX_RANK = 8
_MAX_SIDE = 1 << 14
_MAX_BATCH = 1 << 16
_MAX_PARTS = 1024
_MAX_NODES = 1 << 16  # as onnxruntime has optimised it; as it is in the file, at most `operators.MAX_NODES`
_MAX_NAME = 200
_FLOAT_BYTES = 4
_GRAPH_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class WeightEntry:
    """One float32 array of `weights.bin`, little-endian, row by row.

    Attributes:
        name: The name of the initialisers that refer to it.
        shape: Its dimensions.
        offset: Bytes from the beginning of `weights.bin`, a multiple of `WEIGHT_ALIGNMENT`.
    """

    name: str
    shape: tuple[int, ...]
    offset: int

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
        kind: `step` learns and answers; `predict` answers; `accumulate` adds a frame's gradients up and `update`
            spends them.
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

    name: str
    kind: GraphKind
    batch: int
    variant: Mapping[str, str]
    nodes: int
    activation_bytes: int
    step_peak_bytes: int
    inputs: tuple[ArrayShape, ...]
    outputs: tuple[ArrayShape, ...]
    bytes: int
    sha256: str
    sessions: tuple[SessionFigures, ...] = ()

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

    channels: int
    height: int
    width: int
    resize: Resize = "cover"
    crop: float = 1.0

    scale: ClassVar[str] = "1/255"

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
    """

    made_with: Mapping[str, str]
    model: str
    network_digest: str
    classes: tuple[str, ...]
    parts: int
    frame: FrameSpec
    normalisation: str
    options: Mapping[str, str | float | int | bool]
    layout: StateLayout
    graphs: tuple[GraphEntry, ...]
    weights: tuple[WeightEntry, ...]
    weights_bytes: int
    weights_sha256: str
    state_sha256: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def graph(self, name: str) -> GraphEntry | None:
        """The graph of this name, or None."""
        return next((graph for graph in self.graphs if graph.name == name), None)

    def to_json(self) -> str:
        """The text of `manifest.json`; the same for equal manifests."""
        plain = {"format": FORMAT, "version": VERSION, **{key: _plain(value) for key, value in vars(self).items()}}
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
        fields = parse_json(encoded, origin)
        fields.text("format", choices=(FORMAT,))
        version = fields.number("version", 0, 1 << 31)
        if not _OLDEST_VERSION <= version <= VERSION:
            known = f"{_OLDEST_VERSION} to {VERSION}"
            raise fields.error(
                "version", f"is {version}, and this ecotta_rt reads {known}; install the one that made it"
            )
        manifest = _read_manifest(fields, version)
        fields.refuse_the_rest()
        if not manifest.graphs:
            raise fields.error("graphs", "none, expected at least one")
        _check_weights(manifest, fields)
        _refuse_twice("graphs", [graph.name for graph in manifest.graphs], fields)
        for index, graph in enumerate(manifest.graphs):
            _check_ports(manifest, graph, f"graphs[{index}]", fields)
        return manifest


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON has them."""
    if isinstance(value, ArrayShape):
        plain = {"name": value.name, "shape": list(value.shape)}
        return plain if value.dtype == "float32" else {**plain, "dtype": value.dtype}
    if isinstance(value, FrameSpec):
        return {**vars(value), "scale": value.scale, "colour": value.colour}
    if hasattr(value, "__dataclass_fields__"):
        return {key: _plain(item) for key, item in vars(value).items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _read_manifest(fields: JsonFields, version: int) -> Manifest:
    return Manifest(
        made_with=fields.words("made_with", max_count=_MAX_WORDS, max_characters=_MAX_NAME),
        model=fields.text("model", max_characters=_MAX_NAME),
        network_digest=fields.text("network_digest", max_characters=_MAX_NAME),
        classes=_classes(fields),
        parts=fields.number("parts", 1, _MAX_PARTS),
        frame=fields.object("frame", _read_frame if version > _LAST_OF_COLOUR_ALONE else _read_colour_frame),
        normalisation=fields.text("normalisation", choices=NORMALISATIONS),
        options=fields.settings("options", max_count=_MAX_WORDS, max_characters=_MAX_NAME),
        layout=fields.object("layout", _read_layout),
        graphs=fields.objects("graphs", _read_graph, max_count=MAX_GRAPHS),
        weights=fields.objects("weights", _read_weight, max_count=_MAX_ARRAYS),
        weights_bytes=fields.number("weights_bytes", 0, _MAX_BYTES),
        weights_sha256=_sha256(fields, "weights_sha256"),
        state_sha256=_sha256(fields, "state_sha256"),
        metadata=fields.words("metadata", max_count=_MAX_WORDS),
    )


def _classes(fields: JsonFields) -> tuple[str, ...]:
    classes = fields.texts("classes", max_count=_MAX_CLASSES, max_characters=_MAX_NAME)
    if len(classes) < 2:
        raise fields.error("classes", f"{len(classes)} classes, expected at least 2: there is nothing to tell apart")
    return classes


def _read_frame(fields: JsonFields) -> FrameSpec:
    resize = cast(Resize, fields.text("resize", choices=RESIZES))
    return replace(_read_sizes(fields, tuple(_COLOURS)), resize=resize, crop=fields.share("crop"))


def _read_colour_frame(fields: JsonFields) -> FrameSpec:
    """Of versions 1 and 2."""
    return _read_sizes(fields, (3,))


def _read_sizes(fields: JsonFields, channels: Sequence[int]) -> FrameSpec:
    frame = FrameSpec(
        channels=fields.number("channels", min(channels), max(channels)),
        height=fields.number("height", 1, _MAX_SIDE),
        width=fields.number("width", 1, _MAX_SIDE),
    )
    if frame.channels not in channels:
        raise fields.error("channels", f"{frame.channels}, expected {' or '.join(map(str, channels))}")
    fields.text("scale", choices=(frame.scale,))
    fields.text("colour", choices=(frame.colour,))
    return frame


def _read_layout(fields: JsonFields) -> StateLayout:
    layout = StateLayout(
        parameters=fields.objects("parameters", _read_array, max_count=_MAX_ARRAYS),
        statistics=fields.objects("statistics", _read_array, max_count=_MAX_ARRAYS),
    )
    for section in ("parameters", "statistics"):
        _refuse_twice(section, [array.name for array in getattr(layout, section)], fields)
    return layout


def _read_array(fields: JsonFields) -> ArrayShape:
    return ArrayShape(fields.text("name", max_characters=_MAX_NAME), _shape(fields))


def _read_port(fields: JsonFields) -> ArrayShape:
    array = _read_array(fields)
    known = tuple(ELEMENT_TYPES.values())
    return ArrayShape(array.name, array.shape, fields.text("dtype", choices=known)) if fields.has("dtype") else array


def _read_weight(fields: JsonFields) -> WeightEntry:
    array = _read_array(fields)
    return WeightEntry(array.name, array.shape, fields.number("offset", 0, _MAX_BYTES))


def _read_graph(fields: JsonFields) -> GraphEntry:
    name = fields.text("name", max_characters=_MAX_NAME)
    if not _GRAPH_NAME.fullmatch(name):
        raise fields.error("name", f"{name!r} is no name for a graph; expected up to 100 of a-z, 0-9, '.', '_', '-'")
    graph = GraphEntry(
        name=name,
        kind=cast(GraphKind, fields.text("kind", choices=get_args(GraphKind))),
        batch=fields.number("batch", 1, _MAX_BATCH),
        variant=fields.words("variant", max_count=_MAX_WORDS, max_characters=_MAX_NAME),
        nodes=fields.number("nodes", 1, _MAX_NODES),
        activation_bytes=fields.number("activation_bytes", 0, _MAX_STEP_BYTES),
        step_peak_bytes=fields.number("step_peak_bytes", 0, _MAX_STEP_BYTES),
        inputs=fields.objects("inputs", _read_port, max_count=_MAX_PORTS),
        outputs=fields.objects("outputs", _read_port, max_count=_MAX_PORTS),
        bytes=fields.number("bytes", 1, MAX_GRAPH_BYTES),
        sha256=_sha256(fields, "sha256"),
        sessions=fields.objects("sessions", _read_session, max_count=_MAX_SESSIONS) if fields.has("sessions") else (),
    )
    _refuse_twice("sessions", [session.optimisation for session in graph.sessions], fields)
    for key in ("inputs", "outputs"):
        _refuse_twice(key, [port.name for port in getattr(graph, key)], fields)
    return graph


def _read_session(fields: JsonFields) -> SessionFigures:
    return SessionFigures(
        optimisation=fields.text("optimisation", choices=OPTIMISATIONS),
        nodes=fields.number("nodes", 0, _MAX_NODES),
        **{
            key: fields.number(key, 0, _MAX_STEP_BYTES)
            for key in ("live_bytes", "arena_bytes", "copied_bytes", "mapped_bytes")
        },
        tenants=fields.objects("tenants", _read_tenant, max_count=_MAX_TENANTS),
    )


def _read_tenant(fields: JsonFields) -> Tenant:
    return Tenant(fields.text("name", max_characters=_MAX_NAME), fields.number("bytes", 0, _MAX_STEP_BYTES))


def _shape(fields: JsonFields) -> tuple[int, ...]:
    shape = fields.numbers("shape", 0, _MAX_BYTES, max_count=_MAX_RANK)
    if math.prod(shape) * _FLOAT_BYTES > _MAX_BYTES:
        raise fields.error("shape", f"{list(shape)} is more than {_MAX_BYTES} bytes, the most there is")
    return shape


def _sha256(fields: JsonFields, key: str) -> str:
    digest = fields.text(key, max_characters=_MAX_NAME)
    if not _SHA256.fullmatch(digest):
        raise fields.error(key, f"expected 64 hexadecimal digits, found {digest!r}")
    return digest


def _check_weights(manifest: Manifest, fields: JsonFields) -> None:
    _refuse_twice("weights", [entry.name for entry in manifest.weights], fields)
    end = 0
    before = ""
    for entry in sorted(manifest.weights, key=lambda entry: (entry.offset, entry.bytes)):
        if entry.offset % WEIGHT_ALIGNMENT:
            raise fields.error("weights", f"{entry.name!r} at byte {entry.offset}, no multiple of {WEIGHT_ALIGNMENT}")
        if entry.offset < end:
            raise fields.error(
                "weights", f"{entry.name!r} at byte {entry.offset} overlaps {before!r}, which ends at {end}"
            )
        end, before = entry.offset + entry.bytes, entry.name
    if end != manifest.weights_bytes:
        ends = f"{before!r} ends at byte {end}" if before else "none"
        raise fields.error("weights", f"{ends}, and weights.bin has {manifest.weights_bytes} bytes")


def _check_ports(manifest: Manifest, graph: GraphEntry, key: str, fields: JsonFields) -> None:
    if graph.kind in SINGLE_FRAME and graph.batch != 1:
        raise fields.error(f"{key}.batch", f"{graph.batch} frames in {graph.name!r}; {graph.kind} graphs are of 1")
    frame, layout = manifest.frame, manifest.layout
    sizes = {
        "N": graph.batch,
        "channels": frame.channels,
        "height": frame.height,
        "width": frame.width,
        "C": len(manifest.classes),
        "K": manifest.parts,
        "P": layout.parameter_count,
        "S": layout.statistic_count,
    }
    inputs, outputs = required_ports(graph.kind, sizes, manifest.normalisation)
    for what, found, required in (("inputs", graph.inputs, inputs), ("outputs", graph.outputs, outputs)):
        problem = find_other_port(found, required)
        if problem is not None:
            raise fields.error(
                f"{key}.{what}", f"{problem}, in the {graph.kind} graph {graph.name!r}; was it made for other frames?"
            )


def _refuse_twice(key: str, names: Sequence[str], fields: JsonFields) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise fields.error(key, f"the name {name!r} is given twice")
        seen.add(name)
