"""Merging states: against raw samples, in any order, with hostile boards among them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.fleet.bundle_state import BundleState
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import RULES, MergeOptions
from ecotta_rt.fleet.sources import StateFile
from ecotta_rt.state import AdaptState
from fleet.conftest import NETWORK, NORMS, sent, state

ROBUST = MergeOptions(robust=True)


def merged(states, options=None):
    (group,) = merge(sent(*states), options).groups
    return group.state


def test_parameters_are_averaged_in_proportion_to_the_frames_learned_from():
    one, other = state(1, learned=30), state(2, learned=10)

    result = merged([one, other]).parameters

    for name, array in result.items():
        by_hand = 0.75 * one.parameters[name].astype(float) + 0.25 * other.parameters[name].astype(float)
        np.testing.assert_allclose(array, by_hand, rtol=1e-6)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_pooled_statistics_are_the_moments_of_the_joined_samples(counts, seed):
    generator = np.random.default_rng(seed)
    samples = [generator.normal(generator.normal(0, 3), generator.uniform(0.1, 4), (n, 3)) for n in counts]
    boards = []
    for number, its in enumerate(samples):
        own = {"bn1.mean": its.mean(0), "bn1.variance": its.var(0)}
        statistics = {**state(number).statistics, **{name: array.astype(np.float32) for name, array in own.items()}}
        boards.append(state(number, followed=len(its), statistics=statistics))

    result = merged(boards).statistics

    joined = np.concatenate(samples)
    np.testing.assert_allclose(result["bn1.mean"], joined.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(result["bn1.variance"], joined.var(0), rtol=2e-6, atol=1e-6)


@given(st.data())
@settings(max_examples=40)
def test_the_order_of_the_states_changes_nothing(data):
    count = data.draw(st.integers(1, 7))
    seeds = data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    weights = data.draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    order = data.draw(st.permutations(range(count)))
    rule, clusters = data.draw(st.sampled_from(RULES)), data.draw(st.booleans())
    share = data.draw(st.sampled_from([0.0, 0.3]))
    source = BundleState(FlatStates().read(sent(state(9))[0])) if share or data.draw(st.booleans()) else None
    robust = data.draw(st.booleans())
    counts = data.draw(st.lists(st.integers(1, 400), min_size=count, max_size=count))
    boards = [
        state(seed, place=5.0 * (seed % 2), followed=behind, learned=seed)
        for seed, behind in zip(seeds, counts, strict=True)
    ]
    given_weights = tuple(map(float, weights)) if rule == "mean" and data.draw(st.booleans()) else None

    def contents(places):
        its = None if given_weights is None else tuple(given_weights[place] for place in places)
        options = MergeOptions(rule, its, robust, clusters, bundle=source, source_share=share, most_left_out=1.0)
        return [group.state.to_bytes() for group in merge(sent(*(boards[place] for place in places)), options).groups]

    assert contents(order) == contents(range(count))


@pytest.mark.parametrize("rule", RULES)
@given(copies=st.integers(1, 9), seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-6, 1e6))
@settings(max_examples=30)
def test_one_state_merged_with_itself_gives_it_back(rule, copies, seed, scale):
    one = state(seed)
    one = replace(one, statistics={name: array * np.float32(scale) for name, array in one.statistics.items()})

    result = merged([one] * copies, MergeOptions(rule))

    for section in ("parameters", "statistics"):
        for name, array in getattr(one, section).items():
            assert np.array_equal(array, getattr(result, section)[name])


def test_momentum_and_the_memory_of_the_stream_begin_anew_and_counts_add_up():
    result = merged([state(1, followed=100, learned=7), state(2, followed=30, learned=0)])

    assert (result.behind.followed, result.behind.learned) == (130, 7)
    assert not any(array.any() for array in result.momentum.values())
    assert result.momentum.keys() == result.parameters.keys()
    assert not result.adaptation
    assert result.metadata["kernel"] == "3"  # what all say alike
    assert "board" not in result.metadata


def test_a_merged_state_can_be_merged_again():
    boards = [state(seed, followed=10 * seed, learned=seed) for seed in (1, 2, 3)]

    at_once, in_steps = merged(boards), merged([merged(boards[:2]), boards[2]])

    assert in_steps.behind == at_once.behind
    assert max(at_once.compare(in_steps).values()) < 1e-6


@pytest.mark.parametrize("rule", ["median", "trimmed-mean"])
def test_robust_rules_are_taken_coordinate_by_coordinate(rule):
    boards = [state(seed) for seed in range(7)]

    result = merged(boards, MergeOptions(rule))

    def middle(values):
        values = np.sort(values, axis=0)
        return values[3] if rule == "median" else values[1:6].mean(axis=0)

    for name, array in result.parameters.items():
        values = np.stack([one.parameters[name].astype(float) for one in boards])
        np.testing.assert_allclose(array, middle(values), rtol=1e-6)
    for norm in NORMS:
        means = np.stack([one.statistics[f"{norm}.mean"].astype(float) for one in boards])
        variances = np.stack([one.statistics[f"{norm}.variance"].astype(float) for one in boards])
        np.testing.assert_allclose(result.statistics[f"{norm}.mean"], middle(means), rtol=1e-6, atol=1e-7)
        joined = variances + (means - middle(means)) ** 2
        np.testing.assert_allclose(result.statistics[f"{norm}.variance"], middle(joined), rtol=1e-6)


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "clipped-mean"])
def test_where_nobody_is_left_out_a_robust_merge_is_that_of_its_rule(rule):
    boards = sent(*(state(seed) for seed in range(7)))

    robust, plain = merge(boards, MergeOptions(rule, robust=True)), merge(boards, MergeOptions(rule))

    assert not robust.left_out
    assert robust.groups[0].state.to_bytes() == plain.groups[0].state.to_bytes()


def hostile():
    """One of each kind, by what the sentence says of it."""
    nan = state(20).to_bytes()
    array = state(20).parameters["groups.0.norm.weight"].tobytes()
    flipped = {name: -array for name, array in state(21).parameters.items()}
    huge = {name: np.float32(1e30) * array for name, array in state(22).parameters.items()}
    bright = {name: np.float32(1e9) * array for name, array in state(23).statistics.items()}
    yield "NaN or infinity", nan.replace(array, np.full(2, np.nan, np.float32).tobytes())
    yield "from the median", state(21, parameters=flipped).to_bytes()
    yield "out of all proportion", state(22, parameters=huge).to_bytes()
    yield "out of all proportion", state(23, statistics=bright).to_bytes()
    yield f"belongs to network {'cd' * 6}, most others to {NETWORK[:12]}", state(24, network="cd" * 32).to_bytes()
    yield "its arrays are not those", state(25, parameters={"w": np.ones(3, np.float32)}).to_bytes()
    yield "truncated", state(26).to_bytes()[:-3]
    yield "not a safetensors file", b"\xff" * 64
    yield "no ecotta-state-1", (2).to_bytes(8, "little") + b"[]"
    yield "no ecotta-state-1", (20).to_bytes(8, "little") + b'{"__metadata__": []}'


@pytest.mark.parametrize(("said", "content"), list(hostile()))
def test_a_hostile_state_is_named_and_left_out_by_a_robust_merge(said, content):
    honest = sent(*(state(seed) for seed in range(9)))
    bad = replace(honest[0], name="bad", data=content)

    result = merge([*honest[:4], bad, *honest[4:]], ROBUST)

    assert [one.name for one in result.left_out] == ["bad"]
    assert result.left_out[0].why.startswith("bad: ")
    assert said in result.left_out[0].why
    assert result.groups[0].state.to_bytes() == merge(honest, ROBUST).groups[0].state.to_bytes()


@pytest.mark.parametrize(("said", "content"), [pair for pair in hostile() if "median" not in pair[0]])
def test_a_hostile_state_ends_a_merge_that_is_not_robust(said, content):
    honest = sent(*(state(seed) for seed in range(3)))

    with pytest.raises(InputFileError, match=r"^bad: .*--robust leaves such states out") as caught:
        merge([honest[0], replace(honest[0], name="bad", data=content), *honest[1:]])

    assert said in str(caught.value)


def test_a_claim_of_countless_frames_does_not_count_in_a_robust_merge():
    boards = [state(seed) for seed in range(5)]
    greedy = replace(boards[0], metadata={**boards[0].metadata, "frames.followed": "9" * 18})

    plain, robust = (merged([greedy, *boards[1:]], options) for options in (None, ROBUST))

    assert max(boards[0].compare(plain)[f"statistics/{norm}.mean"] for norm in NORMS) < 1e-6
    assert robust.statistics.keys() == merged(boards, ROBUST).statistics.keys()
    assert all(np.array_equal(a, robust.statistics[n]) for n, a in merged(boards, ROBUST).statistics.items())


def test_a_robust_merge_counts_each_state_as_the_one_in_the_middle():
    counts = (100, 200, 300, 10**18, 10**18)
    boards = [state(seed, followed=count, learned=0) for seed, count in enumerate(counts)]

    assert merged(boards, ROBUST).behind.followed == 5 * 300
    assert merged(boards).behind.followed == 10**18  # that of which no more can be read back


def test_of_two_states_that_are_far_apart_neither_is_merged():
    flipped = {name: -array for name, array in state(0).parameters.items()}

    with pytest.raises(InputFileError, match=r"none of 2 states can be used.*of their own size from the median"):
        merge(sent(state(0), state(0, parameters=flipped)), ROBUST)


def test_which_arrays_count_does_not_hang_on_the_order():
    other = {"w": np.ones(3, np.float32)}
    boards = sent(state(0), state(1, parameters=other), state(2), state(3, parameters=other))

    contents = {merge(order, ROBUST).groups[0].state.to_bytes() for order in (boards, boards[::-1])}

    assert len(contents) == 1


def headers():
    """Headers that one reader takes and another does not, each in a file that is otherwise sound."""
    content = state(30).to_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    text, data = content[8:begin].decode().rstrip(), content[begin:]
    twin = text.replace('{"__metadata__"', '{"__metadata__":{"format":"x"},"__metadata__"')
    large = text.replace('"board":"30"', '"board":"' + 300_000 * "x" + '"')
    for header in (f"\ufeff{text}".encode(), text.encode("utf-16"), twin.encode(), large.encode()):
        yield len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize("content", list(headers()))
@pytest.mark.parametrize("first", [True, False])
def test_a_header_that_can_be_read_in_two_ways_is_refused_wherever_it_comes(content, first):
    honest = sent(*(state(seed) for seed in range(4)))
    bad = replace(honest[0], name="bad", data=content)

    result = merge([bad, *honest] if first else [*honest, bad], ROBUST)

    assert [one.name for one in result.left_out] == ["bad"]


def test_the_rarer_kind_of_place_is_no_outlier_where_kinds_are_asked_for():
    boards = [state(seed, place=3.0 * (seed > 8)) for seed in range(12)]

    result = merge(sent(*boards), replace(ROBUST, clusters=True))

    assert [len(group.members) for group in result.groups] == [9, 3]
    assert not result.left_out


def test_a_hostile_state_is_left_out_of_its_kind():
    flipped = {name: -array for name, array in state(3).parameters.items()}
    wild = {name: array + np.float32(1000 * name.endswith("mean")) for name, array in state(4).statistics.items()}
    boards = [state(seed, place=3.0 * (seed % 2)) for seed in range(10)]

    result = merge(
        sent(*boards, state(3, 3.0, parameters=flipped), state(4, statistics=wild)), replace(ROBUST, clusters=True)
    )

    assert [len(group.members) for group in result.groups] == [5, 5]
    assert {one.name for one in result.left_out} == {"board-10", "board-11"}


def test_a_board_that_has_learned_is_no_stranger_among_boards_that_have_not():
    still = [state(0) for _ in range(5)]

    assert not merge(sent(*still, state(1)), ROBUST).left_out


def test_a_robust_merge_that_leaves_out_too_many_is_refused():
    bad = [replace(one, data=b"rubbish") for one in sent(*(state(seed) for seed in range(9)))]
    honest = sent(*(state(seed) for seed in range(4)))

    with pytest.raises(InputFileError, match=r"5 of 9 states would be left out, more than 50% \(--most-left-out\)"):
        merge([*honest, *bad[4:]], ROBUST)

    assert len(merge([*honest, *bad[4:]], replace(ROBUST, most_left_out=0.6)).left_out) == 5
    assert len(merge([*honest, *bad[4:8]], ROBUST).left_out) == 4


def test_a_share_left_out_counts_as_it_is_written():
    bad = [replace(one, data=b"rubbish") for one in sent(*(state(0) for _ in range(29)))]
    honest = sent(*(state(seed) for seed in range(71)))

    assert len(merge([*honest, *bad], replace(ROBUST, most_left_out=0.29)).left_out) == 29  # 0.29 * 100 < 29


def test_who_was_drawn_towards_the_source_before_is_told():
    source = BundleState(FlatStates().read(sent(state(9))[0]))
    before = merged([state(1), state(2)], MergeOptions(bundle=source, source_share=0.25))

    (group,) = merge(sent(before, state(3))).groups

    assert group.drawn == ("board-0",)


def test_as_many_of_one_network_as_of_another_are_not_merged():
    with pytest.raises(InputFileError, match=r"board-1: belongs to network cdcdcdcdcdcd, board-0 to abababababab"):
        merge(sent(state(0), state(1, network="cd" * 32)), ROBUST)


def test_the_network_asked_for_counts_and_not_that_of_most():
    options = replace(ROBUST, network_digest="cd" * 32, most_left_out=0.7)

    result = merge(sent(state(0), state(1, network="cd" * 32), state(2)), options)

    assert result.groups[0].members == ("board-1",)


def test_states_that_do_not_say_their_frames_need_weights():
    old = replace(state(0), metadata={})

    with pytest.raises(UsageError, match="board-0 does not say how many frames are behind it"):
        merge(sent(old, state(1)))

    assert merged([old, state(1)], MergeOptions(weights="equal")).behind.followed is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (MergeOptions("mode"), "no rule 'mode'"),
        (MergeOptions("median", weights=(1.0, 2.0)), "no weights can be given"),
        (MergeOptions("median", weights="counts"), "no weights can be given"),
        (MergeOptions(weights="frames"), "weights 'frames'"),
        (MergeOptions(weights=(1.0,)), "1 weights for 2 states"),
        (MergeOptions(weights=(1.0, -1.0)), "0 or more"),
        (MergeOptions(weights=(0.0, 0.0)), "not all 0"),
        (MergeOptions(weights=(1.0, float("nan"))), "0 or more"),
        (MergeOptions(most_left_out=1.5), "left out at most: 0 to 1"),
        (MergeOptions(clusters=0), "0 kinds of place of 2 states"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        merge(sent(state(0), state(1)), options)


def test_nothing_to_merge_is_refused():
    with pytest.raises(UsageError, match="no states"):
        merge([])
    with pytest.raises(InputFileError, match="none of 1 states can be used; the first: bad: "):
        merge([replace(sent(state(0))[0], name="bad", data=b"")], ROBUST)


def test_numbers_too_large_for_float32_are_refused():
    far = [state(seed, statistics=_moved(seed, 1e30 * (-1) ** seed)) for seed in range(2)]

    with pytest.raises(InputFileError, match="too large to be merged"):
        merge(sent(*far))


def _moved(seed, by):
    return {
        name: array + np.float32(by if name.endswith(".mean") else 0) for name, array in state(seed).statistics.items()
    }


def test_files_and_bytes_give_the_same(fleet):
    from_files = merge(fleet).groups[0].state
    from_bytes = merge(sent(*map(AdaptState.load, fleet))).groups[0].state

    assert from_files.to_bytes() == from_bytes.to_bytes()


def test_a_file_that_is_replaced_meanwhile_ends_the_merge(fleet):
    def replaced(done, count, what):
        if done == count:
            state(77).save(fleet[0])

    with pytest.raises(TransferError, match=r"0\.state\.safetensors was changed while it was being merged"):
        merge(fleet, report=replaced)


def test_a_file_that_is_gone_meanwhile_ends_the_merge(fleet):
    source = StateFile(fleet[0])
    source.content()
    fleet[0].unlink()

    with pytest.raises(TransferError, match="can no longer be read"):
        source.part(0, 8)
