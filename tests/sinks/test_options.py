"""Options of every kind of output: read from TOML, explained, and used in the page as they are."""

from dataclasses import fields
from typing import get_type_hints

import pytest

import page_parts
from ecotta_rt.errors import ConfigurationError
from ecotta_rt.files.fields import Doc
from ecotta_rt.files.toml_text import parse_toml
from ecotta_rt.sinks.alert_rules import AlertRule, fault_of
from ecotta_rt.sinks.kinds import KINDS, sink_kind


def read(kind, text):
    return parse_toml(text.encode(), "door.toml").read(sink_kind(kind).options)


@pytest.mark.parametrize("kind", KINDS)
def test_each_option_is_explained(kind):
    options = sink_kind(kind).options
    hints = get_type_hints(options, include_extras=True)

    for field in fields(options):
        (doc,) = [note for note in hints[field.name].__metadata__ if isinstance(note, Doc)]
        assert doc.text.endswith("."), field.name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_example_in_the_page_that_can_be_read(kind, checkout):
    page = (checkout / "docs" / "how-to" / "outputs.md").read_text(encoding="utf-8")
    examples = [block.text for block in page_parts.blocks(page) if f'kind = "{kind}"' in block.text]

    assert examples
    for example in examples:
        assert example.startswith("[[sink]]\nkind = ")
        read(kind, "\n".join(example.splitlines()[2:]))


def test_the_rules_of_the_page_can_be_read(checkout):
    page = (checkout / "docs" / "how-to" / "outputs.md").read_text(encoding="utf-8")
    (block,) = [block.text for block in page_parts.blocks(page) if "[[alert]]" in block.text]
    rules = [parse_toml(text.encode(), "door.toml").read(AlertRule) for text in block.split("[[alert]]\n")[1:]]

    assert {rule.when for rule in rules} == {"seen", "lost", "doubt", "event"}
    assert [fault_of(rule) for rule in rules] == [None] * 4


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("json-lines", 'events = ["answers"]', "line 1: field .events.0..: expected one of answer, refused"),
        ("json-lines", 'rotate_size = "much"', "field .rotate_size.: 'much' is not a size"),
        ("csv", "keep = 0", "field .keep.: expected a whole number from 1 to 1000, found 0"),
        ("csv", "files = 1", "unknown field; did you mean file"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_field(kind, text, why):
    with pytest.raises(ConfigurationError, match=why):
        read(kind, text)
