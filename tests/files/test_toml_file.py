import pytest

from ecotta_rt.errors import ConfigurationError, TransferError
from ecotta_rt.files.toml_file import MAX_FILE_BYTES, parse_toml, read_toml

TEXT = b"""\
name = "desk"
count = 3
share = 0.5
ready = true

[inner]
words = ["a", "b"]
deep = { value = 1 }
"""


def test_fields_are_taken_with_their_kind():
    table = parse_toml(TEXT, "x.toml")
    inner = table.take_table("inner")

    taken = (table.take("name", str), table.take("count", int), table.take("share", float), table.take("ready", bool))

    assert taken == ("desk", 3, 0.5, True)
    assert inner.take_strings("words") == ("a", "b")


def test_a_whole_number_will_do_where_a_number_is_expected():
    assert parse_toml(TEXT, "x.toml").take("count", float) == 3.0


@pytest.mark.parametrize(
    ("key", "kind", "message"),
    [
        ("name", int, "x.toml, line 1: field 'name': expected a whole number, found the string 'desk'"),
        ("count", str, "x.toml, line 2: field 'count': expected a string, found the number 3"),
        ("ready", int, "x.toml, line 4: field 'ready': expected a whole number, found bool True"),
        ("colour", str, "x.toml, line 1: field 'colour': missing"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(key, kind, message):
    with pytest.raises(ConfigurationError, match=f"^{message}$"):
        parse_toml(TEXT, "x.toml").take(key, kind)


def test_a_field_inside_an_inline_table_is_named_with_its_line():
    deep = parse_toml(TEXT, "x.toml").take_table("inner").take_table("deep")

    with pytest.raises(ConfigurationError, match=r"^x.toml, line 8: field 'inner.deep.value': expected a string"):
        deep.take("value", str)


def test_a_missing_field_of_a_table_points_at_the_table():
    with pytest.raises(ConfigurationError, match="line 6: field 'inner.size': missing"):
        parse_toml(TEXT, "x.toml").take_table("inner").take("size", int)


def test_a_field_nobody_took_is_refused_with_the_names_that_are_known():
    table = parse_toml(TEXT, "x.toml").take_table("inner")
    table.take_strings("words")

    with pytest.raises(ConfigurationError, match="line 8: field 'inner.deep': unknown field; known here: words"):
        table.refuse_the_rest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = \xff", "x.toml, line 1: not UTF-8"),
        (b"\na = = 1", "not TOML: .*line 2"),
        (b"a = " + b"9" * 5000, "not TOML"),
        (b"a = " + b"[" * 30_000, "x.toml, line 1: nested more than 8 deep"),
        (b"#" * (MAX_FILE_BYTES + 1), f"longer than {MAX_FILE_BYTES} bytes"),
        (b'a = "\\u001b[2J"', "printable text"),
        (b'a = "  "', "printable text"),
    ],
)
def test_hostile_content_is_a_configuration_error(content, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_toml(content, "x.toml").take("a", str)


def test_a_file_that_cannot_be_read_is_a_transfer_error(tmp_path):
    with pytest.raises(TransferError, match="cannot read .*: it is a folder"):
        read_toml(tmp_path)


@pytest.mark.parametrize("number", [str(2**63), "0x" + "f" * 15_000])
@pytest.mark.parametrize("kind", [int, float, str])
def test_a_number_of_more_than_64_bits_is_refused(number, kind):
    with pytest.raises(ConfigurationError, match="a number of more than 64 bits"):
        parse_toml(f"a = {number}".encode(), "f").take("a", kind)


def test_a_number_too_long_to_be_written_out_is_refused_in_a_list_too():
    with pytest.raises(ConfigurationError, match="with too many digits"):
        parse_toml(f"a = [0x{'f' * 15_000}]".encode(), "f").take("a", str)
