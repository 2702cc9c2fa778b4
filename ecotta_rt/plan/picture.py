"""Live bytes along a step, drawn with characters."""

from collections.abc import Sequence
from itertools import pairwise

__all__ = ["picture"]

_BARS = " ▁▂▃▄▅▆▇█"
_MIB = 1 << 20


def picture(live_bytes: Sequence[int], width: int = 72, height: int = 8) -> list[str]:
    """Lines of text: nodes from left to right, bytes upwards. Each column shows the most of the nodes it stands for.

    Args:
        live_bytes: At each node.
        width: Columns, at most one a node.
        height: Lines.

    >>> picture([0, 1 << 20, 2 << 20], width=3, height=1)
    ['  2.0 MiB | ▄█', '          +---']
    """
    if not live_bytes:
        return []
    width = min(width, len(live_bytes))
    edges = [len(live_bytes) * column // width for column in range(width + 1)]
    columns = [max(live_bytes[begin:end]) for begin, end in pairwise(edges)]
    most = max(columns) or 1
    levels = [round(8 * height * value / most) for value in columns]
    margin = max(5, len(f"{most / _MIB:.1f}"))
    lines = []
    for row in range(height - 1, -1, -1):
        label = f"{most * (row + 1) / height / _MIB:{margin}.1f} MiB |"
        lines.append(label + "".join(_BARS[min(max(level - 8 * row, 0), 8)] for level in levels))
    return [*lines, " " * (margin + len(" MiB ")) + "+" + "-" * width]
