"""What each class does to the statistics of a network: measured once, on the host, and used for every frame after.

A frame's channel means differ from the running ones for two reasons: where the camera is, and what it looks at. The
tables say what the second one is worth, so that statistics can follow the first alone. With b and s the spatial mean
and variance of a channel in one frame, and c its class:

    m_c = E[b | c],   m = mean_c m_c,                        offset o_c = m_c - m
    v_c = E[s + (b - m_c)^2 | c],   v = mean_c (v_c + o_c^2)   spread rho_c = (v_c + o_c^2) / v

For many classes both are kept as products of two small matrices, each channel in units of its own deviation sqrt(v).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.errors import UsageError

__all__ = ["ClassTables", "between_class_share", "measure_classes"]

Floats = NDArray[np.float32]
Halves = NDArray[np.float16]
Doubles = NDArray[np.float64]

_LEAST_SPREAD = 0.05
"""A product of few rows only comes near the spread; what is below this is no spread."""

_LEAST_RANK = 4
_MOST_BYTES = 2 << 20  # of both tables
_LEAST_FRAMES = 1e-3  # of a class; the weights of frames without labels are nowhere quite 0
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class ClassTables:
    """Offset and spread of K classes in C channels, as products of rank R.

    Attributes:
        offset_mix: float32 `[K, R]`.
        offset_rows: float32 `[R, C]`, in units of `deviation`.
        spread_mix: float32 `[K, R]`.
        spread_rows: float32 `[R, C]`, of rho - 1.
        deviation: float32 `[C]`, sqrt(v).
        fluctuation: float32 `[C]`, the deviation of one frame's mean from m over frames of all classes.
        share: float32 `[C]`, the part of v that lies between the classes, mean_c o_c^2 / v.
    """

    offset_mix: Floats
    offset_rows: Floats
    spread_mix: Floats
    spread_rows: Floats
    deviation: Floats
    fluctuation: Floats
    share: Floats

    @property
    def classes(self) -> int:
        return len(self.offset_mix)

    def offset(self, weights: Floats) -> Floats:
        """Where the means of a frame of these classes lie beside those of all classes.

        Args:
            weights: `[K]`, how much the frame is of each class.

        Returns:
            float32 `[C]`, sum_c w_c o_c.
        """
        return _mixed(weights, self.offset_mix, self.offset_rows) * self.deviation

    def spread(self, weights: Floats) -> Floats:
        """How the spread of a frame of these classes compares with that of all classes.

        Args:
            weights: `[K]`, how much the frame is of each class.

        Returns:
            float32 `[C]`, sum_c w_c rho_c, above 0.
        """
        return np.maximum(1 + _mixed(weights, self.spread_mix, self.spread_rows), np.float32(_LEAST_SPREAD))

    def of_channels(self, chosen: NDArray[np.bool_]) -> "ClassTables":
        """The tables of some channels, bool `[C]`."""
        by_class = ("offset_mix", "spread_mix")
        arrays = {name: array if name in by_class else array[..., chosen] for name, array in vars(self).items()}
        return ClassTables(**arrays)

    def arrays(self) -> dict[str, Floats | Halves]:
        """To be stored, the products as float16: they are in units of the deviation."""
        return {name: _stored(name, array) for name, array in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats | Halves], classes: int, channels: int) -> "ClassTables":
        """Read what `arrays` gave.

        Args:
            arrays: As they were stored; more than these may be among them.
            classes: K that there have to be.
            channels: C that there have to be.

        Raises:
            UsageError: Something is missing, of another size or not finite.
        """
        names = cls.__dataclass_fields__
        if missing := [name for name in names if name not in arrays]:
            raise UsageError(f"the class tables lack {missing[0]!r}")
        tables = cls(**{name: np.asarray(arrays[name], np.float32) for name in names})
        shapes = {
            "offset_mix": (classes, len(tables.offset_rows)),
            "offset_rows": (len(tables.offset_rows), channels),
            "spread_mix": (classes, len(tables.spread_rows)),
            "spread_rows": (len(tables.spread_rows), channels),
        }
        for name, array in vars(tables).items():
            expected = shapes.get(name, (channels,))
            if array.shape != expected:
                raise UsageError(f"class table {name!r} is {list(array.shape)}, expected {list(expected)}")
            if not np.isfinite(array).all():
                raise UsageError(f"class table {name!r} holds NaN or infinity")
        return tables


def measure_classes(
    batches: Iterable[tuple[Floats, Floats]], channels: Channels, rank: int | None = None
) -> ClassTables:
    """The tables of a network, from frames in which the source's statistics were held.

    Args:
        batches: Of each batch what was seen in it, float32 `[N, S]`: the means and variances of each frame; and its
            weights, float32 `[N, K]`: 1 at a frame's class or, where nobody knows that, the network's probabilities. A
            class that no frame has is taken for an average one.
        channels: Where the means and variances are in what was seen.
        rank: Rows of the products; None: as many as there are classes, where 2 MiB hold them as float32, else as many
            as these hold.

    Raises:
        UsageError: No frames, or not as many weights.
    """
    counts, means, squares, insides = _sums(batches, channels)
    known = counts > _LEAST_FRAMES
    if not known.any():
        raise UsageError("no frame to measure classes with: give some of each class, or some without labels")
    per_frame = 1 / np.where(known, counts, 1)[:, None]
    means, squares, insides = means * per_frame, squares * per_frame, insides * per_frame  # E[ | c], each [K, C]
    offsets = np.where(known[:, None], means - means[known].mean(axis=0), 0)
    within = np.maximum(squares - means**2, 0)
    by_class = insides + within + offsets**2
    variance = np.maximum(by_class[known].mean(axis=0), _LEAST_VARIANCE)
    deviation, between = np.sqrt(variance), (offsets[known] ** 2).mean(axis=0)
    rank = rank or max(_LEAST_RANK, _MOST_BYTES // (8 * (len(known) + channels.count)))
    return ClassTables(
        *_product(offsets / deviation, rank),
        *_product(np.where(known[:, None], by_class / variance - 1, 0), rank),
        deviation=deviation.astype(np.float32),
        fluctuation=np.sqrt(within[known].mean(axis=0) + between).astype(np.float32),
        share=(between / variance).astype(np.float32),
    )


def _sums(batches: Iterable[tuple[Floats, Floats]], channels: Channels) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Over the frames of each class: their number `[K]`, and the sums of b, b^2 and s, `[K, C]`."""
    sums: list[Any] = [np.zeros(0), 0.0, 0.0, 0.0]
    for seen, weights in batches:
        if len(seen) != len(weights):
            raise UsageError(f"{len(seen)} frames with weights for {len(weights)}: expected as many")
        shares = weights.T.astype(np.float64)
        means, variances = seen[:, channels.means].astype(np.float64), seen[:, channels.variances]
        found = (shares.sum(axis=1), shares @ means, shares @ means**2, shares @ variances)
        sums = [new + old if np.size(old) else new for old, new in zip(sums, found, strict=True)]
    return sums[0], sums[1], sums[2], sums[3]


def between_class_share(tables: ClassTables, channels: Channels) -> dict[str, float]:
    """By norm, the mean part of its channels' variance that lies between the classes."""
    ends = np.cumsum(channels.sizes)[:-1]
    parts = np.split(tables.share.astype(np.float64), ends)
    return {norm: float(part.mean()) for norm, part in zip(channels.norms, parts, strict=True)}


def _mixed(weights: Floats, mix: Floats, rows: Floats) -> Floats:
    return np.asarray((weights @ mix) @ rows, np.float32)


def _product(table: NDArray[np.float64], rank: int) -> tuple[Floats, Floats]:
    """The nearest product of `[K, R]` and `[R, C]`; the table itself where that is no larger."""
    if rank >= len(table):
        return np.eye(len(table), dtype=np.float32), table.astype(np.float32)
    left, weights, right = np.linalg.svd(table, full_matrices=False)
    roots = np.sqrt(weights[:rank])
    return (left[:, :rank] * roots).astype(np.float32), (roots[:, None] * right[:rank]).astype(np.float32)


def _stored(name: str, array: Floats) -> Floats | Halves:
    return array.astype(np.float16) if name.endswith(("_mix", "_rows")) else array
