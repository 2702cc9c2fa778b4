"""From a bank to the network and bundle for one device.

four widths exported  ->  fitted cost  ->  search  ->  the widest predicted to fit, exported, planned, timed
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

__all__ = ["Picked", "pick"]

_FITTED_SHARES = (1.0, 0.35, 0.1)
"""Of the operations; the smallest width is the fourth."""

_NEARLY = 1.05
"""Tried though predicted to be over the limit by so much: predictions are off by a few per cent."""

_MIB = 1 << 20

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Picked:
    """What was found.

    Attributes:
        candidates: The best widths for each budget, the widest first.
        made: All that were exported.
        chosen: The one that was written; None where nothing fits.
        refusal: Why nothing fits.
    """

    candidates: Sequence[Candidate]
    made: Sequence[Made]
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
        return {"candidates": rows, "chosen": chosen, "exports": len(self.made)}


def pick(bundles: Bundles, stem: Path, *, ms: float, tries: int, seed: int, report: Report) -> Picked:
    """Search, and write the widest that fits.

    Args:
        bundles: The bank, the device and what a bundle holds.
        stem: Where to, without suffix.
        ms: What the adapting step may take a frame on this machine.
        tries: Random narrowings a budget.
        seed: Of the search.
        report: Hears what is done.

    Raises:
        NetworkError, UsageError, TransferError: As `Bundles.make`.
    """
    bank, groups = bundles.bank, bundles.bank.slimmable.groups
    uniform = [groups.whole(), *(at_ratio(groups, max(bank.least, ratio_for(groups, s))) for s in _FITTED_SHARES[1:])]
    uniform.append(at_ratio(groups, bank.least))
    budgets = shares_down_to(groups, bank.least)
    total = len(uniform) + len(budgets) + 1
    with temporary_folder(stem.parent, f".{stem.name}.") as folder:
        made: list[Made] = []
        for place, widths in enumerate(uniform):
            report(place, total, "exporting widths to learn what they cost")
            if not any(one.widths == widths for one in made):
                made.append(bundles.make(widths, folder / str(len(made))))
        found = search(
            groups,
            Upem(bank.slimmable, bank.floats()),
            fitted(groups, made),
            bank.least,
            tries=tries,
            seed=seed,
            shares=budgets,
            report=lambda done, _, what: report(len(uniform) + done, total, f"searching, {what}"),
        )
        chosen = _first_that_fits(bundles, found, made, ms, folder)
        report(total, total, "done")
        if chosen is None:
            return Picked(found, made, None, _refusal(bundles, made, ms))
        bundle = _moved(chosen, stem, bundles.parts)
    return Picked(found, made, Made(chosen.widths, chosen.cost, chosen.plan, bundle), None)


def _first_that_fits(
    bundles: Bundles, found: Sequence[Candidate], made: list[Made], ms: float, folder: Path
) -> Made | None:
    limit = bundles.wish.limit_bytes or bundles.device.default_limit_bytes
    tried: list[Widths] = []
    for one in [*found, None]:
        widths = at_ratio(bundles.bank.slimmable.groups, bundles.bank.least) if one is None else one.widths
        known = next((each for each in made if each.widths == widths), None)
        if known is None and one is not None and (one.cost.peak_bytes > _NEARLY * limit or one.cost.ms > _NEARLY * ms):
            continue
        if widths in tried:
            continue
        tried.append(widths)
        if known is None:
            known = bundles.make(widths, folder / str(len(made)))
            made.append(known)
        if known.plan.fits and known.cost.ms <= ms:
            return known
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


def _moved(chosen: Made, stem: Path, parts: int) -> Path:
    """The network and its bundle to where they were asked for; the bundle last, for who waits for it."""
    made = chosen.bundle.with_name(chosen.bundle.name.removesuffix(".ecotta"))
    for suffix in (".safetensors", ".ecotta"):
        shutil.move(made.with_name(f"{made.name}{suffix}"), stem.with_name(f"{stem.name}{suffix}"))
    warmed_path(made, parts).unlink(missing_ok=True)
    return stem.with_name(f"{stem.name}.ecotta")
