"""The bundle, `NAME.ecotta`: the one file that crosses from host to device.

    write_bundle()  ->  net.ecotta  ->  read_bundle()  ->  Bundle

It holds a manifest, plain ONNX graphs, the frozen weights and the initial state, in a zip without compression; so a
phone or a browser uses the same file with its own onnxruntime, and the weights are memory-mapped where they lie.
The format is docs/bundle-format.md.

Not here: making graphs (`ecotta_rt.exporter`) and running them (`ecotta_rt.runtime`).
"""

from ecotta_rt.bundle.layout import ArrayShape, StateLayout
from ecotta_rt.bundle.manifest import (
    MAX_GRAPH_BYTES,
    MAX_GRAPHS,
    MAX_MANIFEST_BYTES,
    RESIZES,
    WEIGHT_ALIGNMENT,
    FrameSpec,
    GraphEntry,
    GraphKind,
    Manifest,
    Resize,
    WeightEntry,
    place_weights,
)
from ecotta_rt.bundle.reading import Bundle, read_bundle
from ecotta_rt.bundle.writing import MAX_BUNDLE_BYTES, PAGE_BYTES, GraphFacts, write_bundle

__all__ = [
    "MAX_BUNDLE_BYTES",
    "MAX_GRAPHS",
    "MAX_GRAPH_BYTES",
    "MAX_MANIFEST_BYTES",
    "PAGE_BYTES",
    "RESIZES",
    "WEIGHT_ALIGNMENT",
    "ArrayShape",
    "Bundle",
    "FrameSpec",
    "GraphEntry",
    "GraphFacts",
    "GraphKind",
    "Manifest",
    "Resize",
    "StateLayout",
    "WeightEntry",
    "place_weights",
    "read_bundle",
    "write_bundle",
]
