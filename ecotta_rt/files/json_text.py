"""Parse a JSON object that a stranger may have written, within bounds; `Document.read` makes a dataclass of it."""

import json
import re
from typing import Any, NoReturn

from ecotta_rt.errors import InputFileError
from ecotta_rt.files.fields import Document, FieldPath, path_text, shown

__all__ = ["MAX_TOKENS", "parse_json"]

MAX_DEPTH = 16
"""How deep lists and objects may lie in one another; those of a manifest do 8 deep."""

MAX_TOKENS = 1 << 18
"""How many texts, commas and brackets there may be: a value takes up to a hundred bytes of memory, for two written."""

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)


def parse_json(content: bytes, origin: str) -> Document:
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
        raise InputFileError(f"{origin}: expected a JSON object, found {shown(parsed)}")

    def describe(path: FieldPath, problem: str) -> InputFileError:
        return InputFileError(f"{origin}: field {path_text(path)!a}: {problem}")

    return Document(parsed, describe)


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
            raise ValueError(f"the key {shown(name)} is given twice in one object")
        values[name] = value
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
