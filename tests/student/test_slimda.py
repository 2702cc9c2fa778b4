"""SlimDA: what teaches what, and the search, against the definitions written by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import UsageError
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.student.batches import DomainBatch
from ecotta_rt.student.domains import Domain, Domains
from ecotta_rt.student.slimda import training as slimda
from ecotta_rt.student.slimda.device_cost import Cost, Measured, fitted
from ecotta_rt.student.slimda.ensemble import CONFIDENCES, aggregated, seed_loss, sharpened
from ecotta_rt.student.slimda.search import Candidate, narrowed_at_random, pareto, search, shares_down_to
from ecotta_rt.student.slimda.training import SlimOptions, confusion_heads, slimda_steps, train_bank
from ecotta_rt.student.slimda.upem import Upem
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.slimmable.widths import at_ratio, operations, outputs, ratio_for, weights
from ecotta_rt.student.training import Moment, TrainingOptions

PLAIN = Augmentation.parse("none")


def small_bank(seed=0):
    torch.manual_seed(seed)
    return Slimmable(WideResNet(10, 1, 3), torch.zeros(1, 3, 8, 8))


def two_domains(count=12, targets=("door",)):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    frames = rng.integers(0, 80, (count, 8, 8, 3), np.uint8) + (80 * labels[:, None, None, None]).astype(np.uint8)
    away = [Domain(name, frames[::-1] // 2 + 40) for name in targets]
    return Domains(Domain("source", frames, labels), tuple(away), ("a", "b", "c"))


def a_batch(domains):
    def floats(domain):
        return torch.from_numpy(domain.frames.copy()).permute(0, 3, 1, 2).float() / 255

    targets = tuple(floats(domain) for domain in domains.targets)
    return DomainBatch(floats(domains.source), torch.from_numpy(domains.labels), targets)


# The ensemble


def test_a_wider_network_counts_at_least_as_much():
    costs = [100, 5, 60, 60]

    for name, weigh in CONFIDENCES.items():
        by_cost = [weight for _, weight in sorted(zip(costs, weigh(costs), strict=True))]
        assert by_cost == sorted(by_cost), name
    assert CONFIDENCES["rank"](costs) == [4, 1, 3, 3]


def test_what_the_widths_say_together_is_their_weighted_mean():
    answers = [torch.rand(5, 3).softmax(1).requires_grad_() for _ in range(2)]

    found = aggregated(answers, [30, 10], "operations")

    torch.testing.assert_close(found, 0.75 * answers[0] + 0.25 * answers[1])
    assert not found.requires_grad


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=5), st.floats(0.1, 1))
def test_sharpening_keeps_the_order_and_raises_the_first(values, temperature):
    p = torch.tensor(values) / sum(values)

    q = sharpened(p, temperature)

    torch.testing.assert_close(q, p ** (1 / temperature) / (p ** (1 / temperature)).sum(), rtol=1e-4, atol=1e-6)
    assert q.max() >= p.max() - 1e-6


def test_sharpening_takes_a_probability_of_nought():
    assert torch.equal(sharpened(torch.tensor([1.0, 0.0]), 0.5), torch.tensor([1.0, 0.0]))


def test_the_seed_loss_is_a_cross_entropy():
    logits, taught = torch.randn(4, 3), torch.eye(3)[[0, 2, 1, 1]]

    torch.testing.assert_close(seed_loss(logits, taught), F.cross_entropy(logits, torch.tensor([0, 2, 1, 1])))


# One step


def gradients(slim, moment, domains):
    """Of the three classifiers and a convolution, after one step's losses; and the losses."""
    bank = small_bank()
    heads = confusion_heads(bank, 0)
    losses = slimda._losses(bank, heads, a_batch(domains), moment, slim)
    sum(losses.values()).backward()
    grads = heads.weight.grad, bank.network.fc.weight.grad, bank.network.block1.layer[0].conv1.weight.grad
    return grads, losses


def test_the_third_classifier_learns_from_the_ensemble_alone():
    domains, late = two_domains(), Moment(9, 10, 9, 10)

    torch.manual_seed(5)
    (heads, own, _), _ = gradients(SlimOptions(sampled=3), late, domains)
    torch.manual_seed(5)
    (heads_without, own_without, _), _ = gradients(SlimOptions(sampled=3, seed_weight=0.0), late, domains)

    assert own.any() and not own_without.any()
    assert torch.equal(heads, heads_without)  # those that confuse the domains learn nothing from it


def test_the_losses_of_a_step_are_those_of_its_widths():
    """By hand, from plain narrow networks."""
    domains, moment = two_domains(), Moment(5, 10, 5, 10)
    bank, slim = small_bank(), SlimOptions(sampled=3, source_share=0.0)
    heads, batch = confusion_heads(bank, 0), a_batch(domains)
    torch.manual_seed(1)
    drawn = slimda.sampled_widths(bank, slim)
    torch.manual_seed(1)
    found = slimda._losses(bank, heads, batch, moment, slim)

    ramp = 2 / (1 + math.exp(-5)) - 1
    confusion, known, own = 0.0, [], []
    for widths in drawn:
        small = narrow(bank.groups, widths).train()
        features = {}
        small.get_submodule("fc").register_forward_pre_hook(lambda _, args, kept=features: kept.update(x=args[0]))
        small(batch.source)
        on_source = features["x"]
        own.append(small(batch.targets[0]))
        on_target = features["x"]
        count = on_source.shape[1]  # the first features of the wide network
        z_source = on_source @ heads.weight[:, :count].T + heads.bias
        z_target = on_target @ heads.weight[:, :count].T + heads.bias
        p_target, y = z_target.softmax(1), batch.labels
        q = p_target[:, :3] + p_target[:, 3:]
        p_source = z_source.softmax(1)
        confusion += F.cross_entropy(z_source[:, :3], y) + F.cross_entropy(z_source[:, 3:], y)
        confusion -= p_source[:, :3].sum(1).log().mean() + p_target[:, 3:].sum(1).log().mean()
        confusion += F.cross_entropy(z_source, y) / 2 + F.cross_entropy(z_source, y + 3) / 2
        halves = p_target[:, :3].sum(1).log().mean() + p_target[:, 3:].sum(1).log().mean()
        confusion += ramp * (-halves / 2 - (q * q.log()).sum(1).mean())
        known.append((z_target[:, :3].softmax(1) + z_target[:, 3:].softmax(1)) / 2)
    order = [3.0, 1.0, 2.0]  # the largest, the smallest, the one between
    together = sum(weight / 6 * p for weight, p in zip(order, known, strict=True))
    taught = together**2 / (together**2).sum(1, keepdim=True)
    seeds = sum(-(taught * logits.log_softmax(1)).sum(1).mean() for logits in own)

    torch.testing.assert_close(found["L_dc"], confusion, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["L_seed"], ramp * seeds, rtol=1e-4, atol=1e-4)


def test_the_first_epochs_learn_the_source_alone():
    (heads, own, features), losses = gradients(SlimOptions(), Moment(1, 10, 1, 10), two_domains())

    assert list(losses) == ["L_source"]
    assert heads.any() and own.any() and features.any()


def test_the_largest_and_the_smallest_width_are_in_every_step():
    bank = small_bank()

    drawn = slimda.sampled_widths(bank, SlimOptions(least=0.25, sampled=5))

    assert len(drawn) == 5
    assert drawn[0] == bank.groups.whole() and drawn[1] == at_ratio(bank.groups, 0.25)
    assert slimda.sampled_widths(bank, SlimOptions(sampled=1)) == [bank.groups.whole()]


def test_a_run_learns_and_one_that_was_cut_short_ends_the_same(tmp_path):
    options, slim = TrainingOptions(epochs=4, batch=6, lr=0.05, augmentation=PLAIN), SlimOptions(sampled=3)
    whole, again = small_bank(), small_bank()
    snapshot = tmp_path / "run.snapshot"

    history = train_bank(whole, two_domains(), options, slim)

    def stop(progress):
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_bank(small_bank(), two_domains(), options, slim, report=stop, snapshot=snapshot)
    assert train_bank(again, two_domains(), options, slim, snapshot=snapshot) == history
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    assert [set(epoch) for epoch in history] == [
        {"L_source"},
        {"L_dc", "L_seed"},
        {"L_dc", "L_seed"},
        {"L_dc", "L_seed"},
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"least": 0.0}, "least 0"),
        ({"least": 1.0}, "least 1"),
        ({"sampled": 0}, "sampled 0"),
        ({"confidence": "all"}, "confidence all: choose rank"),
        ({"temperature": 0.0}, "temperature 0"),
        ({"seed_weight": -1.0}, "seed weight -1"),
        ({"source_share": 1.0}, "source share 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        SlimOptions(**options)


def test_a_bank_of_one_width_is_refused_before_it_is_trained():
    """One channel that could be removed is the last one of its layer; and the least of 0.99 is all of them."""
    nn = torch.nn
    one = nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 3))
    options = TrainingOptions(batch=6, augmentation=PLAIN)

    for bank, least in ((Slimmable(one, torch.zeros(1, 3, 8, 8)), 0.125), (small_bank(), 0.99)):
        heads = confusion_heads(bank, 0)
        with pytest.raises(UsageError, match="leaves all channels where they are"):
            slimda_steps(bank, heads, two_domains(), options, SlimOptions(least=least))
        slimda_steps(bank, heads, two_domains(), options, SlimOptions(least=least, sampled=1))  # a network alone


def test_a_bank_needs_a_target_and_the_classes_of_the_source():
    bank, options = small_bank(), TrainingOptions(batch=6, augmentation=PLAIN)
    heads = confusion_heads(bank, 0)

    with pytest.raises(UsageError, match="give at least one"):
        slimda_steps(bank, heads, two_domains(targets=()), options, SlimOptions())
    other = Slimmable(WideResNet(10, 1, 4), torch.zeros(1, 3, 8, 8))
    with pytest.raises(UsageError, match="4 classes apart, and the source has 3"):
        slimda_steps(other, heads, two_domains(), options, SlimOptions())


# UPEM and the search


def test_upem_is_the_mean_distance_from_the_answers_of_the_whole():
    bank, frames = small_bank().eval(), a_batch(two_domains()).targets[0]
    widths = at_ratio(bank.groups, 0.5)
    upem = Upem(bank, frames, batch=6)

    small = narrow(bank.groups, widths).train()
    with torch.no_grad():
        p = torch.cat([small(half).softmax(1) for half in frames.split(6)])

    assert upem(bank.groups.whole()) == 0
    assert upem(widths) == pytest.approx(float((p - upem.anchor).square().sum(1).sqrt().mean()), rel=1e-5)


def test_upem_leaves_out_what_a_network_drops_in_training_and_leaves_modes_as_they_were():
    nn = torch.nn
    one, two = (nn.Sequential(nn.Conv2d(size, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)) for size in (3, 8))
    network = nn.Sequential(one, two, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    bank, frames = Slimmable(network, torch.zeros(1, 3, 8, 8)).train(), a_batch(two_domains()).targets[0]
    bank.network.get_submodule("0").eval()

    assert Upem(bank, frames, batch=6)(bank.groups.whole()) == 0
    assert bank.training and not bank.network.get_submodule("0").training


def costs_of(groups):
    return lambda widths: Cost(1e6 + 4 * weights(groups, widths), 1e-6 * operations(groups, widths) + 0.1)


def test_the_search_goes_down_its_grid_never_above_a_budget_and_never_worse_than_one_ratio():
    groups, tried = small_bank().groups, []
    predict = costs_of(groups)

    def score(widths):  # likes the first group wide
        tried.append(widths)
        return 1 - operations(groups, widths) / operations(groups, groups.whole()) - widths["conv1"] / 100

    shares = shares_down_to(groups, 0.125)
    found = search(groups, score, predict, 0.125, tries=4, seed=3)

    assert shares[0] == 1 and list(shares) == sorted(shares, reverse=True)
    assert found[0].widths == groups.whole()
    assert found[-1].widths == at_ratio(groups, 0.125)  # nothing else is so small
    for one in found:
        assert any(widths == one.widths for widths in tried)
        assert one.operations == operations(groups, one.widths)
        assert one.upem <= score(at_ratio(groups, max(0.125, ratio_for(groups, one.share)))) or one.share == 1
    assert any(not one.uniform for one in found)
    assert [one.widths for one in search(groups, score, predict, 0.125, tries=4, seed=3)] == [o.widths for o in found]


def test_what_is_found_costs_no_more_than_one_ratio_would():
    groups = small_bank().groups
    predict = costs_of(groups)
    alone = search(groups, lambda widths: 0.0, predict, 0.125, tries=0)

    found = search(groups, lambda widths: -float(widths["conv1"]), predict, 0.125, tries=4)

    assert all(one.cost.within(same.cost) for one, same in zip(found, alone, strict=True))
    assert all(one.uniform for one in alone)


def test_groups_are_narrowed_at_random_until_it_fits_and_never_below_the_floor():
    groups = small_bank().groups
    floor, whole = at_ratio(groups, 0.125), groups.whole()
    limit = operations(groups, whole) / 5
    generator = torch.Generator().manual_seed(0)

    found = [
        narrowed_at_random(groups, whole, floor, lambda each: operations(groups, each) <= limit, generator)
        for _ in range(6)
    ]

    assert all(floor[name] <= one[name] <= whole[name] for one in found for name in whole)
    assert all(0.5 * limit < operations(groups, one) <= limit for one in found)
    assert len({tuple(one.values()) for one in found}) == 6
    assert narrowed_at_random(groups, whole, floor, lambda each: False, generator) is None


def test_the_front_leaves_out_what_another_beats():
    def candidate(upem, mib, ms):
        return Candidate(1.0, {}, 1, upem, Cost(mib, ms), True)

    best, dear, worse = candidate(0.1, 10, 1), candidate(0.1, 10, 2), candidate(0.2, 9, 1)

    assert pareto([best, dear, worse]) == [best, worse]


def test_costs_are_predicted_by_a_constant_and_slopes_that_are_never_negative():
    groups = small_bank().groups

    def made(ratio, peak, ms):
        return Measured(at_ratio(groups, ratio), Cost(peak, ms), None, None)

    def true(widths):
        return Cost(
            5e7 + 4 * weights(groups, widths) + 8 * outputs(groups, widths), 0.2 + 1e-6 * operations(groups, widths)
        )

    predict = fitted(groups, [made(r, *vars(true(at_ratio(groups, r))).values()) for r in (1.0, 0.6, 0.3, 0.125)])
    for ratio in (0.9, 0.5, 0.2):
        found, expected = predict(at_ratio(groups, ratio)), true(at_ratio(groups, ratio))
        assert found.peak_bytes == pytest.approx(expected.peak_bytes, rel=1e-6)
        assert found.ms == pytest.approx(expected.ms, rel=1e-6)
    odd = fitted(groups, [made(1.0, 10.0, 1.0), made(0.5, 20.0, 1.0), made(0.25, 30.0, 1.0)])
    assert odd(groups.whole()).peak_bytes == pytest.approx(20.0)
    assert fitted(groups, [made(1.0, 10.0, 1.0)])(at_ratio(groups, 0.5)).peak_bytes == pytest.approx(10.0)
