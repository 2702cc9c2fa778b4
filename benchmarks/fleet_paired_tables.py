"""Tables of states that were tried on the same pictures: differences are told by the pictures on which two differ.

Of n pictures, b that only the one gets wrong and c that only the other does, the difference is (b - c) / n, and its
standard error about sqrt(b + c - (b - c)^2 / n) / n (McNemar 1947).
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["attacks_table", "difference", "movement_table", "shares_table"]

Row = Mapping[str, Any]

_CLEAN = "clean"
_RULES = ("clipped-mean", "trimmed-mean", "median", "mean")
_DOMAINS = Path(__file__).parent / "results" / "fleet-domains.json"


def difference(pairs: Sequence[tuple[int, int]], pictures: int) -> str:
    """Points more, and the standard error, of seeds with so many pictures each.

    Args:
        pairs: Of each seed how many only it, and only the other gets wrong.
        pictures: Of a seed.
    """
    points = statistics.fmean(100 * (b - c) / pictures for b, c in pairs)
    error = sum(b + c - (b - c) ** 2 / pictures for b, c in pairs) ** 0.5 * 100 / pictures / len(pairs)
    return f"{points:+.1f} ± {error:.1f}"


def shares_table(report: Mapping[str, Any]) -> list[str]:
    """States with other shares of the source, everywhere; and how far each goes from single boards to joint."""
    domains, pictures = report["about"]["domains"], report["about"]["held"]
    columns = [*domains, _CLEAN]
    names = [*dict.fromkeys(row["state"] for row in report["rows"])]
    lines = [
        f"| {' | '.join(['share of the source', 'mean of domains', *columns, 'seeds'])} |",
        f"| --- |{' ---: |' * (len(columns) + 2)}",
    ]
    for name in names:
        rows = [row for row in report["rows"] if row["state"] == name]
        cells = [_state(name), *(_cell(rows, its, pictures) for its in (domains, *([one] for one in columns)))]
        lines.append(f"| {' | '.join([*cells, str(len(rows))])} |")
    return [*lines, *_ways(report, names)]


def _state(name: str) -> str:
    return {"source": "all: the bundle's own", "mean": "0: merged"}.get(name, name.removeprefix("source "))


def _cell(rows: Sequence[Row], domains: Sequence[str], pictures: int) -> str:
    """Mean error of domains over the seeds, and the difference from the source."""
    error = statistics.fmean(row["errors_percent"][name] for row in rows for name in domains)
    pairs = [
        (sum(row["only_it_is_wrong"][n] for n in domains), sum(row["only_source_is_wrong"][n] for n in domains))
        for row in rows
    ]
    if rows[0]["state"] == "source":
        return f"{error:.1f}"
    return f"{error:.1f} ({difference(pairs, pictures * len(domains))})"


def _ways(report: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """By the first hundred pictures of each domain, on which single boards and joint adaptation were tried."""
    if not _DOMAINS.exists() or "follow" not in {row["way"] for row in report["rows"]}:
        return []
    known = json.loads(_DOMAINS.read_text(encoding="utf-8"))
    domains = known["about"]["domains"]
    if report["about"]["sha256"] != known["about"]["sha256"] or report["about"]["domains"] != domains:
        return []
    held = [row for row in known["rows"] if row["measure"] == "held"]

    def mean(row: Row, errors: str = "errors_percent") -> float:
        return statistics.fmean(row[errors][name] for name in domains)

    lines = []
    for name in names[1:]:
        shares = []
        for row in report["rows"]:
            if row["state"] == name:
                its = [one for one in held if one["seed"] == row["seed"]]
                single = statistics.fmean(mean(one) for one in its if one["state"].startswith("own "))
                joint = next(mean(one) for one in its if one["state"] == "joint")
                shares.append(100 * (single - mean(row, "first_100_percent")) / (single - joint))
        lines.append(f"{_state(name)} {', '.join(f'{share:.0f}' for share in shares)}")
    return [
        "",
        "From the mean of single boards to joint adaptation, % of the way by seed, on the 100 pictures a domain of the "
        f"table above: {'; '.join(lines)}.",
    ]


def attacks_table(report: Mapping[str, Any]) -> list[str]:
    """What two hostile states of twenty change, by each rule."""
    domains, held = report["about"]["domains"], report["about"]["held"]
    rows = sorted(report["rows"], key=lambda row: (_RULES.index(row["rule"]), row["seed"]))
    pictures = held * len(domains)
    heads = [
        "rule",
        "attack, by 2 of 20 or as it says",
        "hostile left out",
        "honest left out",
        "mean of domains, error %",
    ]
    heads += ["more than without (none: than the mean), points ± standard error", "by seed"]
    lines = [f"| {' | '.join(heads)} |", f"| --- | --- |{' ---: |' * (len(heads) - 2)}"]
    for rule, attack in dict.fromkeys((row["rule"], row["attack"]) for row in rows):
        same = [row for row in rows if (row["rule"], row["attack"]) == (rule, attack)]
        errors = [statistics.fmean(row["errors_percent"][name] for name in domains) for row in same]
        spread = f" ± {statistics.stdev(errors):.1f}" if len(errors) > 1 else ""
        pairs = [(row["only_it_is_wrong"], row["only_without_is_wrong"]) for row in same]
        cells = [
            f"{rule}, robust" if rule != "mean" else "mean, not robust",
            attack,
            ", ".join(str(row["left_out"]) for row in same),
            ", ".join(str(row["honest_left_out"]) for row in same),
            f"{statistics.fmean(errors):.1f}{spread}",
            *_more(same, pairs, pictures),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _more(same: Sequence[Row], pairs: Sequence[tuple[int, int]], pictures: int) -> tuple[str, str]:
    if same[0]["attack"] == "none" and not any(map(any, pairs)):  # the mean itself
        return "", ""
    if same[0]["attack"] != "none" and all(row["same_to_the_bit"] for row in same):
        return "0, to the bit", ""
    return difference(pairs, pictures), ", ".join(f"{100 * (b - c) / pictures:+.1f}" for b, c in pairs)


def movement_table(report: Mapping[str, Any]) -> list[str]:
    """How far each rule is from the mean of the honest, and how far the hostile move it."""
    rows = report["rows"]
    attacks = [*rows[0]["moved"]]
    heads = ["rule", "from the mean, without an attack", *(f"moved: {attack}" for attack in attacks)]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for rule in dict.fromkeys(row["rule"] for row in rows):
        same = [row for row in rows if row["rule"] == rule]
        figures = [[row["from_mean"] for row in same], *([row["moved"][one] for row in same] for one in attacks)]
        lines.append(f"| {' | '.join([rule, *(f'{1000 * statistics.fmean(its):.1f}' for its in figures)])} |")
    return lines
