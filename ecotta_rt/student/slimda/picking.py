"""From a bank to the network and bundle for one device.

two or three widths measured  ->  fitted cost  ->  search  ->  the widest predicted to fit, exported, planned, timed

The widest and the narrowest are measured, and where the widest does not fit the one ratio that is predicted to be at
the limit: there predictions have to be right. They are for one ratio and what is like it. Uneven widths often need
more memory than predicted: of 12 that were drawn at random, not by the search, 11 needed 3 to 23 MiB more and one 4
less (docs/results-student.md). So where the one ratio of a budget does not fit, uneven ones are not tried, which can
miss one that would fit; and where they do not, the one ratio is tried before a smaller budget.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.files.temporary import temporary_folder
from ecotta_rt.method.width.groups import Widths
from ecotta_rt.prepare.pipeline import warmed_path
from ecotta_rt.student.slimda.device_cost import Bundles, Cost, Measured, fitted
from ecotta_rt.student.slimda.search import Candidate, one_ratio, pareto, search, shares_down_to
from ecotta_rt.student.slimda.upem import Upem
from ecotta_rt.student.slimmable.widths import at_ratio, operations

__all__ = ["SEARCH_FRAMES", "Picked", "pick"]

_NEARLY = 1.05
"""Tried though predicted to be over the limit by so much: predictions are off by a few per cent."""

SEARCH_FRAMES = 256
"""Of the bank's, for UPEM."""

_WRITTEN = "chosen"
_LEARNED = 3
"""Widths at most that are measured before the search."""

_MIB = 1 << 20

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Picked:
    """What was found.

    Attributes:
        candidates: The best widths for each budget, the widest first, and one ratio for all where it was measured.
        measured: All widths that were measured, before or now; the last ones are of now.
        measured_now: How many of them.
        chosen: The one that was written; None where nothing fits.
        refusal: Why nothing fits.
    """

    candidates: Sequence[Candidate]
    measured: Sequence[Measured]
    measured_now: int
    chosen: Measured | None
    refusal: BudgetExceeded | None

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        best = pareto(self.candidates)
        rows = []
        for one in self.candidates:
            found = next((each for each in self.measured if each.widths == one.widths), None)
            planned = {} if found is None else {"peak_bytes": int(found.cost.peak_bytes), "ms": found.cost.ms}
            rows.append({**one.as_json(), **planned, "pareto": one in best})
        chosen = None
        if self.chosen is not None:
            chosen = {
                "channels": dict(self.chosen.widths),
                "peak_bytes": int(self.chosen.cost.peak_bytes),
                "ms": self.chosen.cost.ms,
                "plan": self.chosen.plan.as_json(),
                "bundle": str(self.chosen.bundle),
            }
        return {"candidates": rows, "chosen": chosen, "measured": self.measured_now}


def pick(
    bundles: Bundles, stem: Path, *, ms: float, tries: int, seed: int, report: Report, known: Sequence[Measured] = ()
) -> Picked:
    """Search, and write the widest that fits.

    Args:
        bundles: The bank, the device and what a bundle holds.
        stem: Where to, without suffix.
        ms: What the adapting step may take a frame on this machine.
        tries: Random narrowings a budget.
        seed: Of the search.
        report: Hears what is done.
        known: What was measured before: see `kept_costs`. Where by these nothing fits, all is measured anew.

    Raises:
        NetworkError, UsageError, TransferError: As `Bundles.measure`.
    """
    picked = _picked(bundles, stem, ms, tries, seed, report, known)
    if picked.chosen is None and known:
        return _picked(bundles, stem, ms, tries, seed, report, ())
    return picked


def _picked(
    bundles: Bundles, stem: Path, ms: float, tries: int, seed: int, report: Report, known: Sequence[Measured]
) -> Picked:
    bank, groups = bundles.bank, bundles.bank.slimmable.groups
    budgets = shares_down_to(groups, bank.least)
    total = _LEARNED + len(budgets) + 1
    measured = list(known)
    with temporary_folder(stem.parent, f".{stem.name}.") as folder:
        tried = _Tried(bundles, ms, folder / _WRITTEN, measured)
        # By these alone: with what was tried besides, each board's search would come to other widths, not yet measured.
        learned = list[Measured]()
        for place, widths in enumerate((groups.whole(), at_ratio(groups, bank.least))):
            report(place, total, "measuring widths to learn what they cost")
            learned.append(tried.measured_at(widths))
        predict = fitted(groups, learned)
        if not learned[0].fits(ms):
            report(len(learned), total, "measuring widths to learn what they cost")
            ratios = [one_ratio(groups, share, bank.least) for share in budgets[1:]]
            nearest = next((widths for widths in ratios if predict(widths).within(tried.limit)), None)
            if nearest is not None and nearest != learned[1].widths:
                predict = fitted(groups, [*learned, tried.measured_at(nearest)])
        upem = Upem(bank.slimmable, bank.floats()[:SEARCH_FRAMES])
        found = search(
            groups,
            upem,
            predict,
            bank.least,
            tries=tries,
            seed=seed,
            shares=budgets,
            roughly=upem.roughly,
            report=lambda done, _, what: report(_LEARNED + done, total, f"searching, {what}"),
        )
        chosen = _first_that_fits(tried, found, predict)
        candidates = list(_with_one_ratios(tried, found, predict, upem))
        report(total, total, "done")
        now = len(measured) - len(known)
        if chosen is None:
            return Picked(candidates, measured, now, None, _refusal(bundles, measured, ms))
        bundle = _moved(chosen, folder, stem, bundles.parts)
    return Picked(candidates, measured, now, replace(chosen, bundle=bundle), None)


@dataclass(frozen=True)
class _Tried:
    """Makes bundles until one fits; each width that was not known joins `measured`."""

    bundles: Bundles
    ms: float
    stem: Path
    measured: list[Measured]

    @property
    def limit(self) -> Cost:
        """What may be had."""
        return Cost(self.bundles.wish.limit_bytes or self.bundles.device.default_limit_bytes, self.ms)

    def known(self, widths: Widths) -> Measured | None:
        """What was measured of these."""
        return next((one for one in self.measured if one.widths == widths), None)

    def measured_at(self, widths: Widths) -> Measured:
        """What they cost, measured now if they never were."""
        found = self.known(widths)
        if found is None:
            found = self.bundles.measure(widths, self.stem)
            self.measured.append(found)
        return found

    def fits(self, widths: Widths, predicted: Cost) -> Measured | None:
        """Its bundle, where that is written and fits."""
        known = self.known(widths)
        if known is None and not predicted.within(self.limit.times(_NEARLY)):
            return None
        if known is not None and not known.fits(self.ms):
            return None
        sure = known is not None or predicted.within(self.limit.times(1 / _NEARLY))
        made = self.bundles.make(widths, self.stem, self.ms, sure=sure)
        if known is not None:
            self.measured.remove(known)  # its time is of now
        self.measured.append(made)
        return made if made.bundle is not None else None


def _first_that_fits(tried: _Tried, found: Sequence[Candidate], predict: Callable[[Widths], Cost]) -> Measured | None:
    """The widest whose bundle is written and fits."""
    groups, least = tried.bundles.bank.slimmable.groups, tried.bundles.bank.least
    for one in found:
        uniform = one_ratio(groups, one.share, least)
        known = tried.known(uniform)
        if known is not None and not known.fits(tried.ms):
            continue
        for widths in (one.widths, uniform):
            chosen = tried.fits(widths, predict(widths))
            if chosen is not None:
                return chosen
    smallest = at_ratio(groups, least)
    return tried.fits(smallest, predict(smallest))


def _with_one_ratios(
    tried: _Tried, found: Sequence[Candidate], predict: Callable[[Widths], Cost], upem: Upem
) -> Iterator[Candidate]:
    """What was found, and behind it the one ratio of the same budget where that was measured, too."""
    groups, least = tried.bundles.bank.slimmable.groups, tried.bundles.bank.least
    for one in found:
        yield one
        last = [at_ratio(groups, least)] if one is found[-1] else []
        for widths in (one_ratio(groups, one.share, least), *last):
            if widths != one.widths and tried.known(widths) is not None:
                share, cost = one.share, predict(widths)
                yield Candidate(share, widths, operations(groups, widths), upem(widths), cost, uniform=True)


def _refusal(bundles: Bundles, measured: Sequence[Measured], ms: float) -> BudgetExceeded:
    nearest = min(measured, key=lambda one: (one.cost.peak_bytes, one.cost.ms))
    limit = nearest.plan.limit_bytes
    time = "" if ms == float("inf") else f" and {ms:g} ms a frame"
    return BudgetExceeded(
        f"no width of this bank fits {bundles.device.name}, which allows {limit / _MIB:.0f} MiB{time}: the nearest "
        f"needs {nearest.cost.peak_bytes / _MIB:.0f} MiB and {nearest.cost.ms:.2f} ms; the largest part: "
        f"{nearest.plan.largest_tenant}. Allow more memory or time, take fewer frames a step, or train a bank "
        "whose least ratio is smaller",
        need_bytes=int(nearest.cost.peak_bytes),
        limit_bytes=limit,
        largest_tenant=nearest.plan.largest_tenant,
    )


def _moved(chosen: Measured, folder: Path, stem: Path, parts: int) -> Path:
    """The network and its bundle to where they were asked for; the bundle last, for who waits for it."""
    assert chosen.bundle is not None
    for suffix in (".safetensors", ".ecotta"):
        shutil.move(folder / f"{_WRITTEN}{suffix}", stem.with_name(f"{stem.name}{suffix}"))
    warmed_path(folder / _WRITTEN, parts).unlink(missing_ok=True)
    return stem.with_name(f"{stem.name}.ecotta")
