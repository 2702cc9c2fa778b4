from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import pytest

from ecotta_rt.errors import ConfigurationError, InputFileError, TransferError
from ecotta_rt.files.fields import Doc, Limit, Matches, Since, Without
from ecotta_rt.files.json_text import parse_json
from ecotta_rt.files.toml_text import MAX_FILE_BYTES, parse_toml, read_toml

T = TypeVar("T")


@dataclass(frozen=True)
class Figure(Generic[T]):
    value: T
    unit: str = "bytes"


@dataclass(frozen=True)
class Inner:
    words: Annotated[tuple[str, ...], Limit(1, 3)]
    deep: Figure[int]


@dataclass(frozen=True)
class Record:
    name: Annotated[str, Limit(most=8), Matches("[a-z]+", "small letters")]
    count: Annotated[int, Limit(1, 9)]
    share: Annotated[float, Limit(above=0, most=1)]
    ready: bool
    inner: Inner
    kind: Literal["a", "b"] = "a"
    free: Mapping[str, str | float | int | bool] | None = None
    level: Annotated[int, Since(2)] = 0
    camera: tuple[Annotated[Figure[str], Without("unit")], ...] = ()

    DERIVED: ClassVar = ("first",)

    @property
    def first(self):
        return self.name[0]


TOML = """\
name = "desk"
count = 3
share = 1
ready = true
first = "d"

[inner]
words = ["x", "y"]
deep = { value = 1 }

[[camera]]
value = "front"

[[camera]]
value = "back"
"""

JSON = """{"name": "desk", "count": 3, "share": 1, "ready": true, "first": "d", "inner":
 {"words": ["x", "y"], "deep": {"value": 1}}, "camera": [{"value": "front"}, {"value": "back"}]}"""

READ = Record("desk", 3, 1.0, True, Inner(("x", "y"), Figure(1)), camera=(Figure("front"), Figure("back")))


def test_json_and_toml_are_read_as_the_same_dataclass():
    assert parse_toml(TOML.encode(), "x.toml").read(Record) == READ
    assert parse_json(JSON.encode(), "x.json").read(Record) == READ


def test_values_keep_their_kind():
    read = parse_json(b'{"value": {"a": 1, "b": 1.0, "c": true, "d": "t"}}', "x").read(
        Figure[Mapping[str, str | float | int | bool]]
    )

    assert [type(value) for value in read.value.values()] == [int, float, bool, str]
    assert type(parse_toml(TOML.encode(), "x.toml").read(Record).share) is float


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"desk"', "3", "line 1: field 'name': expected a text, found 3"),
        ('"desk"', '"d3sk"', "line 1: field 'name': expected small letters, found 'd3sk'"),
        ('"desk"', '"deskdeskd"', "line 1: field 'name': a text of 9 characters, more than 8"),
        ('"desk"', r'"\u001b[2J"', "line 1: field 'name': expected printable text"),
        ('"desk"', '"  "', "line 1: field 'name': expected printable text"),
        ("count = 3", "count = 0", "line 2: field 'count': expected a whole number from 1 to 9, found 0"),
        ("count = 3", "count = 3.0", "line 2: field 'count': expected a whole number from 1 to 9, found 3.0"),
        ("count = 3", "count = true", "line 2: field 'count': expected a whole number from 1 to 9, found True"),
        ("count = 3", "cuont = 3", "line 2: field 'cuont': unknown field; did you mean count. known here: name, "),
        ("count = 3\n", "", "line 1: field 'count': missing"),
        ("share = 1", "share = nan", "line 3: field 'share': expected a number above 0 and at most 1, found nan"),
        ("share = 1", "share = 0", "line 3: field 'share': expected a number above 0"),
        ("ready = true", "ready = 1", "line 4: field 'ready': expected true or false, found 1"),
        ('first = "d"', 'first = "e"', "line 5: field 'first': expected one of d, found 'e'"),
        ('first = "d"', 'first = "d"\nkind = "c"', "line 6: field 'kind': expected one of a, b, found 'c'"),
        ('first = "d"', 'first = "d"\nlevel = 1', "line 6: field 'level': unknown field"),
        (
            'first = "d"',
            "first = 'd'\nfree.x = []",
            r"line 6: field 'free.x': expected a text, a number, true or false, found a l",
        ),
        (
            'first = "d"',
            f"first = 'd'\nfree.x = {2**63}",
            f"line 6: field 'free.x': expected a whole number from {-(2**63)} to {2**63 - 1}, found {2**63}$",
        ),
        ('words = ["x", "y"]\n', "", "line 7: field 'inner.words': missing"),
        ('["x", "y"]', "[]", "line 8: field 'inner.words': 0 entries, expected at least 1"),
        ('["x", "y"]', "[1]", r"line 8: field 'inner.words\[0\]': expected a text, found 1"),
        ("{ value = 1 }", "1", "line 9: field 'inner.deep': expected an object, found 1"),
        ("{ value = 1 }", "{ value = '1' }", "line 9: field 'inner.deep.value': expected a whole number, found '1'"),
        ('"back"', "2", r"line 15: field 'camera\[1\].value': expected a text"),
        ('"back"', '"back"\nunit = "m"', r"line 16: field 'camera\[1\].unit': unknown field; known here: value"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(old, new, message):
    assert old in TOML

    with pytest.raises(ConfigurationError, match=f"^x.toml, {message}"):
        parse_toml(TOML.replace(old, new, 1).encode(), "x.toml").read(Record)


def test_a_wrong_field_of_json_is_named_with_its_path():
    with pytest.raises(InputFileError, match=r"^x: field 'camera\[1\].value': expected a text, found None$"):
        parse_json(JSON.replace('"back"', "null").encode(), "x").read(Record)


def test_a_field_is_known_from_its_version_on_and_then_required():
    with pytest.raises(InputFileError, match="'level': missing"):
        parse_json(JSON.encode(), "x").read(Record, version=2)

    later = parse_json(JSON.replace("{", '{"level": 5, ', 1).encode(), "x").read(Record, version=2)

    assert later.level == 5


def test_a_field_given_twice_is_refused():
    with pytest.raises(InputFileError, match="^x: not JSON: the key 'value' is given twice in one object$"):
        parse_json(b'{"value": 1, "value": 2}', "x")


def test_a_header_is_taken_before_the_rest_is_read():
    document = parse_json(JSON.replace("{", '{"format": "f", ', 1).encode(), "x")

    assert document.take("format", Literal["f"]) == "f"
    assert document.read(Record) == READ
    with pytest.raises(InputFileError, match="^x: field 'format': missing$"):
        document.take("format", str)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"value = \xff", "x.toml, line 1: not UTF-8"),
        (b"\nvalue = = 1", "not TOML: .*line 2"),
        (b"value = 1\nvalue = 2", "not TOML: Cannot overwrite a value"),
        (b"value = " + b"9" * 5000, "not TOML"),
        (b"value = " + b"[" * 30_000, "x.toml, line 1: nested more than 8 deep"),
        (b"#" * (MAX_FILE_BYTES + 1), f"longer than {MAX_FILE_BYTES} bytes"),
        (
            f"value = {2**63}".encode(),
            f"'value': expected a whole number from .* to {2**63 - 1}, found {2**63}",
        ),
        (
            b"value = 0x" + b"f" * 15_000,
            "'value': expected a whole number from .*, found a number of too many digits",
        ),
    ],
)
def test_hostile_toml_is_a_configuration_error(content, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_toml(content, "x.toml").read(Figure[int])


def test_a_file_that_cannot_be_read_is_a_transfer_error(tmp_path):
    with pytest.raises(TransferError, match="cannot read .*: it is a folder"):
        read_toml(tmp_path)


def test_a_choice_of_numbers_takes_no_truth_value_for_one():
    with pytest.raises(InputFileError, match="^x: field 'value': expected one of 1, 2, found True$"):
        parse_json(b'{"value": true}', "x").read(Figure[Literal[1, 2]])


def test_a_dataclass_that_is_no_schema_is_our_fault():
    with pytest.raises(TypeError, match="no reader for a field of <class 'bytes'>"):
        parse_json(b'{"value": ""}', "x").read(Figure[bytes])


@dataclass(frozen=True)
class Table:
    name: str
    port: Annotated[int | None, Limit(1, 9)] = None
    token: Annotated[str | None, Doc("A secret.", secret=True), Limit(most=4)] = None


def test_a_limit_holds_of_a_field_that_may_be_left_out_too():
    with pytest.raises(InputFileError, match="from 1 to 9, found 10"):
        parse_json(b'{"name": "a", "port": 10}', "x").read(Table)


@pytest.mark.parametrize("token", ['"hunter2"', "7777777", '["hunter2"]'])
def test_what_is_secret_is_not_shown(token):
    with pytest.raises(InputFileError) as caught:
        parse_json(f'{{"name": "a", "token": {token}}}'.encode(), "x").read(Table)

    assert "'token'" in str(caught.value)
    assert "hunter2" not in str(caught.value) and "7777777" not in str(caught.value)


def test_a_part_of_a_record_is_one_whose_errors_name_the_whole_path():
    document = parse_json(b'{"table": [{"name": "a"}, {"name": 3}, 4]}', "x")

    assert document.part("table", 0).read(Table) == Table("a")
    with pytest.raises(InputFileError, match=r"table\[1\]\.name"):
        document.part("table", 1).read(Table)
    with pytest.raises(InputFileError, match=r"table\[2\].*expected a table, found 4"):
        document.part("table", 2)


def test_all_faults_of_a_record_can_be_told():
    faults = []

    assert parse_json(b'{"port": 10, "tokn": 1, "token": "secret"}', "x").read_all(Table, faults) is None
    assert ["tokn" in str(faults[0]), "'name': missing" in str(faults[1]), "'port'" in str(faults[2])] == [True] * 3
    assert len(faults) == 4
    assert parse_json(b'{"name": "a"}', "x").read_all(Table, faults) == Table("a")
