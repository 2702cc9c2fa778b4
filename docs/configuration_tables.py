"""The tables of docs/reference/configuration.md, from the dataclasses that read a configuration."""

from dataclasses import MISSING, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ecotta_rt.daemon.configuration.config import TABLES
from ecotta_rt.daemon.configuration.config_text import default_of, documented, sentence, summary, toml_value
from ecotta_rt.daemon.configuration.tables import CameraOptions
from ecotta_rt.files.fields import Doc, Limit
from ecotta_rt.sinks.alert_rules import AlertRule
from ecotta_rt.sinks.kinds import KINDS, SinkOptions, sink_kind

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_ANY = Limit()


def configuration(name: str) -> str:
    """The fields of one table, or of all outputs.

    Args:
        name: A table, or `sinks`.
    """
    if name != "sinks":
        return _fields({**TABLES, "camera": CameraOptions, "alert": AlertRule}[name])
    parts = [f"Every kind has these:\n\n{_fields(SinkOptions)}"]
    for kind in KINDS:
        options = sink_kind(kind).options
        own = _fields(options, without=SinkOptions)
        parts.append(f'### `kind = "{kind}"`\n\n{sentence(summary(options))}\n{own and f"{chr(10)}{own}"}')
    return "\n".join(parts)


def _fields(kind: type, without: type | None = None) -> str:
    """One row a field; those of `without` are left out."""
    known = {field.name for field, _ in documented(without)} if without else set()
    hints = get_type_hints(kind, include_extras=True)
    rows = [
        f"| `{field.name}` | {_kind(hints[field.name])} | {_default(default_of(field))} | {_told(doc)} |"
        for field, doc in documented(kind)
        if field.name not in known
    ]
    return "\n".join(["| field | value | default | |", "| --- | --- | --- | --- |", *rows, ""]) if rows else ""


def _told(doc: Doc) -> str:
    shown = f" For example `{doc.example}`." if doc.example else ""
    return (sentence(doc.text) + shown).replace("|", r"\|").replace("*", r"\*")


def _default(value: Any) -> str:
    if value is MISSING:
        return "required"
    return "" if value in (None, (), {}) else f"`{toml_value(value)}`"


def _kind(hint: Any, limit: Limit = _ANY) -> str:
    """A field's annotation in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        found = next((note for note in args[1:] if isinstance(note, Limit)), limit)
        return _kind(args[0], found)
    if origin is Literal:
        return "one of " + ", ".join(f"`{toml_value(choice)}`" for choice in args)
    if origin in (Union, UnionType):
        return " or ".join(_kind(arm, limit) for arm in args if arm is not type(None))
    if origin is tuple:
        return f"list: {_kind(args[0])}"
    if is_dataclass(hint):
        return "table"
    return _WORDS[hint] + _range(limit) if hint in _WORDS else "table of texts"


def _range(limit: Limit) -> str:
    if limit.above is not None:
        return f" above {_number(limit.above)}" + (f", at most {_number(limit.most)}" if limit.most is not None else "")
    if limit.least is not None and limit.most is not None:
        return f", {_number(limit.least)} to {_number(limit.most)}"
    if limit.least is not None:
        return f" from {_number(limit.least)}"
    return f", at most {_number(limit.most)} characters" if limit.most is not None else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
