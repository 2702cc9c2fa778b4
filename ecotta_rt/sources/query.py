"""Options behind the name of a source, as in `synthetic:door?fps=5&size=64x64`: the dataclass is the schema."""

import dataclasses
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from ecotta_rt.errors import UsageError
from ecotta_rt.files.fields import Document, FieldPath, path_text

__all__ = ["Size", "read_query"]

T = TypeVar("T")

_MOST_SIDE = 1 << 14


@dataclasses.dataclass(frozen=True)
class Size:
    """Of a picture, in pixels; written `640x480`, width first."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def read_query(text: str, query: str, kind: type[T]) -> T:
    """Read `a=1&b=two` as a dataclass, whose fields are `int`, `float`, `str`, `bool` (yes or no) or `Size`.

    Args:
        text: What the user wrote, for messages.
        query: The part with options.
        kind: The dataclass; all its fields have defaults, and `Annotated` says their limits.

    Raises:
        UsageError: An option is unknown, given twice, of another kind or beyond its limit.
    """
    hints = {name: _plain(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    values: dict[str, Any] = {}
    for piece in filter(None, query.split("&")):
        name, _, value = piece.partition("=")
        if name in values:
            raise UsageError(f"{text}: {name} is given twice")
        values[name] = _value(text, name, value, hints.get(name, str))
    sizes = {name: value for name, value in values.items() if isinstance(value, Size)}
    rest = {name: value for name, value in values.items() if name not in sizes}

    def fail(path: FieldPath, problem: str) -> UsageError:
        return UsageError(f"{text}: {path_text(path)}: {problem}")

    return dataclasses.replace(Document(rest, fail).read(kind), **sizes)  # type: ignore[type-var]


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _value(text: str, name: str, value: str, kind: Any) -> Any:
    read, expected = _READERS.get(kind, (str, "a text"))
    try:
        return read(value)
    except ValueError:
        raise UsageError(f"{text}: {name}={value}: expected {expected}") from None


def _size(value: str) -> Size:
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value, re.ASCII)
    if match is None:
        raise ValueError(value)
    size = Size(int(match[1]), int(match[2]))
    if not (0 < size.width <= _MOST_SIDE and 0 < size.height <= _MOST_SIDE):
        raise ValueError(value)
    return size


def _yes(value: str) -> bool:
    return {"yes": True, "no": False}[value] if value in ("yes", "no") else _refuse(value)


def _refuse(value: str) -> bool:
    raise ValueError(value)


_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "a whole number"),
    float: (float, "a number"),
    bool: (_yes, "yes or no"),
    Size: (_size, f"WIDTHxHEIGHT, each from 1 to {_MOST_SIDE}, such as 640x480"),
}
