import pytest

from ecotta_rt.cli.key_mapping import key_mapping
from ecotta_rt.errors import UsageError


def test_prefixes_are_renamed_taken_off_or_left_out():
    assert key_mapping(["model.=", "head.=fc.", "ema."]) == {"model.": "", "head.": "fc.", "ema.": None}
    assert key_mapping([]) is None


@pytest.mark.parametrize("given", [["=x"], [""], ["a=b", "a=c"]])
def test_a_mapping_of_nothing_or_twice_is_refused(given):
    with pytest.raises(UsageError, match=r"--key-mapping '.*': expected OLD=NEW, each OLD once"):
        key_mapping(given)
