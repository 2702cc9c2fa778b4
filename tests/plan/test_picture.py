from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.plan.picture import picture

MIB = 1 << 20


def test_a_column_is_as_high_as_the_most_of_its_nodes():
    lines = picture([0, 8 * MIB, 0, 4 * MIB], width=2, height=8)

    assert [line[-2] for line in lines[:-1]] == ["█"] * 8
    assert [line[-1] for line in lines[:-1]] == [" "] * 4 + ["█"] * 4


def test_few_nodes_have_a_column_each():
    assert picture([1, 2, 3], width=72)[-1].endswith("+---")


def test_nothing_alive_is_a_flat_line():
    assert set("".join(line.partition("|")[2] for line in picture([0, 0], height=2)[:-1])) == {" "}


def test_no_nodes_are_no_picture():
    assert picture([]) == []


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=300), st.integers(1, 100), st.integers(1, 12))
def test_every_picture_has_its_size(live, width, height):
    lines = picture(live, width, height)

    assert len(lines) == height + 1
    assert {len(line.partition("|")[2]) for line in lines[:-1]} == {min(width, len(live))}
    assert {line.index("|") for line in lines[:-1]} == {lines[-1].index("+")}
