from argparse import ArgumentTypeError

import pytest

from ecotta_rt.cli.numbers import MOST_FRAMES, integer, integer_up_to


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
