from argparse import ArgumentTypeError

import pytest

from ecotta_rt.cli.parser import MOST_FRAMES, integer, integer_up_to, key_mapping
from ecotta_rt.errors import UsageError


def test_a_number_in_range_is_taken():
    assert integer("-3") == -3
    assert integer(str(2**31 - 1)) == 2**31 - 1
    assert integer_up_to(MOST_FRAMES)(str(2**62)) == 2**62


@pytest.mark.parametrize("text", [str(2**31), str(-(2**31)), "9" * 4000])
def test_a_number_out_of_range_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="is out of range: give a number up to 2147483647"):
        integer(text)


@pytest.mark.parametrize("text", ["", "1.5", "one", "9" * 5000])
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="is no whole number"):
        integer(text)


def test_prefixes_are_renamed_taken_off_or_left_out():
    assert key_mapping(["model.=", "head.=fc.", "ema."]) == {"model.": "", "head.": "fc.", "ema.": None}
    assert key_mapping([]) is None


@pytest.mark.parametrize("given", [["=x"], [""], ["a=b", "a=c"]])
def test_a_mapping_of_nothing_or_twice_is_refused(given):
    with pytest.raises(UsageError, match=r"--key-mapping '.*': expected OLD=NEW, each OLD once"):
        key_mapping(given)
