"""The member `tables.safetensors`: arrays that the recipe of following a stream needs beside its numbers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle.layout import ArrayShape, find_twice
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.fields import Limit

__all__ = ["TABLES", "Table", "TableShapes", "most_table_bytes", "read_tables", "table_shapes", "tables_content"]

TABLES = "tables.safetensors"

_MOST_BYTES = 64 << 20
_MOST_HEADER_BYTES = 1 << 20
_FORMATS = {"F32": "float32", "F16": "float16"}
_ITEM_BYTES = {"float32": 4, "float16": 2}

Table = NDArray[np.float32] | NDArray[np.float16]


def _in_floats(arrays: Sequence[ArrayShape]) -> str | None:
    other = next((array for array in arrays if array.dtype not in _ITEM_BYTES), None)
    if other is not None:
        return f"{other.name!r} is {other.dtype}, expected float32 or float16"
    total_bytes = _data_bytes(arrays)
    return f"{total_bytes} bytes of tables, more than {_MOST_BYTES}" if total_bytes > _MOST_BYTES else None


TableShapes = Annotated[tuple[ArrayShape, ...], Limit(most=256), find_twice, _in_floats]
"""What the manifest says of them."""


def table_shapes(tables: Mapping[str, Table]) -> tuple[ArrayShape, ...]:
    """Names, shapes and number formats, in order of the names."""
    return tuple(ArrayShape(name, tables[name].shape, str(tables[name].dtype)) for name in sorted(tables))


def tables_content(tables: Mapping[str, Table]) -> bytes:
    """The member's content, nothing without tables. Equal tables give equal bytes."""
    if not tables:
        return b""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(tables[name]) for name in sorted(tables)})


def most_table_bytes(arrays: Sequence[ArrayShape]) -> int:
    """No member with these arrays is longer; 0 where there is none."""
    return _data_bytes(arrays) + _MOST_HEADER_BYTES if arrays else 0


def read_tables(content: bytes, arrays: Sequence[ArrayShape], origin: str) -> dict[str, Table]:
    """The tables in a member's content.

    Args:
        content: All of it.
        arrays: What the manifest says of them.
        origin: The member's name, for messages.

    Returns:
        By name.

    Raises:
        InputFileError: No safetensors file, other arrays than the manifest says, or not all of them finite.
    """
    from safetensors import SafetensorError, deserialize

    if not arrays:
        return {}
    if (length := int.from_bytes(content[:8], "little")) > _MOST_HEADER_BYTES:
        raise InputFileError(f"{origin}: a header of {length} bytes, more than {_MOST_HEADER_BYTES}")
    try:
        found = dict(deserialize(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise InputFileError(f"{origin}: not a safetensors file, or a truncated one ({error})") from error
    for name in found.keys() - {array.name for array in arrays}:
        raise InputFileError(f"{origin}: {name[:80]!r} is not in the manifest")
    return {array.name: _table(found.get(array.name), array, origin) for array in arrays}


def _table(entry: Mapping[str, Any] | None, array: ArrayShape, origin: str) -> Table:
    if entry is None:
        raise InputFileError(f"{origin}: lacks {array.name!r}")
    dtype, shape = _FORMATS.get(str(entry["dtype"])), tuple(entry["shape"])
    if (dtype, shape) != (array.dtype, array.shape):
        raise InputFileError(
            f"{origin}: {array.name!r} is {entry['dtype']} {list(shape)}, and the manifest says {array.dtype} "
            f"{list(array.shape)}"
        )
    table: Table = np.frombuffer(entry["data"], np.dtype(array.dtype).newbyteorder("<")).reshape(shape)
    if not np.isfinite(table).all():
        raise InputFileError(f"{origin}: {array.name!r} holds NaN or infinity")
    return table


def _data_bytes(arrays: Sequence[ArrayShape]) -> int:
    return sum(_ITEM_BYTES[array.dtype] * array.count for array in arrays)
