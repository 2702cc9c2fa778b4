"""What is shipped beside this module; `benchmarks/make_demo.py` made it.

    network.ecotta.xz   a bundle: WRN-40-2 on Fashion-MNIST, warmed-up meta groups, single frames, `running`; one graph
                        more than others have, which answers by the statistics as they are
    stream.npz          corrupted test images with their labels, and the state in which the groups do nothing
    LICENSE             of the images

The bundle is compressed, which no bundle may be; it is unpacked into a temporary folder while it is used.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, TransferError, Unavailable, UsageError
from ecotta_rt.files.temporary import temporary_folder

__all__ = ["HELD", "Stream", "read_stream", "unpack_bundle", "unpacked_bundle"]

HERE = Path(__file__).parent
BUNDLE, STREAM = HERE / "network.ecotta.xz", HERE / "stream.npz"
HELD = "predict-1-held"
"""The graph that does not even let the frame in question move the statistics it is answered by, as `predict-1` does."""


@dataclass(frozen=True, eq=False)
class Stream:
    """One corruption after the other.

    Attributes:
        corruptions: Names, in the order played.
        frames: uint8 `[corruptions, n, H, W, 3]`, grey pictures as RGB.
        labels: int64 `[corruptions, n]`.
        seed: Of the order of the frames.
        as_it_came: float32 `[P]` and `[S]`: parameters and statistics with which the meta groups are the identity and
            the norms have what they were trained with, so that the bundle answers as the network without groups.
    """

    corruptions: tuple[str, ...]
    frames: NDArray[np.uint8]
    labels: NDArray[np.int64]
    seed: int
    as_it_came: tuple[NDArray[np.float32], NDArray[np.float32]]


def read_stream(frames: int | None = None, seed: int = 0) -> Stream:
    """Read the shipped stream.

    Args:
        frames: How many of each corruption; None takes all.
        seed: 0 plays them as they lie; another draws them, and their order within each corruption, at random.

    Raises:
        UsageError: More frames than there are, or a negative seed.
        Unavailable: The files are not installed.
    """
    if seed < 0:
        raise UsageError(f"--seed {seed}: it must not be negative")
    _require(STREAM)
    with np.load(STREAM, allow_pickle=False) as file:
        grey, labels = file["grey"], file["labels"].astype(np.int64)
        names = tuple(str(name) for name in file["corruptions"])
        as_it_came = (file["parameters"].astype(np.float32), file["statistics"].astype(np.float32))
    there = labels.shape[1]
    wanted = there if frames is None else frames
    if not 1 <= wanted <= there:
        raise UsageError(
            f"--frames {wanted}: the shipped stream has {there} frames of each corruption, so 1 to {there}"
        )
    orders = [_order(there, seed, place)[:wanted] for place in range(len(names))]
    chosen = np.stack([pictures[order] for pictures, order in zip(grey, orders, strict=True)])
    true = np.stack([classes[order] for classes, order in zip(labels, orders, strict=True)])
    return Stream(names, np.repeat(chosen[..., None], 3, axis=-1), true, seed, as_it_came)


@contextmanager
def unpacked_bundle() -> Iterator[Path]:
    """The shipped bundle as a file, until the `with` block ends.

    Raises:
        Unavailable: It is not installed, or this Python has no lzma.
        TransferError: There is no room for it (12 MB) in the folder for temporary files.
    """
    with temporary_folder(tempfile.gettempdir(), "ecotta-demo-") as folder:
        path = folder / "network.ecotta"
        unpack_bundle(path)
        yield path


def unpack_bundle(path: Path) -> None:
    """Write the shipped bundle to `path`. Raises as `unpacked_bundle`."""
    _require(BUNDLE)
    try:
        import lzma
    except ImportError as error:
        raise Unavailable(
            "this Python was built without lzma, which unpacks the demo's network: install your system's Python, or "
            "liblzma and build Python again"
        ) from error
    try:
        with lzma.open(BUNDLE) as packed, path.open("wb") as file:
            shutil.copyfileobj(packed, file)
    except lzma.LZMAError as error:
        raise InputFileError(f"{BUNDLE}: damaged ({error}); install ecotta_rt again") from error
    except OSError as error:
        raise TransferError(
            f"{path} cannot be written: {error.strerror or error}. The demo's network takes 12 MB there; "
            "the environment variable TMPDIR names another folder"
        ) from error


def _order(count: int, seed: int, place: int) -> NDArray[np.int64]:
    return np.arange(count) if seed == 0 else np.random.default_rng((seed, place)).permutation(count)


def _require(path: Path) -> None:
    if not path.is_file():
        raise Unavailable(f"{path} is missing from this install; install ecotta_rt again")
