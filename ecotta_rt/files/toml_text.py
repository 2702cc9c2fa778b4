"""Parse TOML that a person wrote, within bounds, and find the line where a field is.

`Document.read` makes a dataclass of it; what it complains of is named with file, line and field.
"""

import os
import re
import tomllib
from collections.abc import Iterator

from ecotta_rt.errors import ConfigurationError, TransferError
from ecotta_rt.files.fields import Document, FieldPath, path_text
from ecotta_rt.files.kinds import open_regular

__all__ = ["MAX_FILE_BYTES", "line_of", "parse_toml", "read_toml"]

MAX_FILE_BYTES = 64 * 1024
"""Far above any file we read. Parsing takes many times a file's size in memory, on boards that have little."""

MAX_DEPTH = 8
"""How deep tables and lists may lie in one another. Parsing a name of n parts takes time and memory by the square of n:
one of 32,000 parts, 64 KB of text, took 4 GB."""

# Strings and comments, in which dots and brackets mean nothing.
_TEXT = re.compile(
    r'''"""(?:\\.|[^\\])*?(?:"""|\Z)|\'{3}.*?(?:\'{3}|\Z)|"(?:\\.|[^"\\\n])*+"?|'[^'\n]*+'?|#[^\n]*+''', re.DOTALL
)
_DEEP_NAME = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")
_KEY_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")


def read_toml(path: str | os.PathLike[str]) -> Document:
    """Read a TOML file.

    Args:
        path: The file, at most `MAX_FILE_BYTES` long.

    Raises:
        ConfigurationError: It is too long, not UTF-8 or not TOML.
        TransferError: It cannot be read.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TransferError(f"cannot read {os.fspath(path)}: {error.strerror}") from error
    return parse_toml(content, os.fspath(path))


def parse_toml(content: bytes, origin: str) -> Document:
    """Parse the content of a TOML file; see `read_toml`.

    Args:
        content: The file's bytes.
        origin: The file's name, for messages.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{origin}: longer than {MAX_FILE_BYTES} bytes, the most we read")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{origin}, line {line}: not UTF-8 (byte {content[error.start]:#04x})") from error
    _refuse_depth(text, origin)
    try:
        values = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigurationError(f"{origin}: nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, which names the line, and numbers too long for int()
        raise ConfigurationError(f"{origin}: not TOML: {error}") from error

    def describe(path: FieldPath, problem: str) -> ConfigurationError:
        field = f" field {path_text(path)!a}:" if path else ""
        return ConfigurationError(f"{origin}, line {line_of(text, path)}:{field} {problem}")

    return Document(values, describe)


def _refuse_depth(text: str, origin: str) -> None:
    """Refuse what is nested too deeply before it is parsed."""
    bare = _TEXT.sub(lambda match: "s" + "\n" * match.group().count("\n"), text)
    name = _DEEP_NAME.search(bare)
    at = -1 if name is None else name.start()
    depth = 0
    for bracket in re.finditer(r"[\[{\]}]", bare):
        depth = depth + 1 if bracket.group() in "[{" else max(depth - 1, 0)
        if depth > MAX_DEPTH and (at < 0 or bracket.start() < at):
            at = bracket.start()
            break
    if at >= 0:
        line = bare[:at].count("\n") + 1
        raise ConfigurationError(f"{origin}, line {line}: nested more than {MAX_DEPTH} deep; no field we know is")


def line_of(text: str, path: FieldPath) -> int:
    """The line where `path` is written, or the nearest table around it; 1 where even that is not written out.

    tomllib keeps no positions. A scan for headers and keys is enough for a message: at worst it points at a look-alike.
    """
    best_line, best_length = 1, 0
    header: FieldPath = ()
    listed: dict[FieldPath, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            header = (*_key_parts(stripped.strip("[")),)
            if stripped.startswith("[["):  # the next table of a list
                listed[header] = listed.get(header, -1) + 1
                header = (*header, listed[header])
        written = header if stripped.startswith("[") else (*header, *_key_parts(stripped))
        if len(written) > best_length and path[: len(written)] == written:
            best_line, best_length = number, len(written)
    return best_line


def _key_parts(text: str) -> Iterator[str]:
    position = 0
    while match := _KEY_PART.match(text, position):
        yield next(part for part in match.groups() if part is not None)
        position = match.end()
        if not text.startswith(".", position):
            return
        position += 1
