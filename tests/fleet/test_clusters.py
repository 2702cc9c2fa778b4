"""How many kinds of place are found, and which states are of which."""

import numpy as np
import pytest

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.fleet import clusters as module
from ecotta_rt.fleet.clusters import clusters_of
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import MergeOptions
from fleet.conftest import sent, state

STILL = state().statistics


def flat(*states):
    reader = FlatStates()
    return [reader.read(source) for source in sent(*states)]


@pytest.mark.parametrize("kinds", [1, 2, 3, 5])
def test_as_many_kinds_are_found_as_there_are(kinds):
    places = [4.0 * (number % kinds) for number in range(4 * kinds + 2)]

    found = clusters_of(flat(*(state(seed, place) for seed, place in enumerate(places))))

    assert found.labels.max() + 1 == kinds
    for label in range(kinds):
        assert len({places[n] for n in np.flatnonzero(found.labels == label)}) == 1
    assert np.array_equal(np.sort(np.bincount(found.labels))[::-1], np.bincount(found.labels))  # the largest first


def test_a_cluster_is_merged_as_if_it_were_alone():
    night, day = [state(seed, 0.0) for seed in range(4)], [state(seed, 6.0) for seed in range(4, 7)]

    result = merge(sent(*night, *day), MergeOptions(clusters=True))

    assert [len(group.members) for group in result.groups] == [4, 3]
    for group, boards in zip(result.groups, (night, day), strict=True):
        assert group.state.to_bytes() == merge(sent(*boards)).groups[0].state.to_bytes()


def test_the_silhouette_is_rousseeuws():
    points = np.array([0.0, 1.0, 10.0, 12.0, 13.0])
    apart = np.abs(points[:, None] - points)
    labels = np.array([0, 0, 1, 1, 1])

    by_hand = []
    for place, label in enumerate(labels):
        own = [apart[place, other] for other in range(5) if labels[other] == label and other != place]
        rest = [apart[place, other] for other in range(5) if labels[other] != label]
        a, b = np.mean(own), np.mean(rest)
        by_hand.append((b - a) / max(a, b))

    assert module._silhouette(apart, labels) == pytest.approx(np.mean(by_hand), abs=1e-12)


def test_one_alone_has_a_silhouette_of_0():
    apart = np.abs(np.subtract.outer([0.0, 1.0, 9.0], [0.0, 1.0, 9.0]))

    assert module._silhouette(apart, np.array([0, 0, 1])) == pytest.approx((8 / 9 + 7 / 8) / 3)


def test_distances_are_those_of_the_statistics():
    boards = [state(seed, seed) for seed in range(3)]
    points = module._points(flat(*boards))

    apart = module._distances(module._products(points))

    for one in range(3):
        for other in range(3):
            by_hand = np.sqrt(np.mean((points[one] - points[other]) ** 2))
            assert apart[one, other] == pytest.approx(by_hand, abs=1e-5)


def test_too_many_states_to_compare_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_STATES", 2)

    with pytest.raises(UsageError, match="3 states are more than can be compared"):
        clusters_of(flat(*(state(seed) for seed in range(3))))


def test_statistics_too_large_to_compare_are_refused():
    huge = [
        state(seed, statistics={n: a + np.float32(1e30 * seed * n.endswith("mean")) for n, a in STILL.items()})
        for seed in range(4)
    ]

    with pytest.raises(InputFileError, match="too large to be compared"):
        clusters_of(flat(*huge))


@pytest.mark.parametrize("asked", [2, 3, 6])
def test_as_many_kinds_are_made_as_are_asked_for(asked):
    boards = sent(*(state(seed) for seed in range(6)))

    result = merge(boards, MergeOptions(clusters=asked))

    assert len(result.groups) == asked
    assert sorted(name for group in result.groups for name in group.members) == sorted(one.name for one in boards)
    reversed_too = merge(boards[::-1], MergeOptions(clusters=asked))
    assert [group.members for group in result.groups] == [group.members for group in reversed_too.groups]


@pytest.mark.parametrize(
    ("asked", "said"), [(1, "1 kinds of place of 3 states: give 2 or more"), (4, "4 kinds of place of 3 states")]
)
def test_a_number_of_kinds_that_cannot_be_is_refused(asked, said):
    with pytest.raises(UsageError, match=said):
        merge(sent(*(state(seed) for seed in range(3))), MergeOptions(clusters=asked))


def test_equal_states_are_not_divided():
    with pytest.raises(UsageError, match="these 3 states divide into 1; ask for another number"):
        merge(sent(state(), state(), state()), MergeOptions(clusters=2))
