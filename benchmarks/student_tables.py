"""The tables of measure_distil.py and its neighbours for docs/results-student.md; for render_results.py."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["chosen", "render_distil"]


def render_distil(report: dict[str, Any]) -> str:
    """Errors in the target domains by method, mean and spread of the seeds; a column a target."""
    rows = list(report["rows"].values())
    columns = list(dict.fromkeys((row["source"], target) for row in rows for target in row["targets"]))
    several = len(rows[0]["targets"]) > 1
    heads = [*(f"{source} -> {target}" for source, target in columns), *(["mean"] if several else [])]
    lines = [f"| error % | {' | '.join(heads)} | minutes of one core |", f"| --- |{' ---: |' * (len(heads) + 1)}"]
    for name in dict.fromkeys(row["row"] for row in rows):
        same = [row for row in rows if row["row"] == name]
        cells = [
            _spread([_error(row, target) for row in same if _of(row, source, target)]) for source, target in columns
        ]
        cells += [_spread([_mean(row) for row in same])] if several else []
        minutes = statistics.mean(row["processor_minutes"] for row in same)
        lines.append(f"| {' | '.join([name, *cells, f'{minutes:.1f}'])} |")
        for norms in same[0].get("recalibrated_errors_percent", {}):
            cells = [
                _spread([_error(row, target, norms) for row in same if _of(row, source, target)])
                for source, target in columns
            ]
            cells += [_spread([_mean(row, norms) for row in same])] if several else []
            lines.append(f"| {' | '.join([f'{name}, norms of {norms}', *cells, ''])} |")
        taught = [row for row in same if row["teacher_errors_percent"]]
        if taught:
            cells = [_spread(_of_teachers(taught, source, target)) for source, target in columns]
            cells += [_spread([_mean_of_teachers(row) for row in taught])] if several else []
            whose = (
                "its teachers, each in its target" if len(taught[0]["teacher_errors_percent"]) > 1 else "its teacher"
            )
            lines.append(f"| {' | '.join([f'{name}: {whose}', *cells, ''])} |")
    choices = [*_choices(report), ""] if "tune" in report else []
    return "\n".join([*lines, "", *choices, _note(report, rows), ""])


def chosen(about: Mapping[str, Any], tried: Sequence[Mapping[str, Any]]) -> int:
    """Place of the setting that a trial takes: that with the smallest error on held-out frames of the source.

    Of equal ones the first; of an informed trial, of those within one standard error of it, that with the most
    information about the target.
    """
    errors = [_held_out(row) for row in tried]
    least = min(errors)
    if not about.get("informed"):
        return errors.index(least)
    share = least / 100
    allowed = least + 100 * math.sqrt(share * (1 - share) / about["held_out"])
    told = [row["target_information_nats"] if _held_out(row) <= allowed else -math.inf for row in tried]
    return told.index(max(told))


def _choices(report: Mapping[str, Any]) -> list[str]:
    """What the stage `tune` tried: of each row what was chosen first, and by which figures."""
    tried = list(report["tune"].values())
    informed = bool(report["about"].get("informed"))
    pair = f"{tried[0]['source']} -> {', '.join(tried[0]['targets'])}"
    by = "error % on held-out source frames" + " (nats of information about the target)" * informed
    lines = [f"| chosen on {pair}, by {by} | chosen | the others |", "| --- | --- | --- |"]
    for name in dict.fromkeys(row["row"] for row in tried):
        same = sorted((row for row in tried if row["row"] == name), key=_rank)
        taken = same.pop(chosen(report["about"], same))
        told = [_told(row) for row in (taken, *same)]
        lines.append(f"| {name} | {told[0]} | {'; '.join(told[1:])} |")
    return lines


def _told(row: Mapping[str, Any]) -> str:
    nats = row.get("target_information_nats")
    return f"{row['told']}: {_held_out(row):.1f}" + (f" ({nats:.2f})" if nats is not None else "")


def _rank(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """The smallest error first; of equal ones the smallest step size and temperature, as the script chooses."""
    return _held_out(row), row["setting"]["lr"], row["setting"]["temperature"] or 0.0


def _held_out(row: Mapping[str, Any]) -> float:
    error: float = row["held_out_error_percent"]
    return error


def _of(row: Mapping[str, Any], source: str, target: str) -> bool:
    return row["source"] == source and target in row["targets"]


def _error(row: Mapping[str, Any], target: str, norms: str | None = None) -> float:
    """With norms as they were trained, or recalibrated on what `norms` names."""
    errors = row["errors_percent"] if norms is None else row["recalibrated_errors_percent"][norms]
    error: float = errors[target]
    return error


def _mean(row: Mapping[str, Any], norms: str | None = None) -> float:
    return statistics.mean(_error(row, target, norms) for target in row["targets"])


def _of_teachers(rows: list[dict[str, Any]], source: str, target: str) -> list[float]:
    """Of each row the error in a target of the teacher that was adapted to it; one teacher may be for all."""
    found = []
    for row in rows:
        if _of(row, source, target):
            teachers = row["teacher_errors_percent"]
            found.append(teachers[row["targets"].index(target) % len(teachers)][target])
    return found


def _mean_of_teachers(row: dict[str, Any]) -> float:
    return statistics.mean(_of_teachers([row], row["source"], target)[0] for target in row["targets"])


def _spread(errors: list[float]) -> str:
    if not errors:
        return ""
    return f"{statistics.mean(errors):.1f}" + (f" ± {statistics.stdev(errors):.1f}" if len(errors) > 1 else "")


def _note(report: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    about, environment = report["about"], rows[0]["environment"]
    seeds = ", ".join(map(str, sorted({row["seed"] for row in rows})))
    versions = environment["versions"]
    then = f"{about['epochs']} epochs, batch {about['batch']}. "
    if "start_epochs" in about:
        start = f"{about['start_epochs']} epoch{'s' * (about['start_epochs'] > 1)} of step size {about['start_lr']:g}"
        then = (
            f"batch {about['batch']}. All networks begin trained on the source, {start}. Then {about['epochs']} "
            f"epochs, a step a target and batch, of all rows as many steps. Teachers have {about['teacher_share']:g} "
            "of the student's step size. "
        )
    return (
        f"Mean ± standard deviation over the seeds {seeds}. {_networks(about)}; frames "
        f"{about['size']} x {about['size']}, at most {about['frames']:,} of a domain, {then}Minutes: processor time. "
        f"{environment['cpu']}, torch {versions['torch']}, Python {versions['python']}."
    )


def _networks(about: Mapping[str, Any]) -> str:
    if "published" not in about:
        widths = ", ".join(f"{name} {'-'.join(map(str, channels))}" for name, channels in about["widths"].items())
        return f"Channels of three convolutions: {widths}"
    names = ", ".join(f"{name} {one['model']} ({one['checkpoint']})" for name, one in about["published"].items())
    resting = f", {', '.join(about['resting'])} at rest but for their norms" if about.get("resting") else ""
    arithmetic = ", run in bfloat16" if about.get("bfloat16") else ""
    return f"Published weights for CIFAR-10 with a new classifier: {names}{resting}{arithmetic}"
