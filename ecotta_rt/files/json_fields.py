"""Read a JSON object that a stranger may have written: known fields of known kinds, within limits, and no others.

As `toml_file` does for what people write, a reader takes the fields it knows one by one and closes with
`refuse_the_rest`. Every complaint names the file and the field.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from ecotta_rt.errors import InputFileError

__all__ = ["MAX_TEXT_CHARACTERS", "JsonFields", "parse_json"]

MAX_TEXT_CHARACTERS = 4096
"""Longest text in a field, but for names, which are limited where they are taken."""

MAX_DEPTH = 16
"""How deep lists and objects may lie in one another; those of a manifest do 8 deep."""

MAX_TOKENS = 1 << 18
"""How many texts, commas and brackets there may be: a value takes up to a hundred bytes of memory, for two written."""

_LARGEST_NUMBER = 2.0**63
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)


T = TypeVar("T")

_SHOWN_CHARACTERS = 60


class JsonFields:
    """One object of a JSON text: fields are taken out of it until none is left.

    Args:
        values: The parsed object.
        origin: The file's name, for messages.
        path: Where in the text this object is, for messages: "" for the outermost.
    """

    def __init__(self, values: dict[str, Any], origin: str, path: str = "") -> None:
        self._left = dict(values)
        self._known: list[str] = []
        self._origin = origin
        self._path = path

    def has(self, key: str) -> bool:
        """Whether an optional field is there; from then on it is one of the known ones."""
        self._known.append(key)
        return key in self._left

    def text(self, key: str, *, max_characters: int = MAX_TEXT_CHARACTERS, choices: Sequence[str] = ()) -> str:
        """Take out a text, of the `choices` where there are any.

        Raises:
            InputFileError: It is missing, of another kind, too long, or not printable. So do all that follow.
        """
        value = self._text(key, self._pop(key), max_characters)
        if choices and value not in choices:
            raise self.error(key, f"expected one of {', '.join(choices)}, found {_shown(value)}")
        return value

    def number(self, key: str, least: int, most: int) -> int:
        """Take out a whole number within limits."""
        return self._number(key, self._pop(key), least, most)

    def share(self, key: str) -> float:
        """Take out a number above 0 and at most 1."""
        value = self._pop(key)
        if type(value) not in (int, float) or not 0 < value <= 1:
            raise self.error(key, f"expected a number above 0 and at most 1, found {_shown(value)}")
        return float(value)

    def numbers(self, key: str, least: int, most: int, *, max_count: int) -> tuple[int, ...]:
        """Take out a list of whole numbers within limits."""
        return tuple(self._number(key, value, least, most) for value in self._list(key, max_count))

    def texts(self, key: str, *, max_count: int, max_characters: int) -> tuple[str, ...]:
        """Take out a list of texts."""
        return tuple(self._text(key, value, max_characters) for value in self._list(key, max_count))

    def words(self, key: str, *, max_count: int, max_characters: int = MAX_TEXT_CHARACTERS) -> dict[str, str]:
        """Take out an object whose keys are free and whose values are texts."""
        return {
            name: self._text(f"{key}.{name}", value, max_characters)
            for name, value in self._free_object(key, max_count, max_characters)
        }

    def settings(self, key: str, *, max_count: int, max_characters: int) -> dict[str, str | float | int | bool]:
        """Take out an object whose keys are free and whose values are texts, numbers, true or false."""
        settings: dict[str, str | float | int | bool] = {}
        for name, value in self._free_object(key, max_count, max_characters):
            if type(value) is str:
                value = self._text(f"{key}.{name}", value, max_characters)
            elif type(value) not in (int, float, bool) or not abs(value) <= _LARGEST_NUMBER:
                raise self.error(f"{key}.{name}", f"expected a text, a number, true or false, found {_shown(value)}")
            settings[name] = value
        return settings

    def object(self, key: str, read: Callable[["JsonFields"], T]) -> T:
        """Take out an object, have `read` take its fields, and close it."""
        return self._read_object(key, self._pop(key), read)

    def objects(self, key: str, read: Callable[["JsonFields"], T], *, max_count: int) -> tuple[T, ...]:
        """Take out a list of objects, as `object` does each."""
        values = enumerate(self._list(key, max_count))
        return tuple(self._read_object(f"{key}[{index}]", value, read) for index, value in values)

    def refuse_the_rest(self) -> None:
        """Close the object.

        Raises:
            InputFileError: A field is left that nobody took.
        """
        for key in self._left:
            raise self.error(_shortened(key), f"unknown field; known here: {', '.join(self._known)}")

    def error(self, key: str, problem: str) -> InputFileError:
        """An error about one field."""
        path = ".".join(part for part in (self._path, key) if part)
        return InputFileError(f"{self._origin}: field {path!a}: {problem}")

    def _pop(self, key: str) -> Any:
        self._known.append(key)
        if key not in self._left:
            raise self.error(key, "missing")
        return self._left.pop(key)

    def _list(self, key: str, max_count: int) -> list[Any]:
        values = self._pop(key)
        if type(values) is not list:
            raise self.error(key, f"expected a list, found {_shown(values)}")
        if len(values) > max_count:
            raise self.error(key, f"{len(values)} entries, more than {max_count}")
        return values

    def _free_object(self, key: str, max_count: int, max_characters: int) -> list[tuple[str, Any]]:
        values = self._pop(key)
        if type(values) is not dict:
            raise self.error(key, f"expected an object, found {_shown(values)}")
        if len(values) > max_count:
            raise self.error(key, f"{len(values)} entries, more than {max_count}")
        for name in values:
            self._text(key, name, max_characters)
        return list(values.items())

    def _read_object(self, key: str, value: Any, read: Callable[["JsonFields"], T]) -> T:
        if type(value) is not dict:
            raise self.error(key, f"expected an object, found {_shown(value)}")
        fields = JsonFields(value, self._origin, ".".join(part for part in (self._path, key) if part))
        result = read(fields)
        fields.refuse_the_rest()
        return result

    def _number(self, key: str, value: Any, least: int, most: int) -> int:
        # Exact, since True is an int to isinstance.
        if type(value) is not int or not least <= value <= most:
            raise self.error(key, f"expected a whole number from {least} to {most}, found {_shown(value)}")
        return value

    def _text(self, key: str, value: Any, max_characters: int) -> str:
        if type(value) is not str:
            raise self.error(key, f"expected a text, found {_shown(value)}")
        if len(value) > max_characters:
            raise self.error(key, f"a text of {len(value)} characters, more than {max_characters}")
        # These reach terminals, where an escape sequence could say anything.
        if not value.isprintable() or not value.strip():
            raise self.error(key, f"expected printable text on one line, found {_shown(value)}")
        return value


def parse_json(content: bytes, origin: str) -> JsonFields:
    """Parse a JSON object.

    Args:
        content: UTF-8. The caller has limited its size.
        origin: The file's name, for messages.

    Raises:
        InputFileError: Not UTF-8, not JSON, nested too deeply, no object, a key given twice, or a number that JSON
            does not have (NaN).
    """
    _refuse_bombs(content, origin)
    try:
        parsed = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InputFileError(f"{origin}: not UTF-8 (byte {content[error.start]:#04x} at {error.start})") from error
    except RecursionError as error:
        raise InputFileError(f"{origin}: nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, ours of below, and numbers too long for int()
        raise InputFileError(f"{origin}: not JSON: {error}") from error
    if type(parsed) is not dict:
        raise InputFileError(f"{origin}: expected a JSON object, found {_shown(parsed)}")
    return JsonFields(parsed, origin)


def _refuse_bombs(content: bytes, origin: str) -> None:
    """Refuse what would take far more memory than it has bytes, before it is parsed."""
    depth = 0
    for count, token in enumerate(_TOKENS.finditer(content)):
        first = content[token.start()]
        depth += (first in b"[{") - (first in b"]}")
        if depth > MAX_DEPTH:
            raise InputFileError(f"{origin}: nested too deeply, more than {MAX_DEPTH} deep at byte {token.start()}")
        if count == MAX_TOKENS:
            raise InputFileError(
                f"{origin}: more than {MAX_TOKENS} texts, commas and brackets; no manifest has so many"
            )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"the key {_shown(name)} is given twice in one object")
        values[name] = value
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return _shortened(ascii(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
