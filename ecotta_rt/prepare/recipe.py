"""How a bundle shall follow its stream: worked out from source frames, with the network as it is after the warm-up.

Each frame's own statistics, by class, give the class tables, and those at the first norm the key that tells places
apart; a norm whose channels tell classes apart is held at the
source's statistics, and the others follow, with the class of each frame taken out. Labels are not needed: the tables
from the network's own answers are as good.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Channels, Moments
from ecotta_rt.adapt.class_tables import ClassTables, between_class_share, measure_classes
from ecotta_rt.adapt.places import Key
from ecotta_rt.bundle.layout import StateLayout
from ecotta_rt.bundle.tables import Table
from ecotta_rt.method.attach import momenta_note
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.state import to_adapt_state, to_step_state
from ecotta_rt.method.step import Step
from ecotta_rt.options import TRACKED, AdaptationOptions, StepOptions
from ecotta_rt.state import AdaptState

__all__ = ["HELD_FROM", "Following", "following", "with_class_tables"]

HELD_FROM = 0.045
"""Norms of whose channels' variance at least this part lies between the classes are held. On WRN-40-2 these are 15
deep ones of 45, on ResNet-56 the last 4."""

_MOST_FRAMES = 2000
_BATCH = 50
_PREFIX = "tables."


def with_class_tables(
    network: AdaptableNetwork, state: AdaptState, frames: NDArray[np.uint8], labels: NDArray[np.generic]
) -> AdaptState:
    """A warmed-up state with the class tables of its network in `adaptation`.

    Args:
        network: From `attach`.
        state: Warmed up.
        frames: uint8 `[N, H, W, C]` of the source; up to 2,000 of them are looked at, drawn at random.
        labels: Classes `[N]`, or a probability for each, `[N, classes]`.
    """
    channels = _channels(network, state)
    batches = list(_seen(network, state, frames, labels))
    tables = measure_classes(batches, channels)
    first = channels.part(channels.norms[0])
    moments = channels.moments(np.concatenate([seen for seen, _ in batches]).T)
    key = Key.measured(channels.norms[0], Moments(moments.means[first].T, moments.variances[first].T))
    found = {**vars(tables), **key.arrays(channels)}
    return replace(state, adaptation={f"{_PREFIX}{name}": array for name, array in found.items()})


def _seen(
    network: AdaptableNetwork, state: AdaptState, frames: NDArray[np.uint8], labels: NDArray[np.generic]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    step, start = Step(network, StepOptions(normalisation="running")), to_step_state(network, state)
    classes = network.output_shape()[0]
    drawn = np.sort(np.random.default_rng(0).permutation(len(frames))[:_MOST_FRAMES])
    for begin in range(0, len(drawn), _BATCH):
        places = drawn[begin : begin + _BATCH]
        given = np.asarray(labels[places])
        weights = np.eye(classes, dtype=np.float32)[given] if given.ndim == 1 else given.astype(np.float32)
        floats = torch.from_numpy(frames[places]).permute(0, 3, 1, 2).float().div_(255)
        yield step.observe(start, floats)[1].numpy(), weights


def _channels(network: AdaptableNetwork, state: AdaptState) -> Channels:
    """In the order of the step's vectors; a state from a file names its arrays in another one."""
    ordered = to_adapt_state(to_step_state(network, state), state.network_digest)
    return Channels.of([(array.name, array.count) for array in StateLayout.of(ordered, network.held).statistics])


@dataclass(frozen=True)
class Following:
    """What a bundle needs to follow its stream.

    Attributes:
        state: To begin with; of the network that holds what is to be held.
        adaptation: For the manifest.
        tables: For the bundle.
    """

    state: AdaptState
    adaptation: dict[str, str | float | int | bool]
    tables: dict[str, Table]


def following(network: AdaptableNetwork, state: AdaptState, step: StepOptions) -> Following:
    """How a bundle of this network shall follow its stream.

    Args:
        network: Its norms that see classes are held from here on, where statistics follow.
        state: From `with_class_tables`. Without tables there is no recipe (it was warmed up before there were any);
            but where nothing was warmed up statistics follow by the plain rule, and it learns.
        step: How the bundle learns.
    """
    plain = replace(state, adaptation={})
    if step.normalisation not in TRACKED:
        return Following(plain, {}, {})
    channels = _channels(network, state)
    stored = {name.removeprefix(_PREFIX): array for name, array in state.adaptation.items()}
    options = AdaptationOptions(momentum=step.statistics_momentum, learning="auto")
    if not stored:
        warmed_up = not state.metadata.get("warm_up", "").startswith("none")
        return Following(plain, {} if warmed_up else vars(replace(options, statistics="plain")), {})
    tables, key = _read(stored, network, channels)
    share = between_class_share(tables, channels)
    first = None if key is None else key.norm  # tells places apart by what is seen there, so it has to follow
    held = {norm: 0.0 for norm, part in share.items() if part >= HELD_FROM and norm != first}
    network.set_momenta({**network.momenta, **held})
    followed = channels.each(norm not in held for norm in channels.norms) > 0
    metadata = {**state.metadata, **momenta_note(network), "warmed_sha256": sha256(state.to_bytes()).hexdigest()}
    begin = replace(plain, network_digest=network.digest(), metadata=metadata)
    found = dict(tables.of_channels(followed).arrays())
    if key is not None:
        found |= key.arrays(_channels(network, begin))
    return Following(begin, vars(options), found)


def _read(
    stored: Mapping[str, NDArray[np.float32]], network: AdaptableNetwork, channels: Channels
) -> tuple[ClassTables, Key | None]:
    tables = ClassTables.from_arrays(stored, network.output_shape()[0], channels.count)
    return tables, Key.from_arrays(stored, channels)
