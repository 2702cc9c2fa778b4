"""What holds of a configuration that was read: every value, where it comes from, and nothing that is secret."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ecotta_rt.daemon.configuration.config import TABLES, Reading
from ecotta_rt.daemon.configuration.config_text import documented, toml_value
from ecotta_rt.daemon.configuration.config_version import VERSION
from ecotta_rt.files.fields import Doc, FieldPath
from ecotta_rt.files.toml_text import line_of
from ecotta_rt.messages import mask

__all__ = ["Shown", "as_json", "as_text", "shown"]

_MASK = "***"
_COLUMN = 44


@dataclass(frozen=True)
class Shown:
    """A value that holds.

    Attributes:
        path: Its place.
        value: In words that may be shown; None: there is none.
        origin: Where it comes from.
    """

    path: FieldPath
    value: Any
    origin: str


def shown(reading: Reading, text: str) -> Iterator[Shown]:
    """Every value of a configuration, table by table.

    Args:
        reading: The configuration.
        text: What is in its file.
    """
    config = reading.config
    for name in TABLES:
        yield from _table(reading, text, (name,), getattr(config, name))
        if name == "network":
            for at, camera in enumerate(config.cameras):
                yield from _table(reading, text, ("camera", at), camera)
    for at, output in enumerate(config.sinks):
        yield Shown(("sink", at, "kind"), output.kind, _origin(reading, text, ("sink", at, "kind")))
        yield from _table(reading, text, ("sink", at), output.options)
    for at, rule in enumerate(config.alert_rules):
        yield from _table(reading, text, ("alert", at), rule)


def as_text(found: Iterator[Shown]) -> str:
    """As TOML, with the origin behind each value."""
    lines = [f"config_version = {VERSION}"]
    table: FieldPath = ()
    for each in found:
        *head, name = each.path
        if (*head,) != table:
            table = (*head,)
            lines += ["", f"[[{head[0]}]]" if len(head) > 1 else f"[{head[0]}]"]
        value = f"# {name}" if each.value is None else f"{name} = {toml_value(each.value)}"
        lines.append(f"{value:<{_COLUMN}}  # {each.origin}")
    return "\n".join(lines)


def as_json(found: Iterator[Shown]) -> dict[str, Any]:
    """As nested tables, each value an object of `value` and `from`."""
    facts: dict[str, Any] = {}
    for each in found:
        name, *rest = each.path
        holder = facts.setdefault(str(name), {})
        if len(rest) > 1:
            holder = holder.setdefault(str(rest[0]), {})
        holder[str(rest[-1])] = {"value": each.value, "from": each.origin}
    return {name: [*table.values()] if name in ("camera", "sink", "alert") else table for name, table in facts.items()}


def _table(reading: Reading, text: str, path: FieldPath, table: Any) -> Iterator[Shown]:
    for field, doc in documented(type(table)):
        place = (*path, field.name)
        value = _presentable(reading, place, getattr(table, field.name), doc)
        yield Shown(place, value, _origin(reading, text, place))


def _presentable(reading: Reading, path: FieldPath, value: Any, doc: Doc) -> Any:
    if path in reading.secret:
        return mask(reading.secret[path].written)
    if doc.secret and value is not None:
        return _MASK
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, tuple):
        return [_presentable(reading, (*path, at), each, doc) for at, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _presentable(reading, (*path, key), each, doc) for key, each in value.items()}
    return value


def _origin(reading: Reading, text: str, path: FieldPath) -> str:
    if path in reading.overridden:
        origin = f"environment {reading.overridden[path]}"
    elif _is_given(reading.document.values, path):
        origin = f"line {line_of(text, path)}"
    elif path == ("state", "folder") and reading.config.state.folder is not None:
        origin = "environment STATE_DIRECTORY"
    else:
        return "default"
    return f"{origin}, from {reading.secret[path].source}" if path in reading.secret else origin


def _is_given(values: Any, path: FieldPath) -> bool:
    for key in path:
        if isinstance(key, str) and key not in values:
            return False
        values = values[key]
    return True
