"""Look at the files that a command line names before torch is imported, which takes seconds."""

from pathlib import Path

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.kinds import open_regular

__all__ = ["require_network"]


def require_network(network: str, checkpoint: Path | None) -> None:
    """Refuse a network or a checkpoint of which the file cannot be opened.

    Args:
        network: As NETWORK; model ids and modules are no files.
        checkpoint: As --checkpoint.

    Raises:
        UsageError: No such Python file.
        InputFileError: Another file cannot be opened.
    """
    place = network.rpartition(":")[0]
    if place.endswith(".py") and not Path(place).is_file():
        raise UsageError(f"no such file: {place}")
    for path in (network if network.endswith(".safetensors") else None, checkpoint):
        if path is not None:
            _require_file(path)


def _require_file(path: str | Path) -> None:
    try:
        open_regular(path).close()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise InputFileError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
