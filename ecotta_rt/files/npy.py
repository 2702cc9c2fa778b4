"""Read .npy files that others wrote, without trusting them.

Source: the format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from pathlib import Path
from typing import Any, BinaryIO

from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError
from ecotta_rt.files.kinds import open_regular

__all__ = ["MAX_HEADER_BYTES", "map_npy", "refuse_long_header"]

MAX_HEADER_BYTES = 4096
"""A header names a number format, an order and a shape; that of a CIFAR-10-C file has 128 bytes."""

_MAGIC = b"\x93NUMPY"


def map_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file into memory, read-only; pages are read when they are used.

    Not `numpy.load`, which opens zip archives and pickles by the same name.

    Raises:
        InputFileError: Missing, not a .npy file, truncated, longer than it says, empty, or of objects.
    """
    try:
        with open_regular(path) as file:
            refuse_long_header(file, str(path))
            size_bytes = file.seek(0, 2)
        array = open_memmap(path, mode="r")
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except InputFileError:
        raise
    except Exception as error:  # numpy reads the header as a Python literal, and a hostile one can fail in many ways
        raise InputFileError(f"{path}: not a .npy file, or a truncated one ({error})") from error
    if array.size == 0:
        raise InputFileError(f"{path}: empty, its shape is {list(array.shape)}")
    if array.offset + array.nbytes < size_bytes:
        raise InputFileError(f"{path}: goes on after its data, {array.dtype} of shape {list(array.shape)}")
    return array


def refuse_long_header(file: BinaryIO, origin: str) -> None:
    """Refuse a header that numpy would read whole, however long it says it is, before it finds it too long.

    Args:
        file: At its beginning, and there again afterwards.
        origin: Its name, for messages.

    Raises:
        InputFileError: More than `MAX_HEADER_BYTES`. What is no .npy file at all is left to numpy.
    """
    start = file.read(12)
    file.seek(0)
    length = int.from_bytes(start[8 : 10 if start[6:7] == b"\x01" else 12], "little")
    if start.startswith(_MAGIC) and length > MAX_HEADER_BYTES:
        raise InputFileError(f"{origin}: a .npy header of {length} bytes, more than {MAX_HEADER_BYTES}")
