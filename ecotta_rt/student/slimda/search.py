"""Find, for each budget of a falling row, the widths that answer most like the whole network and cost no more.

    whole network -> narrowed at random to the next budget, some times -> the best by UPEM -> narrowed further ...

Each budget begins with the winner of the one before, so the search goes on from what has been found ("inherited
greedy"). A budget is what one ratio for all groups costs on the device, in memory and in time: what is found costs no
more in either, as predicted. That ratio itself is always among the candidates, so by UPEM what is found is never worse.

Source: SlimDA, arXiv 2206.06620, as far as its public parts say it; AutoSlim, arXiv 1903.11728, for greedy narrowing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ecotta_rt.method.width.groups import ChannelGroups, Widths
from ecotta_rt.student.slimda.device_cost import Cost
from ecotta_rt.student.slimmable.widths import at_ratio, operations, ratio_for, rounded

__all__ = ["SHARES", "Candidate", "narrowed_at_random", "one_ratio", "pareto", "search", "shares_down_to"]

SHARES = tuple(2 ** (-step / 2) for step in range(13))
"""The grid: 1 to 1/64 of the operations, each 1/sqrt(2) of the one before."""

_FINALISTS = 3
"""Of those that are drawn for a budget: so many are compared by all frames, the others by fewer."""

_LEVELS = 16
"""A group is narrowed by a sixteenth of its channels at a time."""


@dataclass(frozen=True)
class Candidate:
    """Widths that the search found.

    Attributes:
        share: Of the operations: the budget's place in the grid.
        widths: Channels of each group.
        operations: A frame.
        upem: Distance of its answers from those of the whole network.
        cost: As predicted.
        uniform: Whether it is one ratio for all groups.
    """

    share: float
    widths: Widths
    operations: int
    upem: float
    cost: Cost
    uniform: bool

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "share": self.share,
            "operations": self.operations,
            "upem": self.upem,
            "predicted_peak_bytes": round(self.cost.peak_bytes),
            "predicted_ms": self.cost.ms,
            "uniform": self.uniform,
            "channels": dict(self.widths),
        }


def shares_down_to(groups: ChannelGroups, least: float) -> tuple[float, ...]:
    """The grid down to what the smallest trained width costs."""
    smallest = operations(groups, at_ratio(groups, least)) / operations(groups, groups.whole())
    inside = [share for share in SHARES if share > 1.2 * smallest]
    return (*inside, smallest)


def one_ratio(groups: ChannelGroups, share: float, least: float) -> dict[str, int]:
    """The same ratio for all groups, with about this share of the operations."""
    return groups.whole() if share == 1 else at_ratio(groups, max(least, ratio_for(groups, share)))


def search(
    groups: ChannelGroups,
    upem: Callable[[Widths], float],
    predict: Callable[[Widths], Cost],
    least: float,
    *,
    tries: int = 8,
    seed: int = 0,
    shares: Sequence[float] | None = None,
    roughly: Callable[[Widths], float] | None = None,
    report: Callable[[int, int, str], None] | None = None,
) -> list[Candidate]:
    """The best widths for each budget, the widest first.

    Args:
        groups: Of the bank.
        upem: Lower is better.
        predict: What widths cost on the device.
        least: Smallest ratio of a group.
        tries: Random narrowings a budget, beside the uniform one.
        seed: Of them.
        shares: Budgets, falling, the first 1; None: `shares_down_to(least)`.
        roughly: As `upem` and cheaper, by which most that are drawn are left out; None: all are compared by `upem`.
        report: Called after each budget with how many are done.
    """
    generator = torch.Generator().manual_seed(seed)
    budgets = shares or shares_down_to(groups, least)
    floor = at_ratio(groups, least)
    best: Widths = groups.whole()
    found: list[Candidate] = []
    for done, share in enumerate(budgets):
        uniform = one_ratio(groups, share, least)
        budget = predict(uniform)

        def within(widths: Widths, budget: Cost = budget) -> bool:
            return predict(widths).within(budget)

        count = 0 if share == 1 else tries
        drawn = [narrowed_at_random(groups, best, floor, within, generator) for _ in range(count)]
        others = _different([widths for widths in drawn if widths is not None and widths != uniform])
        if roughly is not None and len(others) > _FINALISTS:
            others = sorted(others, key=roughly)[:_FINALISTS]
        scores = [(upem(widths), place, widths) for place, widths in enumerate([uniform, *others])]
        score, place, best = min(scores, key=lambda entry: entry[:2])
        cost = predict(best)
        found.append(Candidate(share, best, operations(groups, best), score, cost, uniform=place == 0))
        if report is not None:
            report(done + 1, len(budgets), f"{share:.3f} of the operations")
    return found


def _different(drawn: Sequence[dict[str, int]]) -> list[dict[str, int]]:
    """Each once, in their order."""
    return list({tuple(widths.items()): widths for widths in drawn}.values())


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of which no other one is as good in error estimate, memory and time and better in one."""

    def beats(one: Candidate, other: Candidate) -> bool:
        a, b = ((each.upem, each.cost.peak_bytes, each.cost.ms) for each in (one, other))
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    return [one for one in candidates if not any(beats(other, one) for other in candidates)]


def narrowed_at_random(
    groups: ChannelGroups,
    begin: Widths,
    floor: Widths,
    within: Callable[[Widths], bool],
    generator: torch.Generator,
) -> dict[str, int] | None:
    """`begin`, groups drawn at random made narrower, never below `floor`, until `within`; None where that never is."""
    widths = dict(begin)
    while not within(widths):
        open_groups = [name for name in widths if widths[name] > floor[name]]
        if not open_groups:
            return None
        name = open_groups[int(torch.randint(len(open_groups), (1,), generator=generator))]
        size = groups.groups[name].size
        less = rounded(size, max(1, widths[name] - max(1, size // _LEVELS)) / size)
        widths[name] = max(floor[name], less if less < widths[name] else widths[name] - 1)
    return widths
