"""The file of environment variables beside a configuration: systemd hands it to the service, commands read it too."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from ecotta_rt.errors import ConfigurationError, EcottaError, TransferError

__all__ = ["environment_file", "environment_of", "file_variables", "hint_of"]

_MOST_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def environment_file(path: Path) -> Path:
    """The file of the environment variables of a configuration's service: its own name with suffix .env."""
    return path.with_suffix(".env") if path.name else path / ".env"


def file_variables(path: Path) -> Mapping[str, str]:
    """The variables of an environment file: NAME=value, quoted or not, a line each.

    What systemd would read as another value than people mean is refused: it hands the service the same file, and to
    systemd a comment behind a value is a part of the value.

    Raises:
        TransferError: It cannot be read.
        ConfigurationError: It has something else; names every such line, and shows none: they hold secrets.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError as error:
        raise TransferError(f"cannot read {path}: {error.strerror}; its secrets are root's: use sudo") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: expected lines NAME=value: {error}") from error
    variables, faults = {}, []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and line[0] not in "#;":
            name, equals, value = line.partition("=")
            try:
                variables[_name_in(name, equals)] = _value_in(value)
            except ValueError as error:
                faults.append(f"{path}, line {number}: {error}")
    if len(faults) > 1:
        faults = [f"{len(faults)} faults", *(f"  {fault}" for fault in faults)]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return variables


def _name_in(name: str, equals: str) -> str:
    name = name.strip()
    if not equals or not _NAME.fullmatch(name):
        raise ValueError("expected NAME=value, a comment that begins with #, or nothing")
    return name


def _value_in(value: str) -> str:
    """Without its quotes; raises ValueError where that is not one word."""
    words = shlex.split(value)
    if any(word.startswith("#") for word in words[1:]):
        raise ValueError("systemd takes a comment behind a value for a part of it; give the comment a line of its own")
    if len(words) > 1:
        raise ValueError("a value with spaces goes in quotes, all of it")
    return "".join(words)


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
