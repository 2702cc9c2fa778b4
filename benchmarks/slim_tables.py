"""The tables of measure_slim.py for docs/results-student.md; for render_results.py."""

import statistics
from typing import Any

__all__ = ["render_slim"]

_OTHER = "alone, step size 0.1"
"""The one that was not taken; measured before there was a choice."""

_KINDS = ("bank", "alone", _OTHER, "source only", "source only, norms recalibrated")
_MIB = 1 << 20
_STEP_BATCH = 768


def render_slim(report: dict[str, Any]) -> str:
    """Errors by width beside those trained alone; what was tried; the ranking without labels; picks for boards."""
    rows = report["widths"]
    kinds = [kind for kind in _KINDS if _seeds(rows, kind)]
    lines = [f"| operations | {' | '.join(kinds)} |", f"| ---: |{' ---: |' * len(kinds)}"]
    for share in sorted({row["share"] for row in rows if row["kind"] in ("bank", "alone")}, reverse=True):
        same = [row for row in rows if row["share"] == share]
        cells = [_spread([row["error_percent"] for row in same if row["kind"] == kind]) for kind in kinds]
        lines.append(f"| 1/{1 / share:.0f} | {' | '.join(cells)} |")
    lines.append(f"| mean of widths | {' | '.join(_spread(_means_of(rows, kind)) for kind in kinds)} |")
    lines += ["", _note(report, rows), "", *_tuning(report), *_ablations(report), *_ranking(report), *_boards(report)]
    return "\n".join([*lines, ""])


def _tuning(report: dict[str, Any]) -> list[str]:
    """What was tried before, and what it was chosen by."""
    rows, recipe = report.get("tune", []), report["recipe"]
    if not rows:
        return []
    lines = [
        "| tried | with | error on held-out source, % | entropy on target | heads agree, % | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for kind in ("bank", "alone"):
        same = [row for row in rows if row["kind"] == kind]
        best = min(same, key=lambda row: row["source_error_percent"], default=None)
        for row in same:
            signs = [f"{row['source_error_percent']:.1f}", f"{row['target_entropy']:.3f}"]
            signs += [f"{100 * row['target_agreement']:.1f}", "taken" if row is best else ""]
            lines.append(f"| {kind} | {_change(same[0]['setting'], row['setting'])} | {' | '.join(signs)} |")
    return [
        *lines,
        "",
        f"One seed, 100, which is in no figure above, {recipe['tuning_epochs']} epochs. What is taken has the least "
        f"error on {recipe['held_out']:,} training digits of MNIST that nothing learned from, a mean over full width "
        "and an eighth of the operations; entropy and agreement of the classifiers are told and choose nothing. "
        "`python benchmarks/measure_slim.py tune`.",
        "",
    ]


def _change(first: dict[str, Any], other: dict[str, Any]) -> str:
    """What differs from what was tried first."""
    changed = [f"{_named(name)} {other[name]}" for name in first if first[name] != other[name]]
    return ", ".join(changed) or f"step size {first['lr']:g}, rate {first['rate']}"


def _named(field: str) -> str:
    return {"lr": "step size"}.get(field, field.replace("_", " "))


def _ablations(report: dict[str, Any]) -> list[str]:
    rows = report.get("ablate", [])
    if not rows:
        return []
    shares = list(rows[0]["error_percent"])
    shown = [shares[0], shares[len(shares) // 2], shares[-1]]
    lines = [
        f"| bank with | {' | '.join(f'1/{1 / float(share):.0f}' for share in shown)} | mean of widths |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        errors = [row["error_percent"][share] for share in shown]
        errors.append(statistics.mean(row["error_percent"].values()))
        name = _ablated(rows[0]["setting"], row["setting"])
        lines.append(f"| {name} | {' | '.join(f'{error:.1f}' for error in errors)} |")
    return [
        *lines,
        "",
        f"Ablations: test error in %, one seed ({rows[0]['seed']}) and {report['recipe']['tuning_epochs']} epochs, so "
        "differences of some points are noise; nothing was chosen by them. `python benchmarks/measure_slim.py ablate`.",
        "",
    ]


def _ablated(first: dict[str, Any], other: dict[str, Any]) -> str:
    changed = [f"{_named(name)} {other[name]}" for name in first if first[name] != other[name]]
    return ", ".join(changed) or f"confidence {first['confidence']}, temperature {first['temperature']:g}"


def _seeds(rows: list[dict[str, Any]], kind: str) -> set[int]:
    return {row["seed"] for row in rows if row["kind"] == kind}


def _means_of(rows: list[dict[str, Any]], kind: str) -> list[float]:
    """Over the widths, of each seed that has all of them."""
    shares = {row["share"] for row in rows if row["kind"] == "bank"}
    of_a_seed = [[row for row in rows if (row["kind"], row["seed"]) == (kind, seed)] for seed in _seeds(rows, kind)]
    whole = [same for same in of_a_seed if {row["share"] for row in same} == shares]
    return [statistics.mean(row["error_percent"] for row in same) for same in whole]


def _spread(errors: list[float]) -> str:
    if not errors:
        return ""
    if len(errors) == 1:
        return f"{errors[0]:.1f}"
    return f"{statistics.mean(errors):.1f} ± {statistics.stdev(errors):.1f}"


def _note(report: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    recipe, environment = report["recipe"], report["environment"]
    counts = ", ".join(f"{len(_seeds(rows, kind))} of {kind}" for kind in ("bank", "alone", "source only"))
    spent = [f"{kind} {_seconds(rows, kind):.0f}" for kind in ("bank", _OTHER) if _seeds(rows, kind)]
    size = " x ".join(map(str, recipe["frame"]))
    return (
        f"Error in %, mean and standard deviation of seeds ({counts}; one seed is a check). MNIST to USPS at {size}, "
        f"WRN-10-1, {recipe['frames']:,} pictures a domain, {recipe['epochs']} epochs of batch {recipe['batch']}, "
        f"{_settings(rows)}; the last epoch. Seconds of a core: {', '.join(spent)}; a step of a bank is "
        f"that of {recipe['sampled']['bank']} widths. {environment['cpu']}, torch {environment['versions']['torch']}; "
        "`python benchmarks/measure_slim.py train`."
    )


def _settings(rows: list[dict[str, Any]]) -> str:
    """How banks and widths alone were trained."""
    said = {}
    for kind in ("bank", "alone", "source only"):
        setting = next((row["setting"] for row in rows if row["kind"] == kind), None)
        if setting is not None:
            said[kind] = f"{setting['lr']:g}"
    return f"step size {', '.join(f'{size} of {kind}' for kind, size in said.items())}"


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
    lines = ["| seed | UPEM | operations alone | errors of the sub-networks, % |", "| ---: | ---: | ---: | --- |"]
    for row in rows:
        least, most = min(row["error_percent"]), max(row["error_percent"])
        by = [f"{row['spearman']:.2f}", f"{row['spearman_of_operations']:.2f}", f"{least:.1f} to {most:.1f}"]
        lines.append(f"| {row['seed']} | {' | '.join(by)} |")
    return [
        *lines,
        "",
        f"Spearman's correlation with the true error over {len(rows[0]['upem'])} random sub-networks, drawn as the "
        "search draws them: operations log-uniform from 1/64 to all, groups narrowed at random until they are within. "
        f"Asking for one width takes {statistics.mean(row['cpu_s_a_width'] for row in rows):.2f} seconds of a core; "
        "`python benchmarks/measure_slim.py rank`.",
        "",
    ]


def _boards(report: dict[str, Any]) -> list[str]:
    rows = report.get("boards", [])
    if not rows:
        return []
    lines = [
        "| board | limit MiB | operations | planned MiB | measured MiB | killed "
        "| next wider, planned MiB (~ predicted) | ms a frame |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        about = "" if row.get("wider_planned") else "~"
        wider = f"{about}{row['wider_bytes'][0] / _MIB:.1f}" if row["wider_bytes"] else "none"
        measured = "" if row["measured_bytes"] is None else f"{row['measured_bytes'] / _MIB:.1f}"
        cells = [row["device"], f"{row['limit_bytes'] / _MIB:.0f}", f"{row['share']:.2f}"]
        cells += [f"{row['planned_bytes'] / _MIB:.1f}", measured, str(row["kills"]), wider, f"{row['ms_a_frame']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    first, others = rows[0]["pick_cpu_s"], [row["pick_cpu_s"] for row in rows[1:]]
    return [
        *lines,
        "",
        f"`ecotta student pick` with {_STEP_BATCH} frames a step, so that not every board takes the whole network; "
        "each bundle then learned from one batch in a memory control group of the board's limit. The first pick, "
        f"which measures three widths and what it tries, took {first:.0f} seconds of a core; the others, which find "
        f"that measured, {min(others):.0f} to {max(others):.0f}. All times beside a dozen other processes on two "
        "cores; `python benchmarks/measure_slim.py boards`.",
    ]
