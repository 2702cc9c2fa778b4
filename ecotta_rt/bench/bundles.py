"""Find the bundle and the inference-only graph that a run needs, or say where they would be made.

A bundle is looked for in this order; the first that has what is wanted is taken:

    named by the user                                                     must have it
    beside the network, where `ecotta prepare` wrote it, for a method     net.ecotta, which has a rule
        that follows the stream by the bundle's own rule
    beside the network, or in the folder `bundles` beside that, and       wrn-40-2-cifar-10.ecotta-k4.running.ecotta
        written by this very code
    in the cache, $ECOTTA_CACHE or ~/.cache/ecotta_rt                     its name has a digest of all it was made from

What is in the cache under that name was made from these weights, by this code, with these options; what is not there
is made once, by `exporting`. This side never imports torch.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ecotta_rt.bench.adaptation import ADAPTATION, TENT_ADAPTATION
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bundle import GraphEntry, Manifest, read_bundle
from ecotta_rt.errors import InputFileError, Unavailable, UsageError
from ecotta_rt.exporter.code_digest import code_digest
from ecotta_rt.state import AdaptState

__all__ = [
    "BundleOrder",
    "ForwardOrder",
    "cache_folder",
    "check_bundle",
    "find_bundle",
    "graph_for",
    "normalisation_of",
    "note_on_code",
]

VARIABLE = "ECOTTA_CACHE"
_HERE = Path(__file__).resolve().parent
# Beside what `code_digest` counts, what decides what a bundle or an inference-only graph holds.
_MAKERS = (
    "adaptation.py",
    "peers/export_worker.py",
    "peers/forward_graph.py",
    "peers/forward_time.py",
)
_KEY_DIGITS = 16


@dataclass(frozen=True)
class ForwardOrder:
    """The inference-only graph of a network: no meta groups, source statistics folded into the convolutions.

    Attributes:
        network: File of the trained network.
        batch: Frames a run.
        frame_size: Height and width.
    """

    network: str
    batch: int
    frame_size: tuple[int, int] = (32, 32)

    def path(self) -> Path:
        """Where it is kept; it may be missing."""
        return _cached(self, [self.network], f"{_stem(self.network)}.forward-{self.batch}", ".onnx")


@dataclass(frozen=True)
class BundleOrder:
    """A bundle that some methods need.

    Attributes:
        network: File of the trained network.
        warmed: File of the warmed-up meta groups; None for TENT, which has none.
        normalisation: `batch`, `running` or `source`.
        gradient: `exact` or `constant`; counts in `batch` normalisation alone.
        batches: Frames a step, a graph for each.
        frame_by_frame: Whether the graphs that learn frame by frame are wanted too.
        fast: Whether the steps of more memory and less time are wanted too.
        classes: Class names by logit.
        frame_size: Height and width.
        follows: Whether it has to have a rule of its own by which statistics follow the stream; for methods that do not
            learn. Such a bundle is found and never made here: the rule is found with the source data.
    """

    network: str
    warmed: str | None
    normalisation: str
    gradient: str
    batches: tuple[int, ...]
    frame_by_frame: bool
    fast: bool
    classes: tuple[str, ...]
    frame_size: tuple[int, int] = (32, 32)
    follows: bool = False

    @property
    def mode(self) -> str:
        """How such bundles are called: the normalisation, and `batch-constant`."""
        constant = self.normalisation == "batch" and self.gradient == "constant"
        return "batch-constant" if constant else self.normalisation

    @property
    def method(self) -> str:
        """What bundles call the method."""
        return "tent" if self.warmed is None else "ecotta"

    @property
    def name(self) -> str:
        """How such a bundle is called, without suffix."""
        return f"{_stem(self.warmed or self.network)}{'' if self.warmed else '.tent'}.{self.mode}"

    def cached_path(self) -> Path:
        """Where one that is made for this order is kept; it may be missing."""
        return _cached(self, [file for file in (self.network, self.warmed) if file], self.name, ".ecotta")


def cache_folder() -> Path:
    """Where things are kept that take long to make: `$ECOTTA_CACHE`, else `ecotta_rt` in the user's cache folder.

    Raises:
        UsageError: The user has no home folder, and no variable names another.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if cache.startswith("~"):
        raise UsageError(f"this user has no home folder to keep results in: set {VARIABLE} to a folder")
    return Path(cache) / "ecotta_rt"


def find_bundle(order: BundleOrder, say: Callable[[str], None]) -> Path | None:
    """A bundle that has all that is ordered, the fast steps too; None where one has to be made.

    Args:
        order: What is wanted.
        say: Hears which bundle is passed over, and why.

    Raises:
        InputFileError: The order's warmed-up meta groups cannot be read.
        Unavailable: There is none, and none can be made without source data.
    """
    state_sha256 = _state_sha256(order)
    network = Path(order.network)
    names = [f"{order.name}.ecotta", *([f"{_stem(order.network)}.ecotta"] if order.follows else [])]
    for path in (folder / name for name in names for folder in (network.parent, network.parent.parent / "bundles")):
        if path.is_file():
            reason = _unusable(path, order, state_sha256)
            if reason is None:
                return path
            say(f"{path} is passed over: {reason}")
    if order.follows:
        raise Unavailable(
            f"{network.with_name(names[-1])} is missing: it says by which rule statistics follow the stream, and "
            "`ecotta prepare NETWORK --data SOURCE` finds it; or name a bundle with --bundle"
        )
    cached = order.cached_path()
    return cached if cached.is_file() else None


def check_bundle(path: Path, order: BundleOrder) -> None:
    """Refuse a bundle that the user named and that has not what is ordered. Fast steps are taken where they are.

    Raises:
        UsageError: It is of another network, state, normalisation, gradient or batch size, or adapts otherwise than the
            bench does; the message says which.
        InputFileError: It is no bundle, or the order's warmed-up meta groups cannot be read.
    """
    reason = _lacks(read_bundle(path).manifest, order, _state_sha256(order))
    if reason is not None:
        raise UsageError(f"--bundle {path}: {reason}")


def normalisation_of(path: Path) -> str:
    """The normalisation of a bundle.

    Raises:
        InputFileError: It is no bundle.
    """
    return read_bundle(path, verify=False).manifest.normalisation


def note_on_code(path: Path) -> str | None:
    """What to tell about a bundle that the user named and that other code wrote; None where this code did.

    Raises:
        InputFileError: It is no bundle.
    """
    if _of_this_code(read_bundle(path, verify=False).manifest):
        return None
    return f"--bundle {path} was made by other code than this: its figures are those of that code"


def graph_for(manifest: Manifest, kind: str, batch: int, fast: bool = False) -> GraphEntry | None:
    """A graph of that kind and batch; the one of more memory and less time only where `fast` asks for it."""
    return next(
        (graph for graph in manifest.graphs if (graph.kind, graph.batch) == (kind, batch) and graph.fast == fast),
        None,
    )


def _unusable(path: Path, order: BundleOrder, state_sha256: str | None) -> str | None:
    """Why a bundle that nobody named is not taken, in words."""
    try:
        manifest = read_bundle(path).manifest
    except InputFileError as error:
        return str(error)
    if not _of_this_code(manifest):
        return "it was made by other code than this"
    if order.fast and not any(graph_for(manifest, "step", batch, True) for batch in order.batches):
        return "it has no fast step"
    return _lacks(manifest, order, state_sha256)


def _of_this_code(manifest: Manifest) -> bool:
    return manifest.metadata.get("exporter") == code_digest()


def _state_sha256(order: BundleOrder) -> str | None:
    """Of the state that it begins with; None where that is the network's own."""
    if order.warmed is None:
        return None
    return hashlib.sha256(AdaptState.load(order.warmed).to_bytes()).hexdigest()


def _lacks(manifest: Manifest, order: BundleOrder, state_sha256: str | None) -> str | None:
    """What the bundle has not, in words."""
    if manifest.normalisation != order.normalisation:
        return (
            f"its normalisation is {manifest.normalisation}, and {order.normalisation} was asked for; "
            f"add --normalisation {manifest.normalisation}"
        )
    if manifest.ports.name != order.method:
        return f"it holds {manifest.ports.name}, and {order.method} was asked for"
    gradient = manifest.options.get("frozen_gradient")
    if order.normalisation == "batch" and gradient != order.gradient:
        return f"its gradient is {gradient}, and {order.gradient} was asked for; add --gradient {gradient}"
    if state_sha256 is None and manifest.metadata.get("network_sha256") != sha256_of(Path(order.network)):
        return f"it was not made from {order.network}"
    if state_sha256 not in (None, manifest.state_sha256, manifest.metadata.get("warmed_sha256")):
        return f"it was not made from {order.warmed}"
    if order.follows and not manifest.adaptation:
        return "it has no rule by which statistics follow the stream; prepare it again"
    other = [
        f"{name} {manifest.options.get(name, 'not set')} where the bench has {value}"
        for name, value in (TENT_ADAPTATION if order.warmed is None else ADAPTATION).items()
        if not order.follows
        if manifest.options.get(name) != value
    ]
    if other:
        return f"it adapts otherwise than the other contestants: {', '.join(other)}; export it again with the bench's"
    for batch in order.batches:
        kinds = ("observe", "predict") if order.follows else ("step", "predict")
        missing = [kind for kind in kinds if graph_for(manifest, kind, batch) is None]
        if missing:
            sizes = sorted({graph.batch for graph in manifest.graphs if graph.kind == kinds[0]})
            return f"it has no {missing[0]} for {batch} frames, only for {sizes}; change --batch, or export it again"
    if order.frame_by_frame and graph_for(manifest, "accumulate", 1) is None:
        return "it has no graph that learns frame by frame; export it again with --frame-by-frame"
    return None


def _stem(file: str) -> str:
    return Path(file).name.removesuffix(".safetensors")


def _cached(order: object, files: list[str], name: str, suffix: str) -> Path:
    facts: Mapping[str, object] = {
        # Where the files lie is no matter, what is in them is.
        **{key: value for key, value in asdict(order).items() if key not in ("network", "warmed")},  # type: ignore[call-overload]
        "files": [sha256_of(Path(file)) for file in files],
        "code": _code_digest(),
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]
    return cache_folder() / f"{name}.{key}{suffix}"


def _code_digest() -> str:
    """Of the code that makes bundles: one from before a change must not be measured for one from after it."""
    digest = hashlib.sha256(code_digest().encode())
    for name in _MAKERS:
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()
