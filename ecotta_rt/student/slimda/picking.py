"""From a bank to the network and bundle for one device.

three widths measured  ->  fitted cost  ->  search  ->  the widest predicted to fit, exported, planned, timed
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.files.temporary import temporary_folder
from ecotta_rt.method.width.groups import Widths
from ecotta_rt.prepare.pipeline import warmed_path
from ecotta_rt.student.slimda.device_cost import Bundles, Made, fitted
from ecotta_rt.student.slimda.search import Candidate, pareto, search, shares_down_to
from ecotta_rt.student.slimda.upem import Upem
from ecotta_rt.student.slimmable.widths import at_ratio, ratio_for

__all__ = ["SEARCH_FRAMES", "Picked", "pick"]

_FITTED_SHARE = 0.25
"""Of the operations: measured besides the whole and the smallest, since cost has a constant and two slopes."""

_NEARLY = 1.05
"""Tried though predicted to be over the limit by so much: predictions are off by a few per cent."""

SEARCH_FRAMES = 256
"""Of the bank's, for UPEM."""

_WRITTEN = "chosen"
_MIB = 1 << 20

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Picked:
    """What was found.

    Attributes:
        candidates: The best widths for each budget, the widest first.
        made: All that were measured, now or before.
        measured: How many now.
        chosen: The one that was written; None where nothing fits.
        refusal: Why nothing fits.
    """

    candidates: Sequence[Candidate]
    made: Sequence[Made]
    measured: int
    chosen: Made | None
    refusal: BudgetExceeded | None

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        best = pareto(self.candidates)
        rows = []
        for one in self.candidates:
            made = next((each for each in self.made if each.widths == one.widths), None)
            planned = {} if made is None else {"peak_bytes": int(made.cost.peak_bytes), "ms": made.cost.ms}
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
        return {"candidates": rows, "chosen": chosen, "measured": self.measured}


def pick(
    bundles: Bundles, stem: Path, *, ms: float, tries: int, seed: int, report: Report, known: Sequence[Made] = ()
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
    bundles: Bundles, stem: Path, ms: float, tries: int, seed: int, report: Report, known: Sequence[Made]
) -> Picked:
    bank, groups = bundles.bank, bundles.bank.slimmable.groups
    between = at_ratio(groups, max(bank.least, ratio_for(groups, _FITTED_SHARE)))
    wanted = [groups.whole(), between, at_ratio(groups, bank.least)]
    budgets = shares_down_to(groups, bank.least)
    total = len(wanted) + len(budgets) + 1
    made = list(known)
    with temporary_folder(stem.parent, f".{stem.name}.") as folder:
        for place, widths in enumerate(wanted):
            report(place, total, "measuring widths to learn what they cost")
            if not any(one.widths == widths for one in made):
                made.append(bundles.measure(widths, folder / str(len(made))))
        # By these alone: with what was tried besides, each board's search would come to other widths, not yet measured.
        learned = [next(one for one in made if one.widths == widths) for widths in wanted]
        found = search(
            groups,
            Upem(bank.slimmable, bank.floats()[:SEARCH_FRAMES]),
            fitted(groups, learned),
            bank.least,
            tries=tries,
            seed=seed,
            shares=budgets,
            report=lambda done, _, what: report(len(wanted) + done, total, f"searching, {what}"),
        )
        chosen = _first_that_fits(bundles, found, made, ms, folder)
        report(total, total, "done")
        measured = len(made) - len(known)
        if chosen is None:
            return Picked(found, made, measured, None, _refusal(bundles, made, ms))
        bundle = _moved(chosen, folder, stem, bundles.parts)
    return Picked(found, made, measured, replace(chosen, bundle=bundle), None)


def _first_that_fits(
    bundles: Bundles, found: Sequence[Candidate], made: list[Made], ms: float, folder: Path
) -> Made | None:
    """The widest whose bundle is written and fits; each that was exported for that joins `made`."""
    limit = bundles.wish.limit_bytes or bundles.device.default_limit_bytes
    tried: list[Widths] = []
    for one in [*found, None]:
        widths = at_ratio(bundles.bank.slimmable.groups, bundles.bank.least) if one is None else one.widths
        known = next((each for each in made if each.widths == widths), None)
        if known is None and one is not None and (one.cost.peak_bytes > _NEARLY * limit or one.cost.ms > _NEARLY * ms):
            continue
        if widths in tried or (known is not None and not (known.plan.fits and known.cost.ms <= ms)):
            continue
        tried.append(widths)
        whole = bundles.make(widths, folder / _WRITTEN)
        if known is None:
            made.append(whole)
        else:
            made[made.index(known)] = whole  # its time is of now
        if whole.plan.fits and whole.cost.ms <= ms:
            return whole
    return None


def _refusal(bundles: Bundles, made: Sequence[Made], ms: float) -> BudgetExceeded:
    nearest = min(made, key=lambda one: (one.cost.peak_bytes, one.cost.ms))
    limit = nearest.plan.limit_bytes
    time = "" if ms == float("inf") else f" and {ms:g} ms a frame"
    return BudgetExceeded(
        f"no width of this bank fits {bundles.device.name}, which allows {limit / _MIB:.0f} MiB{time}: the nearest "
        f"needs {nearest.cost.peak_bytes / _MIB:.0f} MiB and {nearest.cost.ms:.2f} ms; the largest part: "
        f"{nearest.plan.largest_tenant}. Give more (--limit, --ms), a smaller --step-batch, or train a bank that goes "
        "further down (--least)",
        need_bytes=int(nearest.cost.peak_bytes),
        limit_bytes=limit,
        largest_tenant=nearest.plan.largest_tenant,
    )


def _moved(chosen: Made, folder: Path, stem: Path, parts: int) -> Path:
    """The network and its bundle to where they were asked for; the bundle last, for who waits for it."""
    assert chosen.bundle is not None
    for suffix in (".safetensors", ".ecotta"):
        shutil.move(folder / f"{_WRITTEN}{suffix}", stem.with_name(f"{stem.name}{suffix}"))
    warmed_path(folder / _WRITTEN, parts).unlink(missing_ok=True)
    return stem.with_name(f"{stem.name}.ecotta")
