"""Read the pictures of a .npz file that others wrote: `x_train` and `y_train`, `x_test` and `y_test`, as in Keras.

Not `numpy.load`: a header may claim any size, and what it claims is allocated before a byte is read.

Source: the format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.files.npy import MAX_HEADER_BYTES

__all__ = ["read_npz"]

_MOST_BYTES = 4 << 30
"""Of one array: more is a mistake or a bomb, not a set of small pictures."""

_MOST_CLASSES = 32_768
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, split: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Pictures and labels of a split.

    Args:
        path: A .npz file.
        split: `train` or `test`: what stands behind `x_` and `y_` in the names of its arrays.

    Returns:
        Frames uint8 `[N, H, W, 1]` or `[N, H, W, 3]`, and labels int64 `[N]`, 0 or above; None where it has none.

    Raises:
        InputFileError: No such file, no zip archive, damaged, without pictures, or arrays of another kind than these.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            held = set(archive.namelist())
            if f"x_{split}.npy" not in held:
                names = ", ".join(sorted(name.removesuffix(".npy") for name in held)[:8])
                raise InputFileError(f"{path}: no array x_{split} in it, only {names or 'nothing'}")
            frames = _array(archive, f"x_{split}", path)
            labels = _array(archive, f"y_{split}", path) if f"y_{split}.npy" in held else None
    except InputFileError:
        raise
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a hostile archive makes its reader fail in any way it likes
        raise InputFileError(f"{path}: not a whole .npz file ({type(error).__name__}: {error})") from error
    return _frames(frames, split, path), None if labels is None else _labels(labels, len(frames), split, path)


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as member:
        version = npy.read_magic(member)
        if version not in _HEADERS:
            raise InputFileError(f"{path}: {name} is of version {version} of the format, expected 1.0 or 2.0")
        shape, fortran, dtype = _HEADERS[version](member, max_header_size=MAX_HEADER_BYTES)
        size_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.kind not in "ui" or fortran:
            raise InputFileError(f"{path}: {name} is {dtype} {list(shape)}; expected whole numbers, row by row")
        if size_bytes > min(_MOST_BYTES, entry.file_size):
            raise InputFileError(f"{path}: {name} claims {size_bytes:,} bytes; there are {entry.file_size:,}")
        content = member.read(size_bytes)
    if len(content) != size_bytes:
        raise InputFileError(f"{path}: {name} ends early: {len(content):,} of {size_bytes:,} bytes")
    return np.frombuffer(content, dtype).reshape(shape)


def _frames(array: NDArray[Any], split: str, path: Path) -> NDArray[np.uint8]:
    frames = array[..., None] if array.ndim == 3 else array
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3) or frames.size == 0:
        raise InputFileError(
            f"{path}: x_{split} is {array.dtype} {list(array.shape)}; expected uint8 [N, H, W] or [N, H, W, 3], N > 0"
        )
    return frames


def _labels(array: NDArray[Any], count: int, split: str, path: Path) -> NDArray[np.int64]:
    if array.shape != (count,):
        raise InputFileError(f"{path}: y_{split} has the shape {list(array.shape)} for {count} pictures; expected [N]")
    if array.min() < 0 or array.max() >= _MOST_CLASSES:
        raise InputFileError(f"{path}: y_{split} goes from {array.min()} to {array.max()}; labels count from 0")
    return array.astype(np.int64)
