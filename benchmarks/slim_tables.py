"""The tables of measure_slim.py for docs/results-student.md; for render_results.py."""

import json
import statistics
from typing import Any

__all__ = ["render_slim"]

_KINDS = ("bank", "alone", "source only", "source only, norms recalibrated")
_MIB = 1 << 20


def render_slim(report: dict[str, Any]) -> str:
    """Errors by width beside those trained alone; what was tried; the ranking without labels; picks for boards."""
    rows = _by_setting(report)
    others = sorted({row["kind"] for row in rows} - set(_KINDS))
    kinds = [kind for kind in (*_KINDS[:2], *others, *_KINDS[2:]) if _seeds(rows, kind)]
    lines = [f"| operations | {' | '.join(kinds)} |", f"| ---: |{' ---: |' * len(kinds)}"]
    for share in sorted({row["share"] for row in rows if row["kind"] in _KINDS[:2]}, reverse=True):
        same = [row for row in rows if row["share"] == share]
        cells = [_spread([row["error_percent"] for row in same if row["kind"] == kind]) for kind in kinds]
        lines.append(f"| 1/{1 / share:.0f} | {' | '.join(cells)} |")
    lines.append(f"| mean of widths | {' | '.join(_spread(_means_of(rows, kind)) for kind in kinds)} |")
    lines += ["", _note(report, rows), "", *_tuning(report), *_ablations(report), *_ranking(report), *_boards(report)]
    lines += _predictions(report)
    return "\n".join([*lines, ""])


def _by_setting(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows by width; those of networks alone with a step size that was not taken are of a kind of their own."""
    taken = _taken([row for row in report.get("tune", []) if row["kind"] == "alone"])
    rows = []
    for row in report["widths"]:
        other = row["kind"] == "alone" and taken is not None and row["setting"]["lr"] != taken["setting"]["lr"]
        rows.append({**row, "kind": f"alone, step size {row['setting']['lr']:g}"} if other else row)
    return rows


def _taken(tried: list[dict[str, Any]]) -> dict[str, Any] | None:
    return min(tried, key=lambda row: row["source_error_percent"], default=None)


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
        best = _taken(same)
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
        f"| ensemble | seeds | {' | '.join(f'1/{1 / float(share):.0f}' for share in shown)} | mean of widths "
        "| beside the first, by seed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    first = {row["seed"]: row for row in rows if row["setting"] == rows[0]["setting"]}
    for setting in [json.loads(text) for text in dict.fromkeys(json.dumps(row["setting"]) for row in rows)]:
        same = [row for row in rows if row["setting"] == setting]
        cells = [_spread([row["error_percent"][share] for row in same]) for share in shown]
        cells.append(_spread([_mean_of(row) for row in same]))
        apart = [f"{_mean_of(row) - _mean_of(first[row['seed']]):+.1f}" for row in same if row["seed"] in first]
        told = "" if setting == rows[0]["setting"] else ", ".join(apart)
        lines.append(f"| {_ablated(rows[0]['setting'], setting)} | {len(same)} | {' | '.join(cells)} | {told} |")
    return [
        *lines,
        "",
        f"Ablations of SEED: test error in %, {rows[0]['epochs']} epochs; of one seed differences of some points are "
        f"noise (the chosen one's seeds differ by {_apart(report):.0f}). Nothing was chosen by them. "
        f"`python benchmarks/measure_slim.py ablate --epochs {rows[0]['epochs']}`.",
        "",
    ]


def _apart(report: dict[str, Any]) -> float:
    """Of the bank's seeds, by their means over widths."""
    means = _means_of(report["widths"], "bank")
    return max(means) - min(means)


def _mean_of(row: dict[str, Any]) -> float:
    return statistics.mean(row["error_percent"].values())


def _ablated(first: dict[str, Any], other: dict[str, Any]) -> str:
    if other["seed_weight"] == 0:
        return "none (weight 0)"
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
    spent = [f"{kind} {_seconds(rows, kind):.0f}" for kind in ("bank", "alone") if _seeds(rows, kind)]
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
        "| next wider, planned MiB (~ predicted) | ms a frame "
        "| search, s of a core (its process) | of the training, % |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        about = "" if row.get("wider_planned") else "~"
        wider = f"{about}{row['wider_bytes'][0] / _MIB:.1f}" if row["wider_bytes"] else "none"
        measured = "" if row["measured_bytes"] is None else f"{row['measured_bytes'] / _MIB:.1f}"
        planned = f"{row['planned_bytes'] / _MIB:.1f}{' (app)' if row.get('native') else ''}"
        cells = [row["device"], f"{row['limit_bytes'] / _MIB:.0f}", f"{row['share']:.2f}", planned, measured]
        cells += [str(row["kills"]), wider, f"{row['ms_a_frame']:.2f}"]
        spent = [row["search_cpu_s"], row["pick_cpu_s"]]
        cells += [_and_all(spent), _and_all([100 * each / row["training_cpu_s"] for each in spent])]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"`ecotta student pick` with {rows[0]['step_batch']} frames a step, so that not every board takes the whole "
        "network; each bundle then learned from one batch in a memory control group of the board's limit. The first "
        f"pick measures {rows[0]['measured_widths']} widths, the others find those measured. The training is that of "
        f"the bank, {report['recipe']['epochs']} epochs, {rows[0]['training_cpu_s']:.0f} s of a core, whole and in the "
        "same run before the picks; imports are not in it, nor in the search's time, but in that of its process. "
        "(app): planned without an interpreter, which the trial here has. `python benchmarks/measure_slim.py boards`.",
    ]


def _predictions(report: dict[str, Any]) -> list[str]:
    rows = report.get("predictions", [])
    if not rows:
        return []
    lines = ["", "| widths | number | planned, MiB | above what is predicted, MiB |", "| --- | ---: | --- | --- |"]
    for even, name in ((True, "one ratio"), (False, "uneven, at random")):
        same = [row for row in rows if row["even"] is even]
        planned = [row["planned_bytes"] / _MIB for row in same]
        above = [(row["planned_bytes"] - row["predicted_bytes"]) / _MIB for row in same]
        lines.append(
            f"| {name} | {len(same)} | {min(planned):.0f} to {max(planned):.0f} "
            f"| {min(above):+.1f} to {max(above):+.1f} |"
        )
    return [
        *lines,
        "",
        "Predicted by the whole, the narrowest and half of the operations, the same network and batch. "
        "`python benchmarks/measure_slim.py predict`.",
    ]


def _and_all(spent: list[float]) -> str:
    return f"{spent[0]:.1f} ({spent[1]:.1f})"
