"""Merged networks: the weighted mean and the pooled Gaussians by hand, in any order, and what is refused."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecotta_rt.errors import CheckpointError, InputFileError, UsageError
from ecotta_rt.merging.members import Member
from ecotta_rt.merging.networks import find_head, merge_networks


def network(seed, classes=3, batches=1):
    """A small network whose norms have seen `batches` batches."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )
    nn.init.normal_(made[1].weight)
    for _ in range(batches):
        made(torch.rand(8, 3, 6, 6))
    return made.eval()


def members(*networks, **given):
    """One each; `weight` and `count` are lists."""
    return tuple(
        Member(f"net-{place}.pt", lambda one=one: one, **{name: values[place] for name, values in given.items()})
        for place, one in enumerate(networks)
    )


def test_parameters_are_the_weighted_mean_and_statistics_are_pooled_by_the_counts_of_the_norms():
    one, other = network(0, batches=1), network(1, batches=3)

    merged = merge_networks(members(one, other, weight=[3.0, 1.0])).shared

    a, b = one.state_dict(), other.state_dict()
    for key in ("0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias"):
        expected = (3 * a[key].double() + b[key].double()) / 4
        torch.testing.assert_close(merged[key], expected.float(), rtol=0, atol=1e-7)
    mean = (a["1.running_mean"] + 3 * b["1.running_mean"]) / 4
    spread = (a["1.running_mean"] - mean) ** 2 + 3 * (b["1.running_mean"] - mean) ** 2
    torch.testing.assert_close(merged["1.running_mean"], mean)
    torch.testing.assert_close(
        merged["1.running_var"], (a["1.running_var"] + 3 * b["1.running_var"] + spread) / 4, rtol=1e-6, atol=0
    )
    assert int(merged["1.num_batches_tracked"]) == 4


def test_given_counts_replace_those_of_the_norms():
    one, other = network(0, batches=1), network(1, batches=3)

    merged = merge_networks(members(one, other, count=[30.0, 10.0]))

    expected = (3 * one[1].running_mean + other[1].running_mean) / 4
    torch.testing.assert_close(merged.shared["1.running_mean"], expected)
    assert merged.counted


def test_where_a_network_has_no_counts_the_weights_stand_in_for_them():
    one, other = network(0, batches=1), network(1, batches=3)
    other[1].num_batches_tracked.zero_()

    merged = merge_networks(members(one, other, weight=[1.0, 4.0]))

    expected = (one[1].running_mean + 4 * other[1].running_mean) / 5
    torch.testing.assert_close(merged.shared["1.running_mean"], expected)
    assert merged.counted is False


FOUR = [network(seed, batches=1 + seed) for seed in range(4)]


@settings(max_examples=15)
@given(st.permutations([0, 1, 2, 3]), st.lists(st.floats(0.01, 100), min_size=4, max_size=4))
def test_the_order_of_the_networks_changes_nothing_to_the_bit(order, weights):
    given_ = members(*FOUR, weight=weights)

    straight = merge_networks(given_)
    other = merge_networks([given_[place] for place in order])

    assert all(torch.equal(value, other.shared[key]) for key, value in straight.shared.items())
    assert straight.parts == other.parts


@settings(max_examples=15)
@given(st.integers(2, 7), st.floats(1e-3, 1e3), st.integers(0, 3))
def test_merging_a_network_with_itself_gives_it_back(times, weight, seed):
    one = FOUR[seed]

    merged = merge_networks(members(*[one] * times, weight=[weight] * times)).shared

    assert int(merged.pop("1.num_batches_tracked")) == times * (1 + seed)
    assert all(torch.equal(value, one.state_dict()[key]) for key, value in merged.items())


def test_networks_without_running_statistics_are_merged_too():
    def grouped(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 2))

    one, other = grouped(0), grouped(1)

    merged = merge_networks(members(one, other))

    assert merged.counted is None
    torch.testing.assert_close(merged.shared["4.weight"], (one[4].weight + other[4].weight).detach() / 2)


def test_a_head_that_is_kept_stays_each_networks_own_and_may_differ_in_classes():
    one, other = network(0, classes=3), network(1, classes=5)

    merged = merge_networks(members(one, other), head="5")

    assert "5.weight" not in merged.shared
    filled = [merged.fill(copy.deepcopy(given_), place) for place, given_ in enumerate((one, other))]
    assert torch.equal(filled[0][5].weight, one[5].weight) and torch.equal(filled[1][5].weight, other[5].weight)
    assert torch.equal(filled[0][0].weight, filled[1][0].weight)
    torch.testing.assert_close(filled[0][0].weight, (one[0].weight + other[0].weight) / 2)


def test_the_head_that_is_found_is_the_last_layer():
    assert find_head(network(0)) == "5"
    with pytest.raises(UsageError, match="no head is found"):
        find_head(nn.Sequential(nn.Linear(2, 2))[0])


def test_whole_numbers_have_to_be_the_same_and_stay():
    one, other = network(0), network(1)
    for made in (one, other):
        made.register_buffer("places", torch.arange(3))

    assert torch.equal(merge_networks(members(one, other)).shared["places"], torch.arange(3))
    other.places += 1
    with pytest.raises(CheckpointError, match=r"net-1\.pt: 'places' of whole numbers, other ones than in net-0\.pt"):
        merge_networks(members(one, other))


def damaged(kind):
    other = network(1, classes=5 if kind == "classes" else 3)
    if kind == "nan":
        other[5].weight.data[0, 0] = float("nan")
    if kind == "missing":
        other[0].bias = None
    if kind == "more":
        other.register_buffer("extra", torch.zeros(2))
    return other


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("classes", r"net-1\.pt: '5\.weight', '5\.bias' of another shape than in net-0\.pt, 5x4 and 3x4"),
        ("nan", r"net-1\.pt: '5\.weight' holds NaN"),
        ("missing", r"net-1\.pt: net-0\.pt has '0\.bias', net-1\.pt has not"),
        ("more", r"net-1\.pt: net-1\.pt has 'extra', net-0\.pt has not"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_tensor(kind, says):
    with pytest.raises(InputFileError, match=says):
        merge_networks(members(network(0), damaged(kind)))


def test_weights_counts_and_heads_that_cannot_be_meant_are_refused():
    (member,) = members(network(0))
    with pytest.raises(UsageError, match="at least two"):
        merge_networks([member])
    with pytest.raises(UsageError, match="weight 0 of net-0.pt"):
        replace(member, weight=0.0)
    with pytest.raises(UsageError, match="count nan"):
        replace(member, count=float("nan"))
    with pytest.raises(UsageError, match="--head fc: net-0.pt has no such module; it has 0, 1, 5"):
        merge_networks([member, member], head="fc")


def test_a_negative_variance_is_refused():
    bad = network(1)
    bad[1].running_var[0] = -1.0

    with pytest.raises(InputFileError, match=r"'1\.running_var' holds a negative variance"):
        merge_networks(members(network(0), bad))


def test_means_too_far_apart_to_pool_are_refused():
    one, other = network(0), network(1)
    one[1].running_mean += 1e30
    other[1].running_mean -= 1e30

    with pytest.raises(InputFileError, match=r"'1\.running_var' is too large to be merged"):
        merge_networks(members(one, other))


def test_counts_that_no_buffer_holds_stop_at_what_it_holds():
    one, other = network(0), network(1)
    for each in (one, other):
        each[1].num_batches_tracked.fill_(2**62)

    assert int(merge_networks(members(one, other)).shared["1.num_batches_tracked"]) == 2**62


@pytest.mark.parametrize("weight", [0.0, 1e-300, 1e300, float("nan")])
def test_weights_out_of_range_are_refused(weight):
    with pytest.raises(UsageError, match="expected a number from 1e-09 to 1e"):
        members(network(0), network(1), weight=[1.0, weight])
