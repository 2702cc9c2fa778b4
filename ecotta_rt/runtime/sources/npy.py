"""Read .npy files that others wrote, without trusting them."""

from pathlib import Path
from typing import Any

from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError

__all__ = ["map_npy"]


def map_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file into memory, read-only; pages are read when they are used.

    Not `numpy.load`, which opens zip archives and pickles by the same name.

    Raises:
        InputFileError: Missing, not a .npy file, truncated, empty, or of objects.
    """
    try:
        array = open_memmap(path, mode="r")
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # numpy reads the header as a Python literal, and a hostile one can fail in many ways
        raise InputFileError(f"{path}: not a .npy file, or a truncated one ({error})") from error
    if array.size == 0:
        raise InputFileError(f"{path}: empty, its shape is {list(array.shape)}")
    return array
