"""The tables of measure_fleet.py for docs/results-fleet.md; for render_results.py."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fleet_paired_tables import attacks_table, movement_table, shares_table

__all__ = ["render_fleet"]

Row = Mapping[str, Any]

_OWN = "own "
_CLEAN = "clean"


def render_fleet(report: dict[str, Any]) -> str:
    """The table of a stage, and under it what it was measured on."""
    stage = report["measured"].removeprefix("fleet ")
    tables: Mapping[str, Callable[[dict[str, Any]], list[str]]] = {
        "domains": _of_domains,
        "kinds": _of_kinds,
        "hostile": attacks_table,
        "movement": movement_table,
        "choose-rule": movement_table,
        "shares": shares_table,
        "choose-share": shares_table,
        "speed": _of_speed,
    }
    return "\n".join([*tables[stage](report), "", _note(report), ""])


def _of_domains(report: dict[str, Any]) -> list[str]:
    domains, rows, lines = report["about"]["domains"], report["rows"], []
    for way in dict.fromkeys(row["way"] for row in rows):
        its = [row for row in rows if row["way"] == way]
        held = [row for row in its if row["measure"] == "held"]
        starts = [row for row in its if row["measure"] == "start"]
        lines += [f"**{_WAYS[way]}**", "", *_held_table(held, domains), ""]
        if starts:
            lines += [*_start_table(starts, domains), ""]
    return lines[:-1]


def _held_table(rows: Sequence[Row], domains: Sequence[str]) -> list[str]:
    heads = ["held: error, %", "mean of domains", "harmonic", "worst domain", "clean", *domains, "seeds"]
    by_state = {name: [row for row in rows if row["state"] == name] for name in dict.fromkeys(r["state"] for r in rows)}
    errors = {name: [row["errors_percent"] for row in its] for name, its in by_state.items()}
    lines = []
    for name, its in errors.items():
        if not name.startswith(_OWN):
            lines.append(_line(name, its, domains))
    singles = [errors.get(_OWN + domain, []) for domain in domains]
    count = min(map(len, singles))
    if count:
        lines.insert(1, _singles_at_home(singles, domains, count))
        lines.insert(2, _singles(singles, domains, count))
    way = _share_of_the_way(errors, singles, domains, count)
    return [*_head(heads), *lines, *way]


def _line(name: str, its: Sequence[Mapping[str, float]], domains: Sequence[str]) -> str:
    its = [each for each in its if all(domain in each for domain in domains)]
    cells = [
        _spread([_mean(each, domains) for each in its]),
        _spread([_harmonic(each, domains) for each in its]),
        _spread([max(each[domain] for domain in domains) for each in its]),
        _spread([each[_CLEAN] for each in its if _CLEAN in each]),
        *(f"{statistics.fmean(each[domain] for each in its):.1f}" for domain in domains),
        str(len(its)),
    ]
    return f"| {' | '.join([_STATES.get(name, name), *cells])} |"


def _singles_at_home(singles: Sequence[Sequence[Mapping[str, float]]], domains: Sequence[str], count: int) -> str:
    """As a row of a state: each board in its own domain."""
    its = [{name: singles[place][seed][name] for place, name in enumerate(domains)} for seed in range(count)]
    return _line("at home", its, domains)


def _singles(singles: Sequence[Sequence[Mapping[str, float]]], domains: Sequence[str], count: int) -> str:
    """Figures of each board, then their mean over the boards."""
    boards = [[board[seed] for board in singles] for seed in range(count)]
    figures: Sequence[Callable[[Mapping[str, float]], float]] = (
        lambda each: _mean(each, domains),
        lambda each: _harmonic(each, domains),
        lambda each: max(each[domain] for domain in domains),
        lambda each: each[_CLEAN],
    )
    cells = [_spread([statistics.fmean(map(figure, its)) for its in boards]) for figure in figures]
    cells += [f"{statistics.fmean(each[domain] for its in boards for each in its):.1f}" for domain in domains]
    return f"| {' | '.join([_STATES['single'], *cells, str(count)])} |"


def _share_of_the_way(
    errors: Mapping[str, Sequence[Mapping[str, float]]],
    singles: Sequence[Sequence[Mapping[str, float]]],
    domains: Sequence[str],
    count: int,
) -> list[str]:
    count = min(count, len(errors.get("mean", [])), len(errors.get("joint", [])))
    if not count:
        return []
    shares = []
    for seed in range(count):
        single = statistics.fmean(_mean(board[seed], domains) for board in singles)
        merged, joint = (_mean(errors[name][seed], domains) for name in ("mean", "joint"))
        shares.append(100 * (single - merged) / (single - joint))
    by_seed = ", ".join(f"{share:.0f}" for share in shares)
    return [
        "",
        f"From the mean of single boards to joint adaptation the merged state goes {by_seed} % of the way, by seed.",
    ]


def _start_table(rows: Sequence[Row], domains: Sequence[str]) -> list[str]:
    heads = ["start: error, %", "first 100 frames", "all", *(f"{domain}: first 100" for domain in domains), "seeds"]
    lines = []
    for name in dict.fromkeys(row["state"] for row in rows):
        its = [row for row in rows if row["state"] == name]
        cells = [_spread([_mean(row[span], domains) for row in its]) for span in ("first_percent", "errors_percent")]
        cells += [f"{statistics.fmean(row['first_percent'][domain] for row in its):.1f}" for domain in domains]
        lines.append(f"| {' | '.join([_STATES.get(name, name), *cells, str(len(its))])} |")
    return [*_head(heads), *lines]


def _of_kinds(report: dict[str, Any]) -> list[str]:
    lines = []
    for way in dict.fromkeys(row["way"] for row in report["rows"]):
        its = [row for row in report["rows"] if row["way"] == way]
        held = [row for row in its if row.get("measure") == "held"]
        domains = list(dict.fromkeys(domain for row in held for domain in row["errors_percent"]))
        lines += _head(["held: error, %", "mean", *domains, "seeds"])
        for name in dict.fromkeys(row["state"] for row in held):
            same = [row["errors_percent"] for row in held if row["state"] == name]
            cells = [_spread([_mean(each, domains) for each in same])]
            cells += [f"{statistics.fmean(each[domain] for each in same):.1f}" for domain in domains]
            lines.append(f"| {' | '.join([name, *cells, str(len(same))])} |")
        lines += ["", *_head(["seed", "groups found", "silhouette", "statistics: median distance", "largest"])]
        for row in its:
            if "silhouette" in row:
                far = row["distances"]["statistics"]
                groups = "; ".join(", ".join(group) for group in row["groups"])
                figures = (f"{figure:.2f}" for figure in (row["silhouette"], far["median"], far["largest"]))
                lines.append(f"| {' | '.join([str(row['seed']), groups, *figures])} |")
    return lines


def _of_speed(report: dict[str, Any]) -> list[str]:
    lines = _head(["1,000 states", "processor seconds", "peak of the process, MiB"])
    return [*lines, *(f"| {row['way']} | {row['cpu_s']:.1f} | {row['peak_mib']:.0f} |" for row in report["rows"])]


def _head(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", f"| --- |{' ---: |' * (len(cells) - 1)}"]


def _mean(errors: Mapping[str, float], domains: Sequence[str]) -> float:
    return statistics.fmean(errors[domain] for domain in domains)


def _harmonic(errors: Mapping[str, float], domains: Sequence[str]) -> float:
    """100 less the harmonic mean of the accuracies."""
    return 100 - statistics.harmonic_mean([100 - errors[domain] for domain in domains])


def _spread(values: Sequence[float], form: str = ".1f") -> str:
    if not values:
        return ""
    return f"{statistics.fmean(values):{form}}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


_WAYS = {"follow": "Statistics follow the frames (default)", "learn": "Parameters learn, too"}
_STATES = {
    "source": "source: the bundle's own",
    "at home": "each board's own, in its own domain",
    "single": "each board's own, everywhere",
    "mean": "merged",
    "joint": "joint adaptation",
    "parameters only": "merged, parameters only",
    "statistics only": "merged, statistics only",
    "median": "merged by median",
    "trimmed-mean": "merged by trimmed mean",
    "clusters": "merged by clusters",
    "mean, no spread between boards": "merged, variances averaged only",
    "mean, halfway to source": "halfway from source to merged",
}


def _note(report: dict[str, Any]) -> str:
    about, environment = report["about"], report["environment"]
    versions = environment["versions"]
    software = ", ".join(f"{name} {versions[name]}" for name in ("onnxruntime", "numpy", "python"))
    software = f"{environment['cpu']}, {software}."
    if "stream" not in about:
        return f"Of {about['bundle'].removesuffix('.ecotta')}, each way in a process of its own. {software}"
    seeds = sorted({row["seed"] for row in report["rows"]})
    spread = report["measured"] in ("fleet domains", "fleet kinds", "fleet hostile")
    over = (
        f"Mean{' ± standard deviation' * spread} over seeds {', '.join(map(str, seeds))}"
        if len(seeds) > 1
        else f"Seed {seeds[0]}"
    )
    sizes = f"{about['stream']} frames a board"
    sizes += (
        ""
        if report["measured"] in ("fleet movement", "fleet choose-rule")
        else f"; held: {about['held']} test images a domain"
    )
    sizes += f"; starts: {about['start']} frames" if report["measured"] == "fleet domains" else ""
    return (
        f"{over}. {about['bundle'].removesuffix('.ecotta')}, CIFAR-10 (corrupted here), severity {about['severity']}; "
        f"{sizes}. {software}"
    )
