"""Merge whole networks that come from one checkpoint: parameters by a weighted mean, norm statistics as Gaussians.

    parameters     sum w_i theta_i / sum w_i                  every floating tensor, scale and shift of norms too
    running_mean   mu  = sum n_i mu_i / N,  N = sum n_i
    running_var    var = sum n_i (var_i + (mu_i - mu)^2) / N  the variance of all frames taken together
    num_batches_tracked    the sum

n_i are the batches that a norm has counted: honest where all were trained with batches of one size. Networks without
running statistics (GroupNorm, LayerNorm) have only parameters. With a head that each network keeps, everything but the
head is merged.

The members are taken in the order of a digest of their tensors, so the order in which they are named changes nothing,
to the bit. All sums are float64, and no more is in memory than they and one network.

Source:
    Li et al. 2024, Training-Free Model Merging for Multi-target Domain Adaptation, ECCV, arXiv 2407.13771; its public
    code is where the two rules are from. It starts from networks adapted from one checkpoint: others are not connected
    by weights of low error, and `ecotta_rt.merging.connectivity` tells them apart.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.errors import CheckpointError, InputFileError, UsageError
from ecotta_rt.fleet.pooling import PooledMoments
from ecotta_rt.merging.members import Member
from ecotta_rt.prepare.snapshot import weights_digest
from ecotta_rt.prepare.storing import inner

__all__ = ["MergedNetworks", "Part", "find_head", "is_shared", "merge_networks"]

_MEAN, _VAR, _TRACKED = "running_mean", "running_var", "num_batches_tracked"
_LISTED = 3
_MOST_TRACKED = 2**62  # more does not fit into the buffer
_NONE = torch.tensor(0)

Report = Callable[[int, int, str], None]
"""Called with networks read so far, how many readings there are, and which file is next."""


@dataclass(frozen=True)
class Part:
    """What went in, without its name: the merged file does not depend on what its inputs were called.

    Attributes:
        digest: SHA-256 of its tensors.
        weight: Share of the parameters; all shares add up to 1.
        count: As given; None: as its norms counted.
    """

    digest: str
    weight: float
    count: float | None


@dataclass(frozen=True, eq=False)
class MergedNetworks:
    """The result of `merge_networks`.

    Attributes:
        shared: Merged tensors by name, in the networks' dtypes.
        heads: What each member keeps, in the order they were given; empty mappings without a head.
        parts: In the order in which they were summed up.
        counted: Norms were pooled by counts; where not, by the weights, for want of them. None: there are no norms.
    """

    shared: Mapping[str, Tensor]
    heads: tuple[Mapping[str, Tensor], ...]
    parts: tuple[Part, ...]
    counted: bool | None

    @torch.no_grad()
    def fill(self, network: nn.Module, place: int = 0) -> nn.Module:
        """Put it into a network as the members are, in place, with the head of the member at `place`; returns it."""
        inner(network).load_state_dict({**self.shared, **self.heads[place]})
        return network


def find_head(network: nn.Module) -> str:
    """The module of the last tensor: the classifier of most networks. UsageError where that is all of it."""
    keys = list(inner(network).state_dict())
    head = keys[-1].rpartition(".")[0] if keys else ""
    if not head or all(not is_shared(key, head) for key in keys):
        raise UsageError("no head is found in the network; name it: --head PREFIX, as its tensors' names begin")
    return head


def is_shared(key: str, head: str | None) -> bool:
    """Whether a tensor of this name is merged: it is not of the module `head`."""
    return head is None or not (key == head or key.startswith(f"{head}."))


@torch.no_grad()
def merge_networks(
    members: Sequence[Member], *, head: str | None = None, report: Report | None = None
) -> MergedNetworks:
    """Merge networks. That they share an origin is not asked here: see `ecotta_rt.merging.connectivity`.

    Args:
        members: At least two; each is opened twice.
        head: Name of the module that each keeps, such as `fc`; None: all is merged.
        report: See `Report`.

    Raises:
        UsageError: Fewer than two, or a head that is not in the networks.
        CheckpointError: Tensors of other names or shapes than the first one's, or whole numbers that differ.
        InputFileError: NaN or infinite values.
    """
    if len(members) < 2:
        raise UsageError(f"{len(members)} network to merge: give at least two")
    total = 2 * len(members)
    looked: list[_Looked] = []
    for place, member in enumerate(members):
        if report:
            report(place, total, member.name)
        looked.append(_look(place, member, head))
        _require_fitting(looked[0], looked[-1])
    counted = all(one.counted for one in looked)
    whole = math.fsum(member.weight for member in members)  # the same in any order
    sums = _Sums(looked[0], counted, whole)
    heads: dict[int, Mapping[str, Tensor]] = {}
    order = sorted(looked, key=lambda one: (one.digest, one.member.weight, one.member.count or 0.0))
    for done, one in enumerate(order):
        if report:
            report(len(members) + done, total, one.member.name)
        state = inner(one.member.open()).state_dict()
        sums.add(state, one.member)
        heads[one.place] = {key: value.clone() for key, value in state.items() if not is_shared(key, head)}
        del state  # before the next one is opened
    parts = tuple(Part(one.digest, one.member.weight / whole, one.member.count) for one in order)
    in_order = tuple(heads[place] for place in range(len(members)))
    return MergedNetworks(sums.result(), in_order, parts, counted if looked[0].norms else None)


@dataclass(frozen=True, eq=False)
class _Looked:
    """A member that was read once.

    Attributes:
        place: As given.
        member: It.
        digest: Of all its tensors.
        kinds: Shape and dtype of each that is merged.
        fixed: Those of whole numbers, which have to be the same in all; without the norms' counts.
        norms: Prefixes of the norms with running statistics.
        counted: Whether it can be told how much is behind its statistics.
    """

    place: int
    member: Member
    digest: str
    kinds: Mapping[str, tuple[torch.Size, torch.dtype]]
    fixed: Mapping[str, Tensor]
    norms: tuple[str, ...]
    counted: bool


def _look(place: int, member: Member, head: str | None) -> _Looked:
    network = inner(member.open())
    state = network.state_dict()
    if head is not None and all(is_shared(key, head) for key in state):
        tops = ", ".join(name for name, module in network.named_children() if module.state_dict())
        raise UsageError(f"--head {head}: {member.name} has no such module; it has {tops}")
    shared = {key: value for key, value in state.items() if is_shared(key, head)}
    if not shared:
        raise UsageError(f"--head {head}: nothing but the head is in {member.name}, so there is nothing to merge")
    for key, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise InputFileError(f"{member.name}: '{key}' holds NaN or infinite values; leave this network out")
    negative = next((key for key, value in shared.items() if key.endswith(_VAR) and bool((value < 0).any())), None)
    if negative is not None:
        raise InputFileError(f"{member.name}: '{negative}' holds a negative variance; leave this network out")
    norms = tuple(
        key.removesuffix(_MEAN)
        for key in shared
        if key.endswith(_MEAN) and f"{key.removesuffix(_MEAN)}{_VAR}" in shared
    )
    return _Looked(
        place,
        member,
        weights_digest(network),
        {key: (value.shape, value.dtype) for key, value in shared.items()},
        {key: value for key, value in shared.items() if not value.is_floating_point() and not key.endswith(_TRACKED)},
        norms,
        member.count is not None or all(int(shared.get(f"{norm}{_TRACKED}", _NONE)) > 0 for norm in norms),
    )


def _require_fitting(first: _Looked, other: _Looked) -> None:
    """Refuse, with the file and the tensors named, what is not the first one's network."""
    name, names = other.member.name, first.member.name
    for has, lacks in ((first, other), (other, first)):
        missing = [key for key in has.kinds if key not in lacks.kinds]
        if missing:
            raise CheckpointError(f"{name}: {has.member.name} has {_listed(missing)}, {lacks.member.name} has not")
    unlike = [key for key, kind in first.kinds.items() if kind[0] != other.kinds[key][0]]
    if unlike:
        both = ("x".join(map(str, one.kinds[unlike[0]][0])) or "scalar" for one in (other, first))
        raise CheckpointError(
            f"{name}: {_listed(unlike)} of another shape than in {names}, {' and '.join(both)}: not the same network; "
            "where only their classifiers differ, --head keeps each network's own"
        )
    differing = [key for key, value in first.fixed.items() if not torch.equal(value, other.fixed[key])]
    if differing:
        raise CheckpointError(
            f"{name}: {_listed(differing)} of whole numbers, other ones than in {names}; they have no mean"
        )


class _Sums:
    """What grows while one network after the other is read."""

    def __init__(self, like: _Looked, counted: bool, whole: float) -> None:
        self._like, self._counted, self._whole = like, counted, whole
        statistics = {f"{norm}{name}" for norm in like.norms for name in (_MEAN, _VAR)}
        self._means = {
            key: torch.zeros(shape, dtype=torch.float64)
            for key, (shape, dtype) in like.kinds.items()
            if dtype.is_floating_point and key not in statistics
        }
        self._pools = {norm: PooledMoments(like.kinds[f"{norm}{_MEAN}"][0].numel()) for norm in like.norms}
        self._tracked = {key: 0 for key in like.kinds if key.endswith(_TRACKED)}

    def add(self, state: Mapping[str, Tensor], member: Member) -> None:
        for key, mean in self._means.items():
            mean.add_(state[key].double(), alpha=member.weight)
        for norm, pool in self._pools.items():
            count = member.weight
            if self._counted:
                count = float(state[f"{norm}{_TRACKED}"]) if member.count is None else member.count
            pool.add(_numbers(state[f"{norm}{_MEAN}"]), _numbers(state[f"{norm}{_VAR}"]), count)
        for key in self._tracked:
            self._tracked[key] = min(self._tracked[key] + int(state[key]), _MOST_TRACKED)

    def result(self) -> dict[str, Tensor]:
        """The merged tensors; what was summed up is given away."""
        found: dict[str, Tensor] = {}
        for key in list(self._means):
            found[key] = self._means.pop(key).div_(self._whole).to(self._like.kinds[key][1])
        for norm, pool in self._pools.items():
            for name, values in ((_MEAN, pool.means), (_VAR, pool.variances)):
                shape, dtype = self._like.kinds[f"{norm}{name}"]
                found[f"{norm}{name}"] = torch.from_numpy(values).reshape(shape).to(dtype)
        for key, value in found.items():
            if not bool(torch.isfinite(value).all()):
                raise InputFileError(f"{self._like.member.name} and others: '{key}' is too large to be merged")
        return found | dict(self._like.fixed) | {key: torch.tensor(count) for key, count in self._tracked.items()}


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.double().flatten().numpy()


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(f"'{key}'" for key in keys[:_LISTED]) + more
