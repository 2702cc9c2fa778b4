"""Read TOML that a person wrote, and say on which line it is wrong.

A reader takes the fields it knows, one by one, and closes with `refuse_the_rest`; so a misspelt field is an error and
never a default silently used. Every complaint names file, line and field. Nothing here knows what the fields mean.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from typing import Any, TypeVar

from ecotta_rt.errors import ConfigurationError, TransferError
from ecotta_rt.files.kinds import open_regular

__all__ = ["MAX_FILE_BYTES", "TomlTable", "parse_toml", "read_toml"]

MAX_FILE_BYTES = 64 * 1024
"""Far above any file we read. Parsing takes many times a file's size in memory, on boards that have little."""

MAX_DEPTH = 8
"""How deep tables and lists may lie in one another. Parsing a name of n parts takes time and memory by the square of n:
one of 32,000 parts, 64 KB of text, took 4 GB."""

_MOST_BITS = 63  # of a whole number, as TOML says

T = TypeVar("T", str, int, float, bool)

_KIND_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
# Strings and comments, in which dots and brackets mean nothing.
_TEXT = re.compile(
    r'''"""(?:\\.|[^\\])*?(?:"""|\Z)|\'{3}.*?(?:\'{3}|\Z)|"(?:\\.|[^"\\\n])*+"?|'[^'\n]*+'?|#[^\n]*+''', re.DOTALL
)
_DEEP_NAME = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")
_KEY_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")


class TomlTable:
    """One table of a TOML file: fields are taken out of it until none is left.

    Args:
        values: The parsed table.
        origin: The file's name, for messages.
        text: The whole file, in which lines are looked up when something is wrong.
        path: The names of the tables this one lies in.
    """

    def __init__(self, values: dict[str, Any], origin: str, text: str, path: tuple[str, ...] = ()) -> None:
        self._left = dict(values)
        self._known: set[str] = set()
        self._origin = origin
        self._text = text
        self._path = path

    def has(self, key: str) -> bool:
        """Whether an optional field is there; from then on it is one of the known ones."""
        self._known.add(key)
        return key in self._left

    def keys(self) -> tuple[str, ...]:
        """Names of the fields that have not been taken."""
        return tuple(self._left)

    def take(self, key: str, kind: type[T]) -> T:
        """Take out a field that must be there.

        Args:
            key: The field's name.
            kind: `str`, `int`, `float` (takes whole numbers too) or `bool`.

        Returns:
            The value.

        Raises:
            ConfigurationError: It is missing or of another kind.
        """
        value = self._pop(key)
        if type(value) is int and value.bit_length() > _MOST_BITS:
            raise self.error(key, "a number of more than 64 bits")
        if kind is float and type(value) is int:
            value = float(value)
        # Exact, since True is an int to isinstance.
        if type(value) is not kind:
            raise self.error(key, f"expected {_KIND_NAMES[kind]}, found {_describe(value)}")
        if isinstance(value, str):
            self._check_printable(key, value)
        checked: T = value
        return checked

    def take_strings(self, key: str) -> tuple[str, ...]:
        """Take out a field that must hold a list of strings; raises as `take` does."""
        values = self._pop(key)
        if type(values) is not list or any(type(value) is not str for value in values):
            raise self.error(key, f"expected a list of strings, found {_describe(values)}")
        for value in values:
            self._check_printable(key, value)
        return tuple(values)

    def take_table(self, key: str) -> "TomlTable":
        """Take out a field that must hold a table; raises as `take` does."""
        value = self._pop(key)
        if type(value) is not dict:
            raise self.error(key, f"expected a table, found {_describe(value)}")
        return TomlTable(value, self._origin, self._text, (*self._path, key))

    def refuse_the_rest(self) -> None:
        """Close the table.

        Raises:
            ConfigurationError: A field is left that nobody took.
        """
        for key in self._left:
            raise self.error(key, f"unknown field; known here: {', '.join(sorted(self._known))}")

    def error(self, key: str, problem: str) -> ConfigurationError:
        """An error about one field, with file and line.

        Args:
            key: The field's name, or "" for the table itself.
            problem: What is wrong with it.
        """
        path = (*self._path, key) if key else self._path
        field = f" field {'.'.join(path)!r}:" if path else ""
        return ConfigurationError(f"{self._origin}, line {_line_of(self._text, path)}:{field} {problem}")

    def _pop(self, key: str) -> Any:
        self._known.add(key)
        if key not in self._left:
            raise self.error(key, "missing")
        return self._left.pop(key)

    def _check_printable(self, key: str, value: str) -> None:
        # These strings reach terminals, where an escape sequence could say anything.
        if not value.isprintable() or not value.strip():
            raise self.error(key, f"expected printable text on one line, found {_describe(value)}")


def read_toml(path: str | os.PathLike[str]) -> TomlTable:
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


def parse_toml(content: bytes, origin: str) -> TomlTable:
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
        return TomlTable(tomllib.loads(text), origin, text)
    except RecursionError as error:
        raise ConfigurationError(f"{origin}: nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, which names the line, and numbers too long for int()
        raise ConfigurationError(f"{origin}: not TOML: {error}") from error


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


def _describe(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # Python writes out no number of more than some thousand digits
        shown = "with too many digits"
    kind = {str: "the string", int: "the number", float: "the number", list: "the list", dict: "the table"}
    return f"{kind.get(type(value), type(value).__name__)} {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _line_of(text: str, path: tuple[str, ...]) -> int:
    """The line where `path` is written, or the nearest table around it; 1 where even that is not written out.

    tomllib keeps no positions. A scan for headers and keys is enough for a message: at worst it points at a look-alike.
    """
    best_line, best_length = 1, 0
    header: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            header = written = tuple(_key_parts(stripped.strip("[")))
        else:
            written = (*header, *_key_parts(stripped))
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
