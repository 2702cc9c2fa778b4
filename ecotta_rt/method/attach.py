"""Put a meta group beside each part of a frozen network.

partition  ->  attach()  ->  AdaptableNetwork  ->  warm_up()  ->  step()
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, fx, nn

from ecotta_rt.errors import InputFileError, NetworkError, UsageError
from ecotta_rt.method.cut.partition import Partition
from ecotta_rt.method.lean.frozen import norms_of
from ecotta_rt.method.meta import PARAMETERS, MetaGroup
from ecotta_rt.method.statistics import Moments
from ecotta_rt.state import AdaptState

__all__ = ["AdaptableNetwork", "attach", "attach_as", "momenta_note"]

_MOMENTA = "momenta"
"""Name among a state's metadata."""


class AdaptableNetwork(nn.Module):
    """A frozen network in K parts with a meta group beside each; made by `attach`.

    `forward` is the plain form: ordinary modules, ordinary autograd. Warm-up trains it, and tests hold the lean step of
    `step.py` against it. Its norms use the statistics of the batch, and never move their buffers.

    Attributes:
        momenta: By norm name, the momentum of norms that have one of their own (see `statistics.py`).
    """

    def __init__(
        self, partition: Partition, groups: list[MetaGroup], momenta: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        super().__init__()
        self.partition = partition
        self.stem, self.head = partition.stem, partition.head
        self.parts = nn.ModuleList(part.module for part in partition.parts)
        self.groups = nn.ModuleList(groups)
        self.meta_groups = tuple(groups)  # the same modules, by their type
        for piece in self.frozen_pieces():
            piece.requires_grad_(False).eval()
        for norm in self.norms().values():
            norm.train()
            norm.momentum = 0.0  # a forward pass in training mode must not move the buffers
        self.momenta: Mapping[str, float] = {}
        self.set_momenta(momenta)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits `[N, C]` of float32 frames `[N, C, H, W]`."""
        return self.forward_with_features(frames)[0]

    def forward_with_features(self, frames: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits, and for each part the pair (group's output, frozen part's own output)."""
        x = self.stem(frames)
        pairs = []
        for part, group in zip(self.parts, self.meta_groups, strict=True):
            own = part(x)
            x = group(x, own)
            pairs.append((x, own))
        return self.head(x), pairs

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
            nn.Module.train(norm, momenta.get(name) != 0.0)  # held: normalised by its buffers
        self.momenta = dict(momenta)

    def train(self, mode: bool = True) -> "AdaptableNetwork":
        """Leave every module's mode alone: norms stay on batch statistics, dropout of the frozen network stays off."""
        self.training = mode
        return self

    def frozen_pieces(self) -> Iterator[fx.GraphModule]:
        """Stem, parts, head."""
        yield self.partition.stem
        yield from (part.module for part in self.partition.parts)
        yield self.partition.head

    def norms(self) -> dict[str, nn.BatchNorm2d]:
        """Every norm by the name its statistics have in a state, frozen ones first."""
        found: dict[str, nn.BatchNorm2d] = {}
        for piece in self.frozen_pieces():
            found.update(norms_of(piece))
        for index, group in enumerate(self.meta_groups):
            found[f"groups.{index}.norm"] = group.norm
            found[f"groups.{index}.conv_norm"] = group.conv_norm
        return found

    def group_parameters(self) -> dict[str, Tensor]:
        """What learns, by name (`groups.0.conv.weight`), detached."""
        own = dict(self.groups.named_parameters(prefix="groups"))
        return {f"groups.{k}.{p}": own[f"groups.{k}.{p}"].detach() for k in range(len(self.groups)) for p in PARAMETERS}

    def load_group_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """Write values of `group_parameters` back into the modules."""
        own = dict(self.groups.named_parameters(prefix="groups"))
        with torch.no_grad():
            for name, value in parameters.items():
                own[name].copy_(value)

    def source_statistics(self) -> dict[str, Moments]:
        """Moments in the norms' buffers, by norm name: running mean, and variance (unbiased, as torch keeps it)."""
        found = {}
        for name, norm in self.norms().items():
            assert norm.running_mean is not None and norm.running_var is not None
            found[name] = (norm.running_mean.clone(), norm.running_var.clone())
        return found

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


def attach(
    partition: Partition, kernel: int = 3, momenta: Mapping[str, float] = MappingProxyType({})
) -> AdaptableNetwork:
    """Freeze the network behind `partition` and put a fresh meta group beside each part.

    The network is taken over, not copied: its parameters stop requiring gradients and its norms' momentum becomes 0.

    Args:
        partition: From `prepare.partition.partition`.
        kernel: Side of the meta convolutions' window, odd. 3 for 32x32 networks; 1 for ResNet-50, where 3 would add
            24.9 M parameters.
        momenta: By norm name, the momentum of norms that have one of their own: 0 holds a norm's statistics.

    Raises:
        UsageError: An even or non-positive kernel, or a momentum of no norm.
        NetworkError: A BatchNorm that is called twice (its statistics would be two things under one name), or one
            without running statistics.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise UsageError(f"kernel={kernel}: a meta convolution needs an odd window, 1 or 3")
    _require_plain_norms(partition)
    groups = [MetaGroup(part.in_channels, part.out_channels, part.stride, kernel) for part in partition.parts]
    return AdaptableNetwork(partition, groups, momenta)


def attach_as(partition: Partition, state: AdaptState) -> AdaptableNetwork:
    """The groups that `state` was made with beside each part: their window and the momenta are read off it.

    Args:
        partition: Into as many parts as the state has groups.
        state: Its parameters are not loaded; see `engine.TorchEngine`.

    Raises:
        InputFileError: The state holds no meta groups, or damaged momenta.
    """
    weight = state.parameters.get("groups.0.conv.weight")
    if weight is None or weight.ndim != 4:
        raise InputFileError("this state has no groups.0.conv.weight [C', C, k, k], so it holds no meta groups")
    try:
        momenta = {str(name): float(u) for name, u in json.loads(state.metadata.get(_MOMENTA, "{}")).items()}
        return attach(partition, int(weight.shape[-1]), momenta)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputFileError(f"this state's momenta do not fit the network: {error}") from error


def momenta_note(network: AdaptableNetwork) -> dict[str, str]:
    """What a state's metadata must say so that `attach_as` can make `network` again."""
    return {_MOMENTA: json.dumps(dict(network.momenta))} if network.momenta else {}


def _require_plain_norms(partition: Partition) -> None:
    seen: set[str] = set()
    pieces = [partition.stem, *(part.module for part in partition.parts), partition.head]
    for piece in pieces:
        modules = dict(piece.named_modules())
        for node in piece.graph.nodes:
            norm = modules.get(str(node.target)) if node.op == "call_module" else None
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            if str(node.target) in seen:
                raise NetworkError(f"{node.target}: this BatchNorm is called twice; give each call a module of its own")
            if norm.running_mean is None:
                raise NetworkError(
                    f"{node.target}: this BatchNorm has no running statistics (track_running_stats=False)"
                )
            seen.add(str(node.target))
