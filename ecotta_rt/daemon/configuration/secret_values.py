"""Texts of a configuration that come from elsewhere, since everybody may read the file.

    "rtsp://${USER}:${PASSWORD}@10.0.0.7/live"   from the environment
    "file:/run/secrets/token"                    all of it from a file; a line break at its end is left out
    "file:token"                                 a credential of the systemd unit

Below systemd a file that the service itself may not read comes as a credential: where $CREDENTIALS_DIRECTORY has a
file of the same name, that one is read. `$${` stands for `${` itself.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecotta_rt.files.fields import MAX_TEXT_CHARACTERS, FieldPath, shown
from ecotta_rt.files.kinds import open_regular

__all__ = ["FILE", "Secret", "substitute"]

FILE = "file:"

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True)
class Secret:
    """A text that came from elsewhere.

    Attributes:
        written: What the configuration has instead of it.
        source: Where it came from, in words.
        file: The file it was read from; empty: from none.
    """

    written: str
    source: str
    file: str = ""


class _MissingError(Exception):
    """Why a text cannot be had."""


def substitute(
    values: dict[str, Any], environ: Mapping[str, str]
) -> tuple[dict[FieldPath, Secret], list[tuple[FieldPath, str]]]:
    """Put the secrets into a configuration.

    Args:
        values: Its fields; texts are replaced.
        environ: The environment.

    Returns:
        The texts that came from elsewhere, and what is wrong; both by place.
    """
    secrets: dict[FieldPath, Secret] = {}
    faults: list[tuple[FieldPath, str]] = []
    for holder, key, path in list(_texts(values, ())):
        written = holder[key]
        try:
            text, source, file = _resolved(written, environ)
            if source and not text:
                raise _MissingError(f"expected a text, and the {source} has none; it is empty")
        except _MissingError as missing:
            faults.append((path, str(missing)))
            continue
        holder[key] = text
        if source:
            secrets[path] = Secret(written, source, file)
    return secrets, faults


def _texts(values: Any, path: FieldPath) -> Iterator[tuple[Any, Any, FieldPath]]:
    """Every text with what holds it, under which key, and where that is."""
    entries = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in entries:
        if isinstance(value, str):
            yield values, key, (*path, key)
        elif isinstance(value, dict | list):
            yield from _texts(value, (*path, key))


def _resolved(text: str, environ: Mapping[str, str]) -> tuple[str, str, str]:
    """The text, where it got something secret from, and the file; nothing where it is as it was written."""
    if text.startswith(FILE):
        return _from_file(text.removeprefix(FILE), environ)
    used: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if not match[2] or not _NAME.fullmatch(name):
            raise _MissingError("a ${ without the name of a variable; write ${NAME}, or $${ for these two characters")
        if name not in environ:
            raise _MissingError(f"there is no environment variable {name[:200]}; set it where the daemon is started")
        used.append(name)
        return environ[name]

    made = _VARIABLE.sub(value, text) if "${" in text else text
    names = ", ".join(dict.fromkeys(used))
    return made, f"environment {names}" if used else "", ""


def _from_file(name: str, environ: Mapping[str, str]) -> tuple[str, str, str]:
    if not name.isprintable():
        raise _MissingError(f"expected the name of a file on one line, found {shown(name)}")
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder and "/" not in name:
        raise _MissingError(f"{shown(FILE + name)} names a credential of a systemd unit; elsewhere give a path")
    path = Path(name)
    if folder and ("/" not in name or Path(folder, path.name).is_file()):
        path = Path(folder, path.name)
    try:
        with open_regular(path) as file:
            content = file.read(MAX_TEXT_CHARACTERS + 1)
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise _MissingError(f"{shown(os.fspath(path))} cannot be read: {error.strerror}") from error
    except ValueError as error:  # no UTF-8, or a NUL in the name
        raise _MissingError(f"{shown(os.fspath(path))} cannot be used: expected a file with a line of UTF-8") from error
    return text, f"file {path}", os.fspath(path)
