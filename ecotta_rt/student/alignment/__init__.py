"""Losses that make the features of two domains alike, by name; one a file.

Each is a module made of (width of the features, classes) and called with (source features, target features, labels of
the source, share of the run that is done); it returns a scalar to add to the network's own loss.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from ecotta_rt.student.alignment.domain_confusion import Confusion
from ecotta_rt.student.alignment.gradient_reversal import Adversarial
from ecotta_rt.student.alignment.mmd import Discrepancy

__all__ = ["ALIGNMENTS"]

ALIGNMENTS: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {"dann": Adversarial, "mmd": Discrepancy, "symnet": Confusion}
)
