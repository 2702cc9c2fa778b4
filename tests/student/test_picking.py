"""The pick of a board, with widths whose cost is a formula: nothing is exported here."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import torch

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.student.slimda.bank import Bank
from ecotta_rt.student.slimda.device_cost import Cost, Measured
from ecotta_rt.student.slimda.picking import pick
from ecotta_rt.student.slimda.search import one_ratio, shares_down_to
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.slimmable.widths import operations

FRAME = FrameSpec(3, 8, 8, "stretch")


@dataclass
class Formula:
    """Stands for `Bundles`: memory is convex in the operations, so that a straight line through three is too low."""

    bank: Bank
    limit: float
    wish: SimpleNamespace = field(init=False)
    device: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(name="a board"))
    parts: int = 1
    asked: list = field(default_factory=list)

    def __post_init__(self):
        self.wish = SimpleNamespace(limit_bytes=self.limit)

    def measure(self, widths, stem):
        self.asked.append(("measure", widths))
        return self.planned(widths)

    def make(self, widths, stem, most_ms, *, sure=False):
        self.asked.append(("make", widths))
        found = self.planned(widths)
        if not found.fits(most_ms):
            return found
        for suffix in (".safetensors", ".ecotta"):
            stem.with_name(f"{stem.name}{suffix}").write_bytes(b"x")
        return self.planned(widths, stem.with_name(f"{stem.name}.ecotta"))

    def planned(self, widths, bundle=None):
        groups = self.bank.slimmable.groups
        share = operations(groups, widths) / operations(groups, groups.whole())
        peak = 100 + 100 * share**0.5
        plan = SimpleNamespace(fits=peak <= self.limit, limit_bytes=self.limit, largest_tenant="live tensors")
        return Measured(dict(widths), Cost(peak, share), plan, None, bundle)


def small_bank():
    torch.manual_seed(0)
    frames = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    slimmable = Slimmable(WideResNet(10, 1, 3), torch.zeros(1, 3, 8, 8))
    return Bank(slimmable, "x.py:y", ("a", "b", "c"), FRAME, 0.125, frames)


def picked(bank, limit, out, known=(), tries=3):
    formula = Formula(bank, limit)
    found = pick(formula, out, ms=float("inf"), tries=tries, seed=0, report=lambda *_: None, known=known)
    return formula, found


def test_the_next_board_is_picked_for_without_measuring_anything(tmp_path):
    """Also what was tried and did not fit is known, since the search comes to the same widths."""
    bank = small_bank()

    first_asked, first = picked(bank, 172, tmp_path / "first")
    planned_again = [Formula(bank, 172).planned(one.widths) for one in first.measured]
    again_asked, again = picked(bank, 172, tmp_path / "again", planned_again)

    assert [what for what, _ in first_asked.asked].count("measure") == 3
    assert first.measured_now > 3 and again.measured_now == 0
    assert again_asked.asked == [("make", first.chosen.widths)]
    assert again.chosen.widths == first.chosen.widths and again.chosen.plan.fits
    taken = next(place for place, one in enumerate(first.candidates) if one.widths == first.chosen.widths)
    wider = [one.widths for one in first.candidates[:taken]]
    assert wider and not any(one.plan.fits for one in first.measured if one.widths in wider)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.ecotta",
        "again.safetensors",
        "first.ecotta",
        "first.safetensors",
    ]


def dearer(monkeypatch, more):
    """Some widths need more memory than was predicted."""
    planned = Formula.planned

    def as_it_turns_out(self, widths, bundle=None):
        found = planned(self, widths, bundle)
        peak = found.cost.peak_bytes + more(widths)
        plan = SimpleNamespace(**{**vars(found.plan), "fits": peak <= self.limit})
        return replace(found, cost=replace(found.cost, peak_bytes=peak), plan=plan)

    monkeypatch.setattr(Formula, "planned", as_it_turns_out)


def test_the_one_ratio_of_a_budget_is_tried_before_a_smaller_budget(tmp_path, monkeypatch):
    bank = small_bank()
    groups = bank.slimmable.groups
    even = [one_ratio(groups, share, bank.least) for share in shares_down_to(groups, bank.least)]
    dearer(monkeypatch, lambda widths: 0 if widths in even else 40)

    asked, found = picked(bank, 172, tmp_path / "found", tries=12)

    taken = next(one for one in found.candidates if one.widths == found.chosen.widths)
    twins = [one for one in found.candidates if one.share == taken.share]
    assert taken.uniform and found.chosen.plan.fits
    assert [one.uniform for one in twins] == [False, True]
    assert asked.asked[-2:] == [("make", twins[0].widths), ("make", twins[1].widths)]


def test_widths_of_a_budget_whose_one_ratio_does_not_fit_are_not_tried(tmp_path, monkeypatch):
    bank = small_bank()
    half = one_ratio(bank.slimmable.groups, 0.5, bank.least)
    dearer(monkeypatch, lambda widths: 5 if widths == half else 0)

    asked, found = picked(bank, 172, tmp_path / "found", tries=12)

    assert ("measure", half) in asked.asked
    shares = [one.share for one in found.candidates if ("make", one.widths) in asked.asked]
    assert found.chosen.plan.fits and max(shares) < 0.5
    assert half in [one.widths for one in found.candidates]  # and is told


def test_a_time_of_before_is_not_told_as_one_of_now(tmp_path):
    bank = small_bank()
    _, first = picked(bank, 300, tmp_path / "first", tries=0)

    slow = [replace(one, cost=replace(one.cost, ms=1e5)) for one in first.measured]
    _, again = picked(bank, 300, tmp_path / "again", slow, tries=0)

    assert again.chosen.widths == bank.slimmable.groups.whole() and again.chosen.cost.ms == 1
    assert next(one for one in again.measured if one.widths == again.chosen.widths).cost.ms == 1


def test_costs_that_are_false_refuse_no_board(tmp_path):
    """What is known says that nothing fits, where the whole network does."""
    bank = small_bank()
    _, true = picked(bank, 300, tmp_path / "true", tries=0)
    bad = SimpleNamespace(fits=False, limit_bytes=300, largest_tenant="live tensors")
    false = [replace(one, cost=replace(one.cost, peak_bytes=9e9), plan=bad) for one in true.measured]

    asked, found = picked(bank, 300, tmp_path / "found", false, tries=0)

    assert found.chosen.widths == true.chosen.widths == bank.slimmable.groups.whole()
    assert found.measured_now == 2 and [what for what, _ in asked.asked] == ["measure"] * 2 + ["make"]


def test_where_nothing_fits_the_nearest_is_told_and_nothing_is_written(tmp_path):
    bank = small_bank()

    asked, found = picked(bank, 50, tmp_path / "none")

    assert found.chosen is None and found.refusal.need_bytes == int(min(one.cost.peak_bytes for one in found.measured))
    assert not any(what == "make" for what, _ in asked.asked) and not list(tmp_path.iterdir())
