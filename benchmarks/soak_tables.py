"""The tables of measure_soak.py and simulated_day.py for docs/results.md; for render_results.py."""

from typing import Any

__all__ = ["render_simulated_day", "render_soak"]


def render_soak(report: dict[str, Any]) -> str:
    """What became of the frames of each camera, and what the process held."""
    table = [
        "| camera | frames | answered | refused, or lost with the connection | dropped, and counted | not counted |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for camera in report["about"]["cameras"]:
        counts = report["frames"][camera]
        columns = ("positions", "answered", "refused_or_lost", "dropped", "not_counted")
        table.append(f"| {camera} | {' | '.join(f'{counts[name]:,}' for name in columns)} |")
    ranges, (early, late) = report["range_after_two_minutes"], report["pss_mib_mean_of_halves"]
    (end,) = report["end"]
    held = ", ".join(f"{low} to {high} {name}" for name, (low, high) in ranges.items() if "mib" not in name)
    note = (
        f"{report['about']['bundle']}; {report['minutes']:g} minutes, of which the first two are left out: {held}; PSS "
        f"{ranges['pss_mib'][0]:.1f} to {ranges['pss_mib'][1]:.1f} MiB, in the mean {early:.1f} in the first half and "
        f"{late:.1f} in the second; {report['cpu_percent_of_a_core']:g} % of a core. It ended "
        f"{end['ended_in_s']:g} s after SIGTERM with {end['exit_code']}. {_where(report)}"
    )
    return "\n".join([*table, "", note, ""])


def render_simulated_day(report: dict[str, Any]) -> str:
    """What happened in the day, and what the process held in its course."""
    seen, during = report["seen"], report["during"]
    sizes = [one["pss_mib"] for one in during]
    table = [
        "| hours | losses | failures of outputs | configurations read | PSS MiB, later half less earlier "
        "| threads left | descriptors left |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| {report['hours']:.1f} | {seen['losses']:,} | {seen['failures']:,} | {seen['reloads']} "
        f"| {report['pss_mib_growth']:+.2f} | {report['after']['threads'] - report['before']['threads']} "
        f"| {report['after']['descriptors'] - report['before']['descriptors']} |",
    ]
    threads = [one["threads"] for one in during]
    note = (
        f"{report['about']['bundle']}; the day took {report['real_minutes']:g} minutes. In its course: PSS "
        f"{min(sizes):.1f} to {max(sizes):.1f} MiB, {min(threads)} to {max(threads)} threads, {seen['answers']:,} "
        f"answers. {_where(report)}"
    )
    return "\n".join([*table, "", note, ""])


def _where(report: dict[str, Any]) -> str:
    where = report["about"]["environment"]
    return f"{where['cpu']}, onnxruntime {where['versions']['onnxruntime']}, beside other work."
