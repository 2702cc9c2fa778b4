"""A folder with one state a board: `NAME.state.safetensors`, as web servers and `ecotta state collect` leave them."""

import os
import re
from pathlib import Path

from ecotta_rt.files.digest import sha256

__all__ = ["STATE_SUFFIX", "state_path", "states_in"]

STATE_SUFFIX = ".state.safetensors"

_PLAIN = re.compile(r"[^\w.-]|^\.", re.ASCII)
_LONGEST = 180
"""Characters of a name; file systems have room for 255 with what comes after it."""


def state_path(folder: str | Path, board: str, suffix: str = STATE_SUFFIX) -> Path:
    """Where the state of a board is: a file right in that folder, whatever the name holds.

    >>> state_path("/srv/boards", "door 1/../2").name
    'door%201%2F..%2F2.state.safetensors'
    """
    name = _PLAIN.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace")), board)
    if len(name) > _LONGEST:
        name = f"%{sha256(board.encode('utf-8', 'replace')).hexdigest()}"
    return Path(folder) / f"{name or '%'}{suffix}"


def states_in(folder: str | Path, suffix: str = STATE_SUFFIX) -> dict[str, Path]:
    """The files of states by their boards' names, in order; a folder that is not there has none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    return {name.removesuffix(suffix): Path(folder, name) for name in names if name.endswith(suffix) and name != suffix}
