"""Open for reading what is a regular file, and nothing else: a pipe or a terminal would keep us waiting for ever."""

import errno
import os
import stat
from io import BufferedReader

__all__ = ["kind_of", "open_regular"]

_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


def kind_of(mode: int) -> str:
    """What a file is, in words.

    Args:
        mode: Its `st_mode`.
    """
    return _KINDS.get(stat.S_IFMT(mode), "no file of a known kind")


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        OSError: It cannot be opened, or is of another kind; `strerror` says of which.
    """
    # Without O_NONBLOCK a named pipe is opened when somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a regular file", os.fspath(path))
    return open(descriptor, "rb")
