"""Every method of the benchmark by id, and the one way to build it.

Torch is imported when a method is built, not when the list is read: `ecotta-bench --help` stays quick.
"""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ecotta_rt.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ecotta_rt.bench.peers.peer import Peer
    from ecotta_rt.state import AdaptState

__all__ = ["DEFAULT_METHODS", "METHODS", "MethodEntry", "build_method", "expand"]


@dataclass(frozen=True)
class MethodEntry:
    """One line of the list of methods.

    Attributes:
        description: What it does, in a phrase.
        trains: What it changes: `nothing`, `batch norm scale and shift`, `all weights` or `meta groups`.
        maker: `module:class` inside this package; it takes the network and keywords.
        fixed: Keywords that make it this method and no other.
        takes: Which of `build_method`'s own keywords it wants.
        one_by_one: Whether it takes a single frame as it takes a batch; EcoTTA's depends on its normalisation.
        follows: Whether it runs a bundle as it is meant to run on a device: its statistics follow by the bundle's own
            rule and its answers are filtered, in onnxruntime alone and in `running` normalisation.
        untimed: Why its step alone cannot be timed; None where it can.
    """

    description: str
    trains: str
    maker: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    one_by_one: bool = False
    follows: bool = False
    untimed: str | None = None

    @property
    def graph(self) -> str | None:
        """The graph by which onnxruntime runs it: `forward` (inference alone), `step` or `predict` (of a bundle).

        None where there is none: onnxruntime's inference package has no autodiff, so a method runs there when its
        whole step was compiled on the host.
        """
        if self.maker == "source:Source":
            return "forward"
        if self.maker == "tent:Tent" and not self.fixed:
            return "step"
        if self.maker != "ecotta:Ecotta":
            return None
        return "step" if self.fixed.get("adapting", True) else "predict"

    @property
    def resource(self) -> str | None:
        """Kind of the file beside the network that it starts from; None where it needs none."""
        if "warmed" in self.takes:
            return f"ecotta-k{self.fixed['parts']}"
        return "fine-tuned" if "fine_tuned" in self.takes else None

    @property
    def has_own_learning_rate(self) -> bool:
        """Whether it is a peer that learns: its step size is not that of `StepOptions`."""
        return self.trains != "nothing" and "warmed" not in self.takes


_AFFINE = "batch norm scale and shift"
_CHOOSES = "its time depends on the frames it chooses"
_SELDOM = "it learns once in many frames"

METHODS: Mapping[str, MethodEntry] = MappingProxyType(
    {
        "source": MethodEntry("the network as trained, no adaptation", "nothing", "source:Source", one_by_one=True),
        "bn": MethodEntry("statistics of the test batch in every norm", "nothing", "bn:BatchNormStatistics"),
        "tent": MethodEntry("entropy minimisation, never reset; see below for its optimiser", _AFFINE, "tent:Tent"),
        "tent-episodic": MethodEntry(
            "TENT, reset where the corruption changes",
            _AFFINE,
            "tent:Tent",
            fixed={"name": "tent-episodic", "episodic": True},
        ),
        "eata": MethodEntry(
            "entropy of reliable, new frames, held near the source",
            _AFFINE,
            "eata:Eata",
            takes=("source_frames",),
            untimed=_CHOOSES,
        ),
        "cotta": MethodEntry(
            "student and augmentation-averaged teacher; up to 36 forward passes a frame",
            "all weights",
            "cotta:Cotta",
            takes=("seed",),
        ),
        "rotta": MethodEntry(
            "teacher of a class-balanced memory of 64 frames, an update every 64; robust statistics",
            _AFFINE,
            "rotta:Rotta",
            takes=("classes", "seed"),
            one_by_one=True,
            untimed=_SELDOM,
        ),
        "note": MethodEntry(
            "norms corrected for each frame; entropy of a balanced memory of 64 frames, an update every 64",
            _AFFINE,
            "note:Note",
            takes=("classes", "seed"),
            one_by_one=True,
            untimed=_SELDOM,
        ),
        "sar": MethodEntry(
            "entropy of reliable frames and its sharpness; returns to the source where that is very low",
            _AFFINE,
            "sar:Sar",
            untimed=_CHOOSES,
        ),
        "lame": MethodEntry(
            "answers to a batch corrected by their likeness; source statistics", "nothing", "lame:Lame", one_by_one=True
        ),
        "roid": MethodEntry(
            "weighted likelihood ratio and consistency, drawn back to the source; prior of the batch",
            _AFFINE,
            "roid:Roid",
            takes=("seed",),
            untimed=_CHOOSES,
        ),
        "rdumb": MethodEntry(
            "EATA without its regulariser, reset every 1,000 steps", _AFFINE, "rdumb:RDumb", untimed=_CHOOSES
        ),
        "ecotta-k4": MethodEntry(
            "meta groups beside 4 frozen parts", "meta groups", "ecotta:Ecotta", {"parts": 4}, ("warmed",)
        ),
        "ecotta-k5": MethodEntry(
            "meta groups beside 5 frozen parts", "meta groups", "ecotta:Ecotta", {"parts": 5}, ("warmed",)
        ),
        "ecotta-k4-constant": MethodEntry(
            "ecotta-k4, the frozen norms' statistics held constant in the backward: faster, an approximation",
            "meta groups",
            "ecotta:Ecotta",
            {"parts": 4, "frozen_gradient": "constant"},
            ("warmed",),
        ),
        "ecotta-k4-warmed": MethodEntry(
            "control: the warmed-up meta groups of ecotta-k4, not adapting",
            "nothing",
            "ecotta:Ecotta",
            {"parts": 4, "adapting": False},
            ("warmed",),
        ),
        "ecotta-k4-followed": MethodEntry(
            "the device's default: statistics by the bundle's own rule, filtered answers, not learning; onnx alone",
            "nothing",
            "ecotta:Ecotta",
            {"parts": 4, "adapting": False},
            ("warmed",),
            follows=True,
        ),
        "oracle-k4": MethodEntry(
            "ecotta-k4 learning from the true labels: a bound on what learning can bring",
            "meta groups",
            "oracle:Oracle",
            {"parts": 4},
            ("warmed", "labels"),
            untimed="it learns from true labels, which no camera has",
        ),
        # EcoTTA's warm-up shows labelled source frames to the meta groups, so part of its lead may be that second
        # training. Here the source network gets the same frames, augmentation, schedule and number of steps
        # (`ecotta_rt.prepare.warmup.fine_tune`), with all its weights training; then TENT adapts it as usual.
        "tent-fine-tuned": MethodEntry(
            "control: TENT on a network fine-tuned on the warm-up data",
            _AFFINE,
            "tent:Tent",
            fixed={"name": "tent-fine-tuned", "episodic": False},
            takes=("fine_tuned",),
        ),
    }
)
"""Method ids in the order in which results are shown."""

DEFAULT_METHODS: tuple[str, ...] = ("source", "bn", "tent", "eata", "ecotta-k4", "ecotta-k4-warmed")
"""What runs when nobody chooses, in some three minutes on two cores: no adaptation, statistics, the two common ways to
learn, ours, and the control that shows what our learning adds. CoTTA alone would take twice as long as these together;
the others are variants of these, and TENT on a network fine-tuned alike."""


def expand(names: Iterable[str] = ()) -> tuple[str, ...]:
    """Turn what a user wrote into method ids.

    Args:
        names: Ids; `all` stands for every method. None at all gives the default set.

    Returns:
        Each id once, in the order first named.

    Raises:
        UsageError: An id is unknown; the message lists all and the nearest.

    >>> expand(["tent", "source", "tent"])
    ('tent', 'source')
    """
    chosen: dict[str, None] = {}
    for name in names:
        if name == "all":
            chosen.update(dict.fromkeys(METHODS))
        else:
            _entry(name)
            chosen[name] = None
    return tuple(chosen) or DEFAULT_METHODS


def build_method(
    name: str,
    network: "nn.Module",
    /,
    *,
    classes: int,
    source_frames: "Tensor | None" = None,
    warmed: "AdaptState | None" = None,
    fine_tuned: "nn.Module | None" = None,
    seed: int = 0,
    views: int = 1,
    **options: Any,
) -> "Peer":
    """Build a method around a copy of the network.

    Args:
        name: A key of `METHODS`.
        network: Takes frames float32 `[N, C, H, W]` in [0, 1], returns logits `[N, classes]`. Never changed.
        classes: Number of classes, at least 2.
        source_frames: float32 `[M, C, H, W]`, unlabelled frames of the training distribution, shuffled; for EATA,
            which without them runs as ETA and calls itself `eta`.
        warmed: Warmed-up meta groups; for the EcoTTA methods.
        fine_tuned: The network fine-tuned on the warm-up data; `tent-fine-tuned` adapts it instead.
        seed: Of whatever the method draws at random.
        views: 2 averages the answers to each frame and its mirror image; see `Peer`.
        **options: Hyper-parameters of the method, by the name they have in its class.

    Raises:
        UsageError: An unknown method or option, fewer than 2 classes, neither 1 nor 2 views, or something missing that
            the method needs.
        NetworkError: The network has nothing that the method could adapt.
    """
    entry = _entry(name)
    from ecotta_rt.bench.peers.peer import require_classes  # imports torch

    require_classes(classes)
    if entry.follows:
        raise UsageError(f"{name} runs a bundle by its own rule, in onnxruntime alone; use --engine onnx")
    if views not in (1, 2):
        raise UsageError(f"views={views}: 1 is the frame alone, 2 the frame and its mirror image")
    maker = _maker(entry)
    _require_options(name, entry, maker, options)
    if "fine_tuned" in entry.takes:
        network = _fine_tuned(network, fine_tuned)
    resources = {"classes": classes, "source_frames": source_frames, "warmed": warmed, "seed": seed}
    wanted = {key: resources[key] for key in entry.takes if key in resources}
    method: Peer = maker(network, **entry.fixed, **wanted, **options)
    method.views = views
    return method


def _fine_tuned(source: "nn.Module", fine_tuned: "nn.Module | None") -> "nn.Module":
    if fine_tuned is None:
        raise UsageError(
            "tent-fine-tuned needs the network fine-tuned on the warm-up data; "
            "make it with ecotta_rt.prepare.warmup.fine_tune"
        )
    shapes, expected = ({name: p.shape for name, p in net.named_parameters()} for net in (fine_tuned, source))
    if shapes != expected:
        raise UsageError("the fine-tuned network is not the source network: names or shapes of its parameters differ")
    return fine_tuned


def _entry(name: str) -> MethodEntry:
    if name in METHODS:
        return METHODS[name]
    # A beginning counts more than likeness: `ecotta` is nearer to `cotta` by letters, but means `ecotta-k4`.
    begun = [known for known in METHODS if name and known.startswith(name.lower())]
    import difflib  # a measured process has no use for it

    nearest = begun or difflib.get_close_matches(name.lower(), METHODS, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise UsageError(f"unknown method {name!r}, known are {', '.join(METHODS)} and all{hint}")


def _maker(entry: MethodEntry) -> Callable[..., "Peer"]:
    module, _, attribute = entry.maker.partition(":")
    maker: Callable[..., Peer] = getattr(importlib.import_module(f"ecotta_rt.bench.peers.{module}"), attribute)
    return maker


def _require_options(name: str, entry: MethodEntry, maker: Callable[..., "Peer"], options: Mapping[str, Any]) -> None:
    keywords = (p.name for p in inspect.signature(maker).parameters.values() if p.kind is p.KEYWORD_ONLY)
    known = [keyword for keyword in keywords if keyword not in entry.fixed and keyword not in entry.takes]
    unknown = sorted(set(options) - set(known))
    if unknown:
        offered = ", ".join(known) if known else "none"
        raise UsageError(f"{name} has no option {', '.join(unknown)}; its options are: {offered}")
