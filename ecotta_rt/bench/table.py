"""A table of figures: drawn by rich on a terminal, plain aligned text into a pipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Generic, TextIO, TypeVar

from ecotta_rt.messages import in_columns

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Column", "print_table"]

_WIDEST = 1000  # columns of a terminal

RowT = TypeVar("RowT")


@dataclass(frozen=True)
class Column(Generic[RowT]):
    """One column.

    Attributes:
        title: First line of its head.
        unit: Second line of its head.
        cell: Text of the column for a row.
        right: Whether figures are to stand below each other.
    """

    title: str
    unit: str
    cell: Callable[[RowT], str]
    right: bool = True


def print_table(rows: Sequence[RowT], columns: Sequence[Column[RowT]], file: TextIO) -> None:
    """Print rows; with escape codes only where `file` is a terminal."""
    if file.isatty() and find_spec("rich") is not None:
        from rich.console import Console

        console, table = Console(file=file), _rich_table(rows, columns)
        wide = console.options.update(max_width=_WIDEST)
        # rich makes a table fit by cutting figures short; lines that the terminal wraps can still be read.
        if console.measure(table, options=wide).maximum <= console.width:
            console.print(table)
            return
    heads = ([column.title for column in columns], [column.unit for column in columns])
    cells = ([column.cell(row) for column in columns] for row in rows)
    right = {place for place, column in enumerate(columns) if column.right}
    print(f"\n{in_columns([*heads, *cells], right)}\n", file=file)


def _rich_table(rows: Sequence[RowT], columns: Sequence[Column[RowT]]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAVY, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(f"{column.title}\n{column.unit}", justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table
