"""A method as a value: a network in frozen pieces, what learns in it, and from which losses.

    Method            what learns, how frames become logits and losses      one file a method: `ecotta`, `tent`
    Plain, Lean       with which operators: to read, and to run
    Step              differentiate, gate, update, statistics: the same for every method

A new method is a subclass: its losses, what learns (`learned_parameters`), and how frames become logits (`evaluate`).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, fx, nn

from ecotta_rt.bundle.ports import MethodPorts, ReportPort
from ecotta_rt.errors import UsageError
from ecotta_rt.method.cut.partition import Partition
from ecotta_rt.method.cut.tracing import shape_of
from ecotta_rt.method.lean.frozen import norms_of
from ecotta_rt.method.losses import entropy_nats
from ecotta_rt.method.plain import Plain
from ecotta_rt.method.statistics import Moments, Statistics
from ecotta_rt.options import StepOptions

__all__ = ["Gated", "Loss", "Method", "Named"]

Named = dict[str, Tensor]


class Loss(NamedTuple):
    """One term of what a method minimises.

    Attributes:
        name: What it is called; its summed gradients are the port `NAME_gradient`.
        mean_over: `kept`: one value a frame, averaged over those that passed the gate. `frames`: a mean over all.
        weight: Name of the option that weighs it; "" for 1.
    """

    name: str
    mean_over: Literal["kept", "frames"]
    weight: str = ""


class Gated(NamedTuple):
    """What the logits say of each frame."""

    entropy_nats: Tensor  # [N], for the report
    kept: Tensor  # bool [N], who learns
    loss: Tensor  # [N]


class Method(nn.Module, ABC):
    """A network that adapts by some method. Frozen norms use the statistics that a step hands them.

    Args:
        partition: The network in pieces. It is taken over, not copied: its parameters stop requiring gradients and its
            norms' momentum becomes 0.

    Attributes:
        name: What a bundle calls the method.
        losses: What it minimises: one that is a mean over kept frames, and any number of others.
        ignores: Options of a step that mean nothing to it.
        momenta: By norm name, the momentum of norms that have one of their own (see `statistics.py`).
    """

    name: ClassVar[str]
    losses: ClassVar[tuple[Loss, ...]]
    ignores: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, partition: Partition) -> None:
        super().__init__()
        self.partition = partition
        self.stem, self.head = partition.stem, partition.head
        self.parts = nn.ModuleList(part.module for part in partition.parts)
        for piece in self.frozen_pieces():
            piece.requires_grad_(False).eval()
        self.momenta: Mapping[str, float] = {}

    @abstractmethod
    def learned_parameters(self) -> Named:
        """What learns, by name, detached."""

    @abstractmethod
    def evaluate(
        self,
        form: Plain,
        options: StepOptions,
        parameters: Mapping[str, Tensor],
        statistics: Statistics,
        frames: Tensor,
        wanted: Collection[str] = (),
    ) -> tuple[Tensor, Named]:
        """Logits `[N, C]`, and by name the values of losses that are means over frames, in any shape: they are summed.

        Args:
            form: With which operators: `Plain`, or `Lean`, which is a kind of it.
            options: How to adapt.
            parameters: Values to use, by the names of `learned_parameters`.
            statistics: Normalise.
            frames: float32 `[N, C, H, W]` in [0, 1].
            wanted: Losses that will be differentiated; the others may be zeros.
        """

    def gate(self, logits: Tensor, options: StepOptions) -> Gated:
        """Which frames learn, and from what: here all of them from their entropy."""
        entropy = entropy_nats(logits)
        return Gated(entropy, torch.ones_like(entropy, dtype=torch.bool), entropy)

    def report(self) -> tuple[ReportPort, ...]:
        """What a step tells beside each frame's entropy and whether it was kept: values of `evaluate`'s losses."""
        return ()

    def ports(self, normalisation: str) -> MethodPorts:
        """What graphs of this method take and give."""
        gradients = tuple(f"{loss.name}_gradient" for loss in self.losses)
        return MethodPorts.of(self.name, gradients, self.report(), normalisation)

    def frozen_pieces(self) -> Iterator[fx.GraphModule]:
        """Stem, parts, head."""
        yield self.partition.stem
        yield from (part.module for part in self.partition.parts)
        yield self.partition.head

    def norms(self) -> dict[str, nn.BatchNorm2d]:
        """Every norm by the name its statistics have in a state, in the order that frames meet them."""
        return {name: norm for piece in self.frozen_pieces() for name, norm in norms_of(piece).items()}

    def set_momenta(self, momenta: Mapping[str, float]) -> None:
        """Give norms a momentum of their own, by name; all others follow the step's options.

        Raises:
            UsageError: No norm of that name, or a momentum outside [0, 1].
        """
        norms = self.norms()
        for name, momentum in momenta.items():
            if name not in norms:
                raise UsageError(f"momentum {momentum} for {name}: the network has no norm of that name")
            if not 0.0 <= momentum <= 1.0:
                raise UsageError(f"momentum {momentum} for {name}: must lie between 0 and 1")
        for name, norm in norms.items():
            norm.momentum = 0.0  # a forward pass in training mode must not move the buffers
            nn.Module.train(norm, momenta.get(name) != 0.0)  # held: normalised by its buffers
        self.momenta = dict(momenta)

    @property
    def held(self) -> frozenset[str]:
        """Names of norms that hold their statistics."""
        return frozenset(name for name, momentum in self.momenta.items() if momentum == 0.0)

    def train(self, mode: bool = True) -> "Method":
        """Leave every module's mode alone: norms stay on batch statistics, dropout of the frozen network stays off."""
        self.training = mode
        return self

    def source_statistics(self) -> dict[str, Moments]:
        """Moments in the norms' buffers, by norm name: running mean, and variance (unbiased, as torch keeps it)."""
        found = {}
        for name, norm in self.norms().items():
            assert norm.running_mean is not None and norm.running_var is not None
            found[name] = (norm.running_mean.clone(), norm.running_var.clone())
        return found

    def frame_shape(self) -> tuple[int, ...]:
        """(C, H, W) of the frames that the network was cut for."""
        entry = next(node for node in self.stem.graph.nodes if node.op == "placeholder")
        return shape_of(entry) or ()

    def output_shape(self) -> tuple[int, ...]:
        """What it gives for a frame: (classes,) where it gives logits."""
        return shape_of(self.head.graph.output_node().all_input_nodes[0]) or ()

    def digest(self) -> str:
        """sha256 of the frozen weights, of the cut and of `momenta`: a state fits only the network it came from."""
        sha = hashlib.sha256()
        for piece in self.frozen_pieces():
            for name, value in sorted(piece.state_dict().items()):
                if name.endswith("num_batches_tracked"):
                    continue
                sha.update(f"{name} {tuple(value.shape)};".encode())
                sha.update(value.detach().contiguous().numpy().tobytes())
            sha.update(b"|")
        for name, momentum in sorted(self.momenta.items()):
            sha.update(f"{name} {momentum!r};".encode())
        return sha.hexdigest()
