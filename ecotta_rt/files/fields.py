"""Read a record that a stranger may have written, JSON or TOML, as a dataclass: the dataclass is the schema.

    parse_json(content, origin)  or  parse_toml(content, origin)   ->   Document   ->   Document.read(Manifest)

Each field of the dataclass is read by its annotation: `str`, `int`, `float`, `bool`, `Literal`, another dataclass,
`tuple[X, ...]`, `Mapping[str, X]`, or a union of those. `Annotated` says its limits:

    batch: Annotated[int, Limit(1, 64)]
    name: Annotated[str, Limit(most=200), Matches(r"[a-z]+", "small letters")]

A field with a default may be left out. Kinds are strict: `true` is no number, 1.0 no whole number. Unknown fields are
refused. Texts are printable and on one line, since they reach terminals. Every error names the file and the field, in
TOML the line too.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ecotta_rt.errors import EcottaError

__all__ = [
    "MAX_TEXT_CHARACTERS",
    "Doc",
    "Document",
    "FieldPath",
    "Limit",
    "Matches",
    "OneOf",
    "Since",
    "Without",
    "nearest",
    "path_text",
    "shown",
    "without_value",
]

MAX_TEXT_CHARACTERS = 4096
"""Longest text in a field without a limit of its own."""

_LARGEST_NUMBER = 2**63
_SHOWN_CHARACTERS = 60
_KINDS: dict[Any, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}

FieldPath = tuple[str | int, ...]
"""Where a value is in a record: `("graphs", 0, "batch")` is `graphs[0].batch`."""

T = TypeVar("T")
Reader = Callable[[Any], Any]


@dataclass(frozen=True)
class Limit:
    """The range of a number, the characters of a text, or the entries of a list or mapping; both ends included.

    Attributes:
        least: The smallest that is allowed.
        most: The largest.
        above: For numbers: the largest that is too small.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None


@dataclass(frozen=True)
class Since:
    """The field is required from this version of the format on, and unknown before: there its default holds."""

    version: int


@dataclass(frozen=True)
class Doc:
    """What a field is for, in a sentence: for a configuration that is explained, shown and made from its dataclass.

    Attributes:
        text: The sentence.
        example: A value as it is written in TOML, where the default shows none.
        secret: Never to be shown.
    """

    text: str
    example: str = ""
    secret: bool = False


@dataclass(frozen=True)
class Without:
    """A field of the dataclass that is unknown in this place."""

    name: str


@dataclass(frozen=True)
class Matches:
    """A check: the whole text matches a pattern of ASCII characters; `expected` says that in words."""

    pattern: str
    expected: str

    def __call__(self, value: str) -> str | None:
        matches = re.fullmatch(self.pattern, value, re.ASCII)
        return None if matches else f"expected {self.expected}, found {shown(value)}"


@dataclass(frozen=True)
class OneOf:
    """A check: the value is one of those given; for choices that are no `Literal`."""

    choices: tuple[Any, ...]

    def __call__(self, value: Any) -> str | None:
        # The type too, since True equals 1.
        if any(value == choice and type(value) is type(choice) for choice in self.choices):
            return None
        texts = [choice for choice in self.choices if isinstance(choice, str)]
        hint = nearest(value, texts) if isinstance(value, str) else ""
        return f"expected one of {', '.join(map(str, self.choices))}, found {shown(value)}; {hint}".strip("; ")


class Document:
    """A parsed record.

    Args:
        values: Its fields.
        describe: Makes the error to be raised from where and what.
    """

    def __init__(self, values: dict[str, Any], describe: Callable[[FieldPath, str], EcottaError]) -> None:
        self.values = values
        self.error = describe

    def take(self, name: str, kind: Any) -> Any:
        """Take out one field, such as the version of the format, before the rest is read.

        Args:
            name: Its name.
            kind: Its annotation.

        Raises:
            EcottaError: As `read` does.
        """
        try:
            if name not in self.values:
                raise _Wrong("missing", name)
            value = _below(name, _reader(kind), self.values[name])
        except _Wrong as wrong:
            raise self.error(wrong.path, wrong.problem) from None
        self.values = {key: left for key, left in self.values.items() if key != name}
        return value

    def part(self, *path: str | int) -> "Document":
        """What is in one place of it, as a record of its own; its errors name the whole path.

        Args:
            path: Where; it is there.

        Raises:
            EcottaError: There is no table.
        """
        value: Any = self.values
        for key in path:
            value = value[key]
        if type(value) is not dict:
            raise self.error(path, f"expected a table, found {shown(value)}")
        return Document(value, lambda below, problem: self.error((*path, *below), problem))

    def read(self, kind: type[T], *, version: int = 0) -> T:
        """All fields, as a dataclass.

        A class may have a `DERIVED`, names of attributes that are written too: a record must have them, with the value
        that the other fields give.

        Args:
            kind: The dataclass.
            version: That of the record, where fields are marked with `Since`.

        Raises:
            EcottaError: A field is missing, unknown, of another kind or beyond its limit: `InputFileError` for JSON,
                `ConfigurationError` for TOML.
        """
        try:
            record: Any = kind
            value: T = _reader(record, version)(self.values)
            return value
        except _Wrong as wrong:
            raise self.error(wrong.path, wrong.problem) from None

    def read_all(self, kind: type[T], faults: list[EcottaError]) -> T | None:
        """As `read`, but with all that is wrong with the fields, where a person is to mend it.

        Args:
            kind: The dataclass; it has no `DERIVED`.
            faults: What is wrong is put there, in the order of the fields, unknown ones first.

        Returns:
            The dataclass; None where something is wrong.
        """
        readers, required = _record_fields(kind, (), (), 0)
        unknown = [name for name in self.values if name not in readers]
        wrongs = [_Wrong(_unknown(name, tuple(readers)), _shortened(name)) for name in unknown]
        wrongs += [_Wrong("missing", name) for name in required if name not in self.values]
        made = {}
        for name, read in readers.items():
            try:
                if name in self.values:
                    made[name] = _below(name, read, self.values[name])
            except _Wrong as wrong:
                wrongs.append(wrong)
        faults += [self.error(wrong.path, wrong.problem) for wrong in wrongs]
        return None if wrongs else kind(**made)


def shown(value: object) -> str:
    """A stranger's value for a message: short, and in printable ASCII."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    try:
        text = ascii(value)
    except ValueError:  # Python writes out no number of more than some thousand digits
        return "a number of too many digits"
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def without_value(problem: str) -> str:
    """What is wrong with a value, without the value.

    >>> without_value("expected a number, found 'secret'")
    'expected a number, found something else'
    """
    expected, found, _ = problem.partition(", found ")
    return f"{expected}{found}something else" if found else expected


def path_text(path: FieldPath) -> str:
    """`graphs[0].batch`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def nearest(name: str, known: Collection[str]) -> str:
    """The hint `did you mean NAME? `, or nothing where no known name is near.

    >>> nearest("brigde", ["bridge", "tunnel"])
    'did you mean bridge? '
    """
    near = difflib.get_close_matches(name[:MAX_TEXT_CHARACTERS], known, n=1)
    return f"did you mean {near[0]}? " if near else ""


class _Wrong(Exception):
    """What is wrong with a value; those who hold it add where it is."""

    def __init__(self, problem: str, *path: str | int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path


def _below(key: str | int, read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except _Wrong as wrong:
        wrong.path = (key, *wrong.path)
        raise


@cache
def _reader(kind: Any, version: int = 0) -> Reader:
    """What reads a value of this annotation. Made once: a manifest has thousands of values."""
    notes: list[Any] = []
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
    read = _plain_reader(kind, notes, version)
    checks = [note for note in notes if callable(note)]
    read = _checked(read, checks) if checks else read
    doc = _note(notes, Doc)
    return _silent(read) if doc is not None and doc.secret else read


def _silent(read: Reader) -> Reader:
    """Complains of a value without showing it."""

    def read_silently(value: Any) -> Any:
        try:
            return read(value)
        except _Wrong as wrong:
            wrong.problem = without_value(wrong.problem)
            raise

    return read_silently


def _checked(read: Reader, checks: Collection[Callable[[Any], str | None]]) -> Reader:
    def read_and_check(value: Any) -> Any:
        result = read(value)
        for check in checks:
            problem = check(result)
            if problem is not None:
                raise _Wrong(problem)
        return result

    return read_and_check


def _plain_reader(kind: Any, notes: list[Any], version: int) -> Reader:
    limit = _note(notes, Limit) or Limit()
    origin, args = get_origin(kind), get_args(kind)
    if kind is str:
        return _text(limit)
    if kind in _KINDS:
        return _number(kind, limit)
    if origin is Literal:
        return _checked(_same, [OneOf(args)])
    if origin is tuple:
        return _list(_reader(args[0], version), limit)
    if origin is Mapping:
        return _mapping(_reader(args[0], version), _reader(args[1], version), limit)
    if origin in (Union, UnionType):
        return _union([arm for arm in args if arm is not type(None)], limit, version)
    if is_dataclass(origin or kind):
        without = [note.name for note in notes if isinstance(note, Without)]
        return _record(origin or kind, args, without, version)
    raise TypeError(f"no reader for a field of {kind}")


def _note(notes: Collection[Any], kind: type[T]) -> T | None:
    return next((note for note in notes if isinstance(note, kind)), None)


def _same(value: Any) -> Any:
    return value


def _text(limit: Limit) -> Reader:
    most = MAX_TEXT_CHARACTERS if limit.most is None else limit.most

    def read(value: Any) -> str:
        if type(value) is not str:
            raise _Wrong(f"expected a text, found {shown(value)}")
        if len(value) > most:
            raise _Wrong(f"a text of {len(value)} characters, more than {most}")
        # An escape sequence could say anything on a terminal.
        if not value.isprintable() or not value.strip():
            raise _Wrong(f"expected printable text on one line, found {shown(value)}")
        return value

    return read


def _number(kind: Any, limit: Limit) -> Reader:
    # Exact types, since True is an int to isinstance.
    allowed = (int, float) if kind is float else (kind,)
    least = -_LARGEST_NUMBER if limit.least is None else limit.least
    most = _LARGEST_NUMBER - 1 if limit.most is None else limit.most
    above = -math.inf if limit.above is None else limit.above
    bounds = f" from {least} to {most}" if limit.above is None else f" above {above} and at most {most}"
    told = bounds if kind is not bool and limit != Limit() else ""

    def read(value: Any) -> Any:
        if type(value) not in allowed:
            raise _Wrong(f"expected {_KINDS[kind]}{told}, found {shown(value)}")
        if not least <= value <= most or value <= above:
            raise _Wrong(f"expected {_KINDS[kind]}{bounds}, found {shown(value)}")
        return float(value) if kind is float else value

    return read


def _entries(values: Any, kind: Any, limit: Limit, expected: str) -> Any:
    if type(values) is not kind:
        raise _Wrong(f"expected {expected}, found {shown(values)}")
    if limit.most is not None and len(values) > limit.most:
        raise _Wrong(f"{len(values)} entries, more than {limit.most}")
    if limit.least is not None and len(values) < limit.least:
        raise _Wrong(f"{len(values)} entries, expected at least {limit.least}")
    return values


def _list(item: Reader, limit: Limit) -> Reader:
    def read(value: Any) -> tuple[Any, ...]:
        return tuple(_below(at, item, each) for at, each in enumerate(_entries(value, list, limit, "a list")))

    return read


def _mapping(key: Reader, item: Reader, limit: Limit) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        entries = _entries(value, dict, limit, "an object").items()
        return {key(name): _below(name, item, each) for name, each in entries}

    return read


def _union(arms: list[Any], limit: Limit, version: int) -> Reader:
    """Of one kind and None: that kind, since an absent field is None and no value is. Of several: by the exact type."""
    if len(arms) == 1:
        return _reader(Annotated[arms[0], limit] if limit != Limit() else arms[0], version)
    by_type = {get_args(arm)[0] if get_origin(arm) is Annotated else arm: _reader(arm, version) for arm in arms}
    expected = ", ".join(_KINDS[kind] for kind in by_type if kind is not int or float not in by_type)

    def read(value: Any) -> Any:
        arm = by_type.get(type(value))
        if arm is None:
            raise _Wrong(f"expected {expected}, found {shown(value)}")
        return arm(value)

    return read


def _record(kind: Any, args: tuple[Any, ...], without: Collection[str], version: int) -> Reader:
    readers, required = _record_fields(kind, args, without, version)
    derived: tuple[str, ...] = getattr(kind, "DERIVED", ())

    def read(value: Any) -> Any:
        for name in _entries(value, dict, Limit(), "an object"):
            if name not in readers and name not in derived:
                raise _Wrong(_unknown(name, (*readers, *derived)), _shortened(name))
        for name in (*required, *derived):
            if name not in value:
                raise _Wrong("missing", name)
        made = kind(**{name: _below(name, read, value[name]) for name, read in readers.items() if name in value})
        for name in derived:
            _below(name, _checked(_same, [OneOf((getattr(made, name),))]), value[name])
        return made

    return read


def _record_fields(
    kind: Any, args: tuple[Any, ...], without: Collection[str], version: int
) -> tuple[dict[str, Reader], tuple[str, ...]]:
    """Readers by name, and the names that must be there."""
    hints = get_type_hints(kind, include_extras=True)
    given = dict(zip(getattr(kind, "__parameters__", ()), args, strict=True))
    readers, required = {}, []
    for field in fields(kind):
        hint = hints[field.name]
        since = _note(get_args(hint), Since)
        if field.name in without or (since and version < since.version):
            continue
        readers[field.name] = _reader(given.get(hint, hint), version)
        if since or (field.default is MISSING and field.default_factory is MISSING):
            required.append(field.name)
    return readers, tuple(required)


def _unknown(name: str, known: tuple[str, ...]) -> str:
    return f"unknown field; {nearest(name, known)}known here: {', '.join(known)}"
