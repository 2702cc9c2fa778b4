"""Write a file whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ecotta_rt.errors import TransferError

__all__ = ["open_whole", "write_whole"]


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write under a temporary name beside `path`, force it to the disk, and move it into place.

    A reader sees the old file or the new one, and so does a device that loses its power half-way.

    Args:
        path: Where to; an existing file is replaced, missing folders are made.
        content: All of it.

    Raises:
        TransferError: The file cannot be written; `path` is as it was before.
    """
    with open_whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def open_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """As `write_whole`, for content that is written piece by piece because it should not be in memory twice.

    The file is moved into place when the `with` block ends; where it ends by an exception, `path` is as it was before.

    Args:
        path: Where to; an existing file is replaced, missing folders are made.

    Yields:
        The temporary file, open for writing.

    Raises:
        TransferError: The file cannot be written. Any `OSError` of the block is taken for that.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        why = error.strerror or error
        raise TransferError(f"{path} cannot be written: {why}. Check the folder, its rights and its space") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
