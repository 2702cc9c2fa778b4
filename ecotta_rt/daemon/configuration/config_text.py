"""A configuration to begin with, as text: every field with what it is for; and what all such texts are made of."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from textwrap import wrap
from typing import Any, get_args, get_type_hints

from ecotta_rt.daemon.configuration.config import TABLES
from ecotta_rt.daemon.configuration.config_version import VERSION
from ecotta_rt.daemon.configuration.tables import CameraOptions
from ecotta_rt.files.fields import Doc
from ecotta_rt.sinks.alert_rules import AlertRule
from ecotta_rt.sinks.kinds import KINDS, sink_kind

__all__ = ["default_of", "documented", "first_text", "sentence", "summary", "toml_value"]

_HEAD = f"""\
# A configuration of `ecotta serve`; `ecotta config check FILE` looks it over.
#
# Behind a # stands the default of a field, or an example where it has none. Any text may come from elsewhere:
# "${{NAME}}" from the environment, "file:/run/secrets/name" from a file.
config_version = {VERSION}
"""
_FIRST_KIND = "json-lines"
_SEEN = 'label = "cat"'  # goes with the example of `when`
_WIDTH = 100


def first_text(bundle: str, cameras: Mapping[str, str], state: str | None = None) -> str:
    """A configuration to begin with.

    Args:
        bundle: The exported network.
        cameras: Source by name; at least one.
        state: Folder of the snapshots; None: the default.
    """
    given: dict[str, dict[str, Any]] = {"network": {"bundle": bundle}}
    if state is not None:
        given["state"] = {"folder": state}
    parts = [_HEAD]
    for name, kind in TABLES.items():
        parts.append(_told(f"[{name}]", kind, given.get(name, {})))
        if name == "network":
            parts += _cameras(cameras)
    return "\n".join([*parts, *map(_output, KINDS), _needed("[[alert]]", AlertRule, [_SEEN], behind=True)])


def documented(kind: type) -> Iterator[tuple[Field[Any], Doc]]:
    """The fields of a table, each with its sentence."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        doc = next((note for note in get_args(hints[field.name]) if isinstance(note, Doc)), Doc(""))
        yield field, doc


def default_of(field: Field[Any]) -> Any:
    """The value of a field that is left out; `MISSING` where it must not be."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def sentence(text: str) -> str:
    """With a capital letter and a full stop.

    >>> sentence("its name")
    'Its name.'
    """
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def summary(kind: type) -> str:
    """What a table is, from the first line of its docstring."""
    return (kind.__doc__ or "").splitlines()[0]


def toml_value(value: Any) -> str:
    """A value as TOML has it, on one line; tables as inline tables.

    >>> toml_value(("a", 1.5, True, {"b": None}))
    '["a", 1.5, true, {}]'
    """
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        inner = (f"{_key(key)} = {toml_value(each)}" for key, each in value.items() if each is not None)
        return f"{{{', '.join(inner)}}}"
    return repr(value)


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else json.dumps(key, ensure_ascii=False)


def _told(head: str, kind: type, given: Mapping[str, Any]) -> str:
    """A table with every field."""
    lines = [f"# {summary(kind)}", head]
    for field, doc in documented(kind):
        lines += wrap(sentence(doc.text), _WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines.append(_line(field, doc, given))
    return "\n".join([*lines, ""])


def _line(field: Field[Any], doc: Doc, given: Mapping[str, Any]) -> str:
    if field.name in given:
        return f"{field.name} = {toml_value(given[field.name])}"
    default = default_of(field)
    unset = default in (None, MISSING) or (default == () and doc.example)
    return f"# {field.name} = {doc.example if unset else toml_value(default)}"


def _cameras(cameras: Mapping[str, str]) -> Iterator[str]:
    """The first with every field, the others with those that it must have."""
    for at, (name, source) in enumerate(cameras.items()):
        given = {"name": name, "source": source}
        if at == 0:
            yield _told("[[camera]]", CameraOptions, given)
        else:
            yield "\n".join(["[[camera]]", *(f"{key} = {toml_value(value)}" for key, value in given.items()), ""])


def _output(name: str) -> str:
    """What an output of this kind must have; but for the first kind behind a #."""
    return _needed("[[sink]]", sink_kind(name).options, [f"kind = {toml_value(name)}"], behind=name != _FIRST_KIND)


def _needed(head: str, kind: type, first: list[str], *, behind: bool) -> str:
    """A table with the fields that it must have."""
    needed = (f"{field.name} = {doc.example}" for field, doc in documented(kind) if default_of(field) is MISSING)
    mark = "# " if behind else ""
    return "\n".join([f"# {summary(kind)}", *(f"{mark}{line}" for line in [head, *first, *needed]), ""])
