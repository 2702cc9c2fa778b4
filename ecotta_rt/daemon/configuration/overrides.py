"""Fields of a configuration that environment variables set.

    ECOTTA_SERVE__HTTP__PORT=9000                         [http] port = 9000
    ECOTTA_SERVE__CAMERA__FRONT_DOOR__SOURCE=/dev/video1  the source of the camera front-door
    ECOTTA_SERVE__SINK__MQTT__HOST=10.0.0.2               of the output with the name, or of the kind, mqtt

Table, name and field in capitals, everything but letters and digits as _, with two of them between. A text is taken as
it is; a number, a list, true and false are written as in TOML. A variable that begins so and sets nothing is an error,
as a mistyped field in the file is.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ecotta_rt.files.fields import FieldPath, nearest

__all__ = ["PREFIX", "Table", "override", "variables", "word"]

PREFIX = "ECOTTA_SERVE__"

_LONGEST = 4096  # characters
_CALLED = f"they are called {PREFIX}TABLE__FIELD, for a camera or an output {PREFIX}CAMERA__NAME__FIELD"


@dataclass(frozen=True)
class Table:
    """A table of the configuration.

    Attributes:
        words: What it is called in the name of a variable.
        path: Where it is.
        kind: Its dataclass.
    """

    words: tuple[str, ...]
    path: FieldPath
    kind: type


def word(name: str) -> str:
    """A name as part of a variable's.

    >>> word("front-door")
    'FRONT_DOOR'
    """
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()


def variables(tables: Iterable[Table]) -> dict[str, tuple[FieldPath, Any]]:
    """Every variable that sets something: its name -> the place and the annotation of the field.

    One that could mean fields of two tables, whose names differ in other characters alone, means neither.
    """
    found: dict[str, tuple[FieldPath, Any]] = {}
    meant: set[str] = set()
    for table in tables:
        hints = get_type_hints(table.kind, include_extras=True)
        for field in fields(table.kind):
            name = PREFIX + "__".join(map(word, (*table.words, field.name)))
            if name in meant:
                found.pop(name, None)
            else:
                found[name] = ((*table.path, field.name), hints[field.name])
            meant.add(name)
    return found


def override(
    values: dict[str, Any], environ: Mapping[str, str], tables: Iterable[Table]
) -> tuple[dict[FieldPath, str], list[str]]:
    """Put what the environment says into a configuration.

    Args:
        values: The fields of the file; those that are overridden are replaced.
        environ: The environment.
        tables: Those that there are.

    Returns:
        The variable by place, and what is wrong with variables, a sentence each.
    """
    known = variables(tables)
    overridden: dict[FieldPath, str] = {}
    wrong: list[str] = []
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        if variable not in known:
            wrong.append(f"environment variable {variable[:200]!a} sets no field; {nearest(variable, known)}{_CALLED}")
            continue
        path, hint = known[variable]
        try:
            value = _value(environ[variable], hint)
        except (ValueError, RecursionError):
            wrong.append(f"environment variable {variable}: expected a number, true, false or a list, as in TOML")
            continue
        if _put(values, path, value):
            overridden[path] = variable
    return overridden, wrong


def _value(text: str, hint: Any) -> object:
    if _takes_text(hint):
        return text
    if "\n" in text or len(text) > _LONGEST:
        raise ValueError(text)
    return tomllib.loads(f"value = {text}")["value"]


def _put(values: Any, path: FieldPath, value: object) -> bool:
    """Where the table is something else, that is the fault to be told of."""
    *tables, name = path
    for key in tables:
        values = values.setdefault(key, {}) if isinstance(values, dict) else values[key]
    if not isinstance(values, dict):
        return False
    values[name] = value
    return True


def _takes_text(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Annotated:
        return _takes_text(get_args(hint)[0])
    if origin is Literal:
        return isinstance(get_args(hint)[0], str)
    if origin in (Union, UnionType):
        return any(map(_takes_text, get_args(hint)))
    return hint is str
