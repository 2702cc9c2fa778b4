"""Find a place for each label beside its dot, so that labels cover neither each other nor a dot. Plain geometry."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Box", "place_labels"]

_REACHES = (1.0, 2.0, 3.2, 4.6, 6.2, 8.0)  # distances tried, in dot radii beyond the dot's own
_DIRECTIONS = 8


class Box(NamedTuple):
    """An upright rectangle; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Whether the two share an area."""
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top

    def within(self, other: "Box") -> bool:
        """Whether `other` holds all of it."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )


def place_labels(
    dots: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], radius: float, inside: Box
) -> list[Box]:
    """Place one label a dot, the nearest free place first.

    Args:
        dots: Centres `(x, y)`.
        sizes: Width and height of each label, in the same unit.
        radius: Radius of a dot.
        inside: Where labels should stay.

    Returns:
        One box a label, in the order of `dots`. A label for which no place is free lies right of its dot.
    """
    taken = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in dots]
    placed = []
    for dot, size in zip(dots, sizes, strict=True):
        places = list(_places(dot, size, radius))
        free = (place for place in places if place.within(inside) and not any(map(place.overlaps, taken)))
        box = next(free, places[0])
        placed.append(box)
        taken.append(box)
    return placed


def _places(dot: tuple[float, float], size: tuple[float, float], radius: float) -> Iterator[Box]:
    (x, y), (width, height) = dot, size
    for reach in _REACHES:
        distance = radius * (1 + reach)
        for step in range(_DIRECTIONS):
            angle = 2 * math.pi * step / _DIRECTIONS
            across, up = math.cos(angle), math.sin(angle)
            # The label's own half size on top, so that its near edge, not its centre, is at that distance.
            centre_x = x + across * (distance + width / 2)
            centre_y = y + up * (distance + height / 2)
            yield Box(centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
