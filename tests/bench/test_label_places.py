import math

from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.bench.label_places import Box, place_labels

AREA = Box(0, 0, 1000, 500)


def around(dot, radius):
    return Box(dot[0] - radius, dot[1] - radius, dot[0] + radius, dot[1] + radius)


def test_a_lone_label_lies_right_of_its_dot():
    (box,) = place_labels([(100, 100)], [(60, 12)], 5, AREA)

    assert box.left > 105
    assert math.isclose((box.bottom + box.top) / 2, 100)


def test_labels_of_close_dots_cover_neither_each_other_nor_a_dot():
    dots = [(300, 200), (304, 203), (300, 190), (310, 200), (298, 207)]

    boxes = place_labels(dots, [(60, 12)] * len(dots), 5, AREA)

    others = [around(dot, 5) for dot in dots]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in [*others, *boxes[:place]])
        assert box.within(AREA)


def test_a_label_at_the_right_edge_stays_inside():
    (box,) = place_labels([(990, 250)], [(60, 12)], 5, AREA)

    assert box.within(AREA)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 500)), max_size=12))
def test_every_dot_gets_a_label_of_its_size(dots):
    boxes = place_labels(dots, [(60, 12)] * len(dots), 5, AREA)

    assert len(boxes) == len(dots)
    assert all(math.isclose(box.right - box.left, 60, abs_tol=1e-6) for box in boxes)
