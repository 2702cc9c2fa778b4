from dataclasses import dataclass
from typing import Annotated

import pytest

from ecotta_rt.errors import UsageError
from ecotta_rt.files.fields import Limit
from ecotta_rt.sources.query import Size, read_query

SIZE = Size(2, 1)


@dataclass(frozen=True)
class Options:
    rate: Annotated[float, Limit(0, 10)] = 1.0
    count: int = 3
    name: str = "none"
    wait: bool = True
    size: Size = SIZE


def test_options_are_read_by_the_kinds_of_the_dataclass():
    query = "rate=2&count=4&name=door&wait=no&size=640x480"

    assert read_query("x:", query, Options) == Options(2.0, 4, "door", False, Size(640, 480))
    assert read_query("x:", "", Options) == Options()


def test_what_cannot_be_meant_is_told_with_its_option(subtests):
    wrong = {
        "rate=fast": "rate=fast: expected a number",
        "rate=11": "rate: expected a number from 0 to 10, found 11.0",
        "rate=nan": "rate: expected a number from 0 to 10",
        "count=1.5": "count=1.5: expected a whole number",
        "wait=perhaps": "wait=perhaps: expected yes or no",
        "size=640": "size=640: expected WIDTHxHEIGHT",
        "size=0x4": "size=0x4: expected WIDTHxHEIGHT",
        "sise=1x1": "sise: unknown field; did you mean size",
        "count=1&count=1": "count is given twice",
        "name=": "name: expected printable text",
    }
    for query, told in wrong.items():
        with subtests.test(query), pytest.raises(UsageError) as refusal:
            read_query("x:door", query, Options)
        assert str(refusal.value).startswith(f"x:door: {told}")
