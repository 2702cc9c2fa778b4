"""Norms that boards hold: states in which they are others are named before boards refuse the merged one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import InputFileError
from ecotta_rt.fleet.bundle_state import BundleState
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import MergeOptions
from fleet.conftest import sent, state

HELD = ("bn1.mean", "bn1.variance")
SOURCE = state(1000, followed=0, learned=0)


def board(seed, **changes):
    """One that holds `bn1`."""
    followed = state(seed)
    held = {name: SOURCE.statistics[name] for name in HELD}
    return replace(followed, statistics={**followed.statistics, **held, **changes})


def moved(seed):
    return board(seed, **{"bn1.mean": SOURCE.statistics["bn1.mean"] + np.float32(0.01)})


def bundle_state(held=HELD):
    return BundleState(FlatStates().read(sent(SOURCE)[0]), held)


@pytest.mark.parametrize("options", [MergeOptions(), MergeOptions(bundle=bundle_state())], ids=["most", "bundle"])
def test_a_state_with_another_held_norm_is_named(options):
    boards = sent(*map(board, range(4)), moved(4))

    with pytest.raises(InputFileError, match=r"^board-4: its bn1\.mean is not that of .*boards hold"):
        merge(boards, options)

    result = merge(boards, replace(options, robust=True))
    assert [one.name for one in result.left_out] == ["board-4"]
    for name in HELD:
        assert np.array_equal(result.groups[0].state.statistics[name], SOURCE.statistics[name])


def test_the_bundle_tells_where_most_states_are_others():
    boards = sent(*map(moved, range(3)), board(3), board(4))
    options = MergeOptions(robust=True, bundle=bundle_state(), most_left_out=1)

    assert [one.name for one in merge(boards, options).left_out] == ["board-0", "board-1", "board-2"]


def test_of_a_bundle_that_holds_nothing_nothing_is_asked():
    assert not merge(sent(board(0), moved(1)), MergeOptions(robust=True, bundle=bundle_state(()))).left_out


def test_boards_that_have_followed_nothing_yet_tell_nothing():
    still = [SOURCE] * 4

    assert not merge(sent(*still, state(1), state(2)), MergeOptions("median", robust=True)).left_out


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
@settings(max_examples=30)
def test_boards_that_move_all_norms_are_never_named(seeds):
    assert merge(sent(*map(state, seeds)), MergeOptions("median")).groups


def test_states_of_other_arrays_than_the_bundles_are_named():
    other = {"w": np.ones(3, np.float32)}

    with pytest.raises(InputFileError, match="board-1: its arrays are not those of the bundle"):
        merge(sent(board(0), state(1, parameters=other)), MergeOptions(bundle=bundle_state()))


def test_a_bundle_says_what_it_holds(checkout):
    bundle = read_bundle(checkout / "tests" / "hostile" / "small.ecotta")

    found = BundleState.of(bundle)

    assert found.flat.network_digest == bundle.manifest.network_digest
    assert tuple(found.held) == tuple(array.name for array in bundle.manifest.layout.held)
