"""The file of environment variables beside a configuration: systemd hands it to the service, commands read it too."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from ecotta_rt.errors import ConfigurationError, EcottaError, TransferError

__all__ = ["environment_file", "environment_of", "file_variables", "hint_of"]

_MOST_BYTES = 64 * 1024


def environment_file(path: Path) -> Path:
    """The file of the environment variables of a configuration's service: its own name with suffix .env."""
    return path.with_suffix(".env") if path.name else path / ".env"


def file_variables(path: Path) -> Mapping[str, str]:
    """The variables of an environment file, as systemd reads it: NAME=value, quoted or not, a line each.

    Raises:
        TransferError: It cannot be read.
        ConfigurationError: It has something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read(_MOST_BYTES).splitlines()
        pairs = [line.partition("=") for line in map(str.strip, lines) if line and line[0] not in "#;"]
        return {name.strip(): "".join(shlex.split(value)) for name, equals, value in pairs if equals}
    except OSError as error:
        raise TransferError(f"cannot read {path}: {error.strerror}; its secrets are root's: use sudo") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: expected lines NAME=value: {error}") from error


def environment_of(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with the variables of the file beside a configuration, where that is there and may be read.

    So the daemon in a terminal, and commands that look at one, have what systemd gives to its service. What the
    environment itself has goes first.

    Raises:
        ConfigurationError: The file has something else than variables.
    """
    given = environment_file(Path(path))
    try:
        return {**file_variables(given), **environ} if given.is_file() else environ
    except (TransferError, OSError):
        return environ


def hint_of(path: str | os.PathLike[str], error: EcottaError) -> str:
    """The message of an error, with a word on the file beside the configuration, where that may not be read."""
    given = environment_file(Path(path))
    shut = os.path.isfile(given) and not os.access(given, os.R_OK)
    return f"{error}\n{given} has variables of its service, and you may not read it: use sudo" if shut else str(error)
