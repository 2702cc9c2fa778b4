"""Drawing a merged state towards its source."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.errors import UsageError
from ecotta_rt.fleet.bundle_state import BundleState
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import RULES, MergeOptions
from ecotta_rt.fleet.shrinkage import shrunk
from fleet.conftest import NORMS, sent, state


def bundle_state(one, held=()):
    return BundleState(FlatStates().read(sent(one)[0]), held)


def numbers(one):
    return {**one.parameters, **one.statistics}


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_a_source_of_so_many_frames_is_as_one_more_board(frames, of_source, seed):
    generator = np.random.default_rng(seed)
    board, source = (state(int(generator.integers(1000)), place=generator.normal(), learned=1) for _ in range(2))
    board, source = (
        replace(one, metadata={"frames.followed": str(n), "frames.learned": str(n)})
        for one, n in ((board, frames), (source, of_source))
    )
    share = of_source / (frames + of_source)

    (drawn,) = merge(sent(board), MergeOptions(bundle=bundle_state(source), source_share=share)).groups
    (as_board,) = merge(sent(board, source)).groups

    for name, array in numbers(as_board.state).items():
        np.testing.assert_allclose(numbers(drawn.state)[name], array, rtol=2e-6, atol=1e-6)


@given(st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_equal_states_stay_and_the_ends_are_the_merged_state_and_the_source(share, seed):
    reader = FlatStates()
    merged, source = (reader.read(one) for one in sent(state(seed), state(seed + 1, place=2.0)))

    def drawn(one, other, its):
        return shrunk(one.vector(), other.vector(), one.arrangement, its).astype(np.float32)

    assert np.array_equal(drawn(merged, merged, share), merged.vector())
    assert np.array_equal(drawn(merged, source, 0.0), merged.vector())
    assert np.array_equal(drawn(merged, source, 1.0), source.vector())


@pytest.mark.parametrize("rule", RULES)
def test_halfway_the_spread_between_both_is_kept(rule):
    boards, source = [state(seed, place=1.0) for seed in range(5)], state(9)
    plain = merge(sent(*boards), MergeOptions(rule)).groups[0].state

    half = merge(sent(*boards), MergeOptions(rule, bundle=bundle_state(source), source_share=0.5)).groups[0].state

    for name, array in plain.parameters.items():
        np.testing.assert_allclose(half.parameters[name], (array + source.parameters[name]) / 2, rtol=1e-6)
    for norm in NORMS:
        (m, v), (ms, vs) = (
            (one.statistics[f"{norm}.mean"], one.statistics[f"{norm}.variance"]) for one in (plain, source)
        )
        np.testing.assert_allclose(half.statistics[f"{norm}.mean"], (m + ms) / 2, rtol=1e-5)
        np.testing.assert_allclose(half.statistics[f"{norm}.variance"], (v + vs) / 2 + (m - ms) ** 2 / 4, rtol=1e-5)
    assert half.metadata["merged.source_share"] == "0.5"
    assert half.behind == plain.behind


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (MergeOptions(source_share=0.5), "needs the bundle"),
        (MergeOptions(source_share=1.0, bundle=bundle_state(state())), "less than 1"),
        (MergeOptions(source_share=-0.1, bundle=bundle_state(state())), "0 or more"),
        (MergeOptions(source_share=float("nan"), bundle=bundle_state(state())), "0 or more"),
    ],
)
def test_shares_that_cannot_be_meant_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        merge(sent(state(1)), options)
