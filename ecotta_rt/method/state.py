"""All that changes from step to step, and its three orders: by name, as one vector a section, as a value without torch.

The order of a vector is that in which `AdaptState` names its arrays; `ecotta_rt.bundle.layout` writes it down.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecotta_rt.errors import InputFileError
from ecotta_rt.method.base import Method, Named
from ecotta_rt.method.statistics import Moments
from ecotta_rt.state import SECTIONS, AdaptState

__all__ = ["StepState", "flatten", "initial_state", "seen_vectors", "to_adapt_state", "to_step_state", "unflatten"]


class StepState(NamedTuple):
    """All that changes from step to step."""

    parameters: Named  # float32, by name: groups.K.conv.weight ...
    momentum: Named  # float32, same names and shapes
    statistics: dict[str, Moments]  # by norm name; (mean, biased variance), float32 [C] each
    held: frozenset[str] = frozenset()  # names of norms whose statistics never move

    def section(self, name: str) -> Named:
        """One section as `AdaptState` names it: of the statistics `NORM.mean` and `NORM.variance`."""
        if name != "statistics":
            named: Named = getattr(self, name)
            return named
        parts = ("mean", "variance")
        return {f"{n}.{part}": v for n, pair in self.statistics.items() for part, v in zip(parts, pair, strict=True)}

    def vector(self, name: str) -> Tensor:
        """One section as a vector; of the statistics those that are not held."""
        values = self._moving if name == "statistics" else self.section(name)
        return flatten(values, values)

    @property
    def _moving(self) -> Named:
        moving = {name: moments for name, moments in self.statistics.items() if name not in self.held}
        return self._replace(statistics=moving).section("statistics")

    def with_vectors(
        self, parameters: Tensor | None = None, momentum: Tensor | None = None, statistics: Tensor | None = None
    ) -> "StepState":
        """With other values in some sections, each given as a vector."""
        known = self.statistics
        if statistics is not None:
            moving = [name for name in known if name not in self.held]
            known = {**known, **_moments(_like(statistics, self._moving), moving)}
        learned = self.parameters if parameters is None else _like(parameters, self.parameters)
        velocity = self.momentum if momentum is None else _like(momentum, self.momentum)
        return StepState(learned, velocity, known, self.held)


def flatten(named: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    """One vector of the values, in the order of `names`."""
    return torch.cat([named[name].reshape(-1) for name in names])


def unflatten(flat: Tensor, shapes: Mapping[str, torch.Size]) -> Named:
    """Undo `flatten`; the values are views into `flat`."""
    pieces = torch.split_with_sizes(flat, [shape.numel() for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def seen_vectors(state: StepState, seen: Mapping[str, Moments], frames: int) -> Tensor | None:
    """Each frame's own statistics in the order of the state's vector, `[N, S]`; None where none were told.

    Args:
        state: Gives the order.
        seen: By norm name, mean and variance `[N, C]`; of one frame `[C]`.
        frames: N.
    """
    ordered = [moment for name in state.statistics if name not in state.held for moment in seen.get(name, ())]
    if not ordered:
        return None
    return torch.cat(ordered).view(1, -1) if frames == 1 else torch.cat(ordered, 1)


def _like(flat: Tensor, named: Named) -> Named:
    return unflatten(flat, {name: value.shape for name, value in named.items()})


def initial_state(method: Method) -> StepState:
    """The network's own parameters and statistics, no momentum."""
    parameters = method.learned_parameters()
    momentum = {name: torch.zeros_like(p) for name, p in parameters.items()}
    copies = {name: p.clone() for name, p in parameters.items()}
    return StepState(copies, momentum, method.source_statistics(), method.held)


def to_adapt_state(state: StepState, network_digest: str) -> AdaptState:
    """Copy a step's tensors into a light value without torch."""
    parameters, momentum, statistics = ({n: _array(v) for n, v in state.section(s).items()} for s in SECTIONS)
    return AdaptState(parameters, momentum, statistics, network_digest)


def to_step_state(method: Method, state: AdaptState, network_digest: str | None = None) -> StepState:
    """Copy a saved state back into tensors, after checking that it fits `method`.

    Raises:
        InputFileError: Made for another network, or with missing, unexpected or misshapen entries.
    """
    digest = network_digest or method.digest()
    if state.network_digest != digest:
        raise InputFileError(
            f"this state belongs to network {state.network_digest[:12]}, not to {digest[:12]}: "
            "it was made from other weights or another cut; warm up again, or take the state beside the network"
        )
    fresh = initial_state(method)
    sections: dict[str, Named] = {}
    for name in SECTIONS:
        expected, found = fresh.section(name), getattr(state, name)
        _require_same_shapes(name, expected, found)
        sections[name] = {key: _tensor(found[key]) for key in expected}
    statistics = _moments(sections["statistics"], fresh.statistics)
    return StepState(sections["parameters"], sections["momentum"], statistics, fresh.held)


def _moments(named: Mapping[str, Tensor], norms: Iterable[str]) -> dict[str, Moments]:
    return {norm: (named[f"{norm}.mean"], named[f"{norm}.variance"]) for norm in norms}


def _require_same_shapes(
    section: str, expected: Mapping[str, Tensor], found: Mapping[str, NDArray[np.float32]]
) -> None:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    misshapen = [n for n in expected.keys() & found.keys() if tuple(expected[n].shape) != found[n].shape]
    if missing or extra or misshapen:
        raise InputFileError(
            f"{section} of this state do not fit: "
            f"missing {missing[:3]}, unexpected {extra[:3]}, misshapen {misshapen[:3]}"
        )


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(array))  # a copy: a state is a value


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().contiguous().numpy().copy()
    return array
