"""The tables of measure_slim.py for docs/results-student.md; for render_results.py."""

import statistics
from typing import Any

__all__ = ["render_slim"]

_KINDS = ("bank", "alone", "source only", "source only, norms recalibrated")
_MIB = 1 << 20
_STEP_BATCH = 768


def render_slim(report: dict[str, Any]) -> str:
    """Errors by width beside those trained alone; then the ranking without labels, and picks for boards."""
    rows = report["widths"]
    kinds = [kind for kind in _KINDS if _seeds(rows, kind)]
    lines = [f"| operations | {' | '.join(kinds)} |", f"| ---: |{' ---: |' * len(kinds)}"]
    for share in sorted({row["share"] for row in rows if row["kind"] in ("bank", "alone")}, reverse=True):
        same = [row for row in rows if row["share"] == share]
        cells = [_spread([row["error_percent"] for row in same if row["kind"] == kind]) for kind in kinds]
        lines.append(f"| 1/{1 / share:.0f} | {' | '.join(cells)} |")
    means = {kind: [_mean_of(rows, kind, seed) for seed in sorted(_seeds(rows, kind))] for kind in ("bank", "alone")}
    lines.append(f"| mean of widths | {' | '.join(_spread(means.get(kind, [])) for kind in kinds)} |")
    lines += ["", _note(report, rows), "", *_ranking(report), *_boards(report)]
    return "\n".join([*lines, ""])


def _seeds(rows: list[dict[str, Any]], kind: str) -> set[int]:
    return {row["seed"] for row in rows if row["kind"] == kind}


def _mean_of(rows: list[dict[str, Any]], kind: str, seed: int) -> float:
    return statistics.mean(row["error_percent"] for row in rows if row["kind"] == kind and row["seed"] == seed)


def _spread(errors: list[float]) -> str:
    if not errors:
        return ""
    if len(errors) == 1:
        return f"{errors[0]:.1f}"
    return f"{statistics.mean(errors):.1f} ± {statistics.stdev(errors):.1f}"


def _note(report: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    recipe, environment = report["recipe"], report["environment"]
    counts = ", ".join(f"{len(_seeds(rows, kind))} of {kind}" for kind in _KINDS[:3])
    spent = [f"{kind} {_seconds(rows, kind):.0f}" for kind in ("bank", "alone") if _seeds(rows, kind)]
    size = " x ".join(map(str, recipe["frame"]))
    return (
        f"Error in %, mean and standard deviation of seeds ({counts}; one seed is a check). MNIST to USPS at {size}, "
        f"WRN-10-1, {recipe['frames']:,} pictures a domain, {recipe['epochs']} epochs of batch {recipe['batch']}, step "
        f"size {recipe['lr']:g}; the last epoch. Seconds of a core for all widths: {', '.join(spent)}. "
        f"{environment['cpu']}, torch {environment['versions']['torch']}; `python benchmarks/measure_slim.py train`."
    )


def _seconds(rows: list[dict[str, Any]], kind: str) -> float:
    """A bank is trained once, and each width alone."""
    of_a_seed = {}
    for row in rows:
        if row["kind"] == kind:
            of_a_seed.setdefault(row["seed"], []).append(row["training_cpu_s"])
    return statistics.mean((max if kind == "bank" else sum)(seconds) for seconds in of_a_seed.values())


def _ranking(report: dict[str, Any]) -> list[str]:
    rows = report.get("rank", [])
    if not rows:
        return []
    found = ", ".join(
        f"{row['spearman']:.2f} (errors {min(row['error_percent']):.1f} to {max(row['error_percent']):.1f} %)"
        for row in rows
    )
    return [
        f"Spearman's correlation of UPEM and true error over {len(rows[0]['upem'])} random sub-networks, by seed: "
        f"{found}. Asking for one width takes {statistics.mean(row['cpu_s_a_width'] for row in rows):.2f} seconds of a "
        "core; `python benchmarks/measure_slim.py rank`.",
        "",
    ]


def _boards(report: dict[str, Any]) -> list[str]:
    rows = report.get("boards", [])
    if not rows:
        return []
    lines = [
        "| board | limit MiB | operations | planned MiB | measured MiB | killed | next wider, MiB | ms a frame |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        wider = f"{row['wider_bytes'][0] / _MIB:.0f}" if row["wider_bytes"] else "none"
        measured = "" if row["measured_bytes"] is None else f"{row['measured_bytes'] / _MIB:.1f}"
        cells = [row["device"], f"{row['limit_bytes'] / _MIB:.0f}", f"{row['share']:.2f}"]
        cells += [f"{row['planned_bytes'] / _MIB:.1f}", measured, str(row["kills"]), wider, f"{row['ms_a_frame']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    spent = statistics.mean(row["pick_cpu_s"] for row in rows)
    return [
        *lines,
        "",
        f"`ecotta student pick` with {_STEP_BATCH} frames a step, so that not every board takes the whole network; "
        "each bundle then learned from one batch in a memory control group of the board's limit. A pick, four or five "
        f"exports and the search, took {spent:.0f} seconds of a core. Times are of this machine, beside other work; "
        "`python benchmarks/measure_slim.py boards`.",
    ]
