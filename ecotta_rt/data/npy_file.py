"""Read .npy files that others wrote, without trusting them.

A header is read and judged before a byte of data is touched; nothing is unpickled, and no more is mapped than the file
holds.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, TransferError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.files.npy import MAX_HEADER_BYTES, refuse_long_header

__all__ = ["open_npy"]


def open_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file of integers into memory, read-only.

    Args:
        path: A .npy file in C order with an integer dtype.

    Returns:
        The mapped array; pages are read when they are used.

    Raises:
        InputFileError: Not a .npy file, truncated, longer than it says, of objects or other non-integers, or in Fortran
        order.
        TransferError: The file could not be read.
    """
    try:
        size = path.stat().st_size
        with open_regular(path) as file:
            refuse_long_header(file, str(path))
            shape, dtype = _header(path, file)
            start = file.tell()
    except FileNotFoundError as error:
        raise InputFileError(f"{path}: no such file") from error
    except OSError as error:
        raise TransferError(f"{path}: {error.strerror or error}") from error
    elements = 1
    for axis in shape:
        elements *= axis  # Python integers: a hostile shape cannot overflow them
    if start + elements * dtype.itemsize != size:
        relation = "ends early" if start + elements * dtype.itemsize > size else "goes on after its data"
        needed = f"{dtype} of shape {shape} takes {elements * dtype.itemsize} bytes"
        raise InputFileError(f"{path}: {relation}: {needed}, and {size - start} are there")
    if elements == 0:
        raise InputFileError(f"{path}: empty, its shape is {shape}")
    return np.memmap(path, dtype, "r", start, shape)


def _header(path: Path, file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = npy_format.read_array_header_1_0(file, max_header_size=MAX_HEADER_BYTES)
        elif version == (2, 0):
            shape, fortran, dtype = npy_format.read_array_header_2_0(file, max_header_size=MAX_HEADER_BYTES)
        else:
            raise InputFileError(f"{path}: .npy format version {version[0]}.{version[1]}, expected 1.0 or 2.0")
    except InputFileError:
        raise
    except Exception as error:  # numpy parses the header as a Python literal, and a hostile one can fail in many ways
        raise InputFileError(f"{path}: not a .npy file: {error}") from error
    if dtype.kind not in "iu":
        raise InputFileError(f"{path}: elements of dtype {dtype}, expected integers; nothing else is read from files")
    if fortran and len(shape) > 1:
        raise InputFileError(f"{path}: in Fortran order, expected C order; save it again with numpy.ascontiguousarray")
    if any(axis < 0 for axis in shape):
        raise InputFileError(f"{path}: negative shape {shape}")
    return shape, dtype
