"""Write a file whole or not at all."""

import contextlib
import os
from pathlib import Path

from ecotta_rt.errors import TransferError

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write under a temporary name beside `path`, force it to the disk, and move it into place.

    A reader sees the old file or the new one, and so does a device that loses its power half-way.

    Args:
        path: Where to; an existing file is replaced, missing folders are made.
        content: All of it.

    Raises:
        TransferError: The file cannot be written; `path` is as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        why = error.strerror or error
        raise TransferError(f"{path} cannot be written: {why}. Check the folder, its rights and its space") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
