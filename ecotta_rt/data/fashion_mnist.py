"""Fashion-MNIST as 32x32 RGB frames: the full official set, or the embedded sample, which has the same four files."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, TransferError
from ecotta_rt.files.kinds import open_regular

__all__ = ["CLASSES", "is_fashion_mnist", "read_fashion_mnist", "read_idx"]

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

SIDE = 28  # pixels, as published
BORDER = 2  # of zeros on each side: 28 + 2 * 2 = 32, the size of a CIFAR frame
MOST_IMAGES = 70_000  # the whole of Fashion-MNIST; a file that claims more is not it, and gzip can hide a lot
UINT8 = 8  # the code of the element type in an idx header


def is_fashion_mnist(folder: Path) -> bool:
    """Whether the folder holds images of Fashion-MNIST under their official names."""
    return any((folder / f"{split}-images-idx3-ubyte.gz").is_file() for split in ("t10k", "train"))


def read_fashion_mnist(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the official gzipped idx files as the frames of a colour camera.

    Args:
        folder: Where `train-images-idx3-ubyte.gz` and its three companions are.
        split: `train` or `t10k`.

    Returns:
        Frames uint8 `[N, 32, 32, 3]` (padded with zeros by 2, grey repeated) and labels uint8 `[N]`, 0 to 9.

    Raises:
        InputFileError: A file is missing, truncated, of another kind, or the two do not belong together.
        TransferError: A file could not be read.
    """
    images_path = folder / f"{split}-images-idx3-ubyte.gz"
    labels_path = folder / f"{split}-labels-idx1-ubyte.gz"
    images, labels = read_idx(images_path, axes=3), read_idx(labels_path, axes=1)
    if images.shape[1:] != (SIDE, SIDE):
        raise InputFileError(
            f"{images_path}: images of {images.shape[1]}x{images.shape[2]} pixels, expected {SIDE}x{SIDE}"
        )
    if len(labels) != len(images):
        raise InputFileError(f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path.name}")
    if len(labels) and labels.max() >= len(CLASSES):
        raise InputFileError(f"{labels_path}: label {labels.max()}, expected 0 to {len(CLASSES) - 1}")
    padded = np.pad(images, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))
    return np.repeat(padded[..., None], 3, axis=3), labels


def read_idx(path: Path, *, axes: int) -> NDArray[np.uint8]:
    """Read one gzipped idx file of uint8 elements with `axes` axes.

    Raises:
        InputFileError: Missing, truncated, longer than it says, or of another kind.
        TransferError: The file could not be read.
    """
    try:
        with open_regular(path) as packed, gzip.open(packed) as file:
            shape = _idx_shape(path, file.read(4 + 4 * axes), axes)
            size = int(np.prod(shape, dtype=object))
            content = file.read(
                size + 1
            )  # one more than there should be, to notice a longer file without reading all of it
    except FileNotFoundError as error:
        raise InputFileError(f"{path}: no such file; the folder must hold the four official idx files") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputFileError(f"{path}: not a whole gzip file ({error})") from error
    except OSError as error:
        raise TransferError(f"{path}: {error.strerror or error}") from error
    if len(content) != size:
        relation = "ends early" if len(content) < size else "goes on"
        raise InputFileError(f"{path}: {relation}: its header promises {size} elements of shape {shape}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _idx_shape(path: Path, header: bytes, axes: int) -> tuple[int, ...]:
    if len(header) != 4 + 4 * axes or header[:4] != bytes((0, 0, UINT8, axes)):
        raise InputFileError(
            f"{path}: not an idx file of uint8 elements with {axes} axes (it begins {header[:4].hex()})"
        )
    shape = struct.unpack(f">{axes}I", header[4:])
    if shape[0] > MOST_IMAGES or any(side > SIDE * 2 for side in shape[1:]):
        raise InputFileError(
            f"{path}: claims a shape of {shape}, more than Fashion-MNIST has ({MOST_IMAGES} of {SIDE}x{SIDE})"
        )
    return tuple(shape)
