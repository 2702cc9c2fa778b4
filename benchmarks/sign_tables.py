"""The tables of measure_signs.py and measure_collapses.py for docs/explanation/signs.md; for render_results.py."""

from typing import Any

__all__ = ["render_collapses", "render_signs"]


def render_signs(report: dict[str, Any]) -> str:
    """How signs rank windows, how near the expected error comes, and what doubt does."""
    parts = [_ranking(report), _expected(report), _alarms(report), _about(report)]
    return "\n\n".join(parts) + "\n"


def render_collapses(report: dict[str, Any]) -> str:
    """A row a stream."""
    header = (
        "network",
        "what goes wrong",
        "seed",
        "collapse seen after looks",
        "error before, %",
        "at the end",
        "after",
    )
    rows = []
    for row in report["rows"]:
        errors = ["" if error is None else f"{error:.1f}" for error in row["error_percent"].values()]
        if row["found_after_looks"] is None:
            errors[2], found = "", "never"
        else:
            found = str(row["found_after_looks"]) + (f", {row['returns']} returns" if row["returns"] > 1 else "")
        rows.append((row["network"], row["kind"], str(row["seed"]), found, *errors))
    note = (
        "At the end: of the last 100 frames before the return, or of the stream. After: of frames 100 to 300 behind "
        f"the return. {report['images']}, severity 5; {report['environment']['cpu']}."
    )
    return _table(header, rows, left=3) + f"\n\n{note}\n"


def _ranking(report: dict[str, Any]) -> str:
    networks = report["networks"]
    columns = [(network["network"], size) for network in networks for size in network["ranking"]]
    header = ("sign", *(f"{name}, windows of {size}" for name, size in columns))
    rows = []
    for place, first in enumerate(networks[0]["ranking"]["100"]):
        found = [network["ranking"][size][place] for network in networks for size in network["ranking"]]
        cells = [f"{each['all']:.2f} ({each['median within']:.2f})" for each in found]
        rows.append((first["sign"], *cells))
    told = (
        "Spearman's rank correlation with the error of the windows of all streams, in brackets the median within one:"
    )
    return f"{told}\n\n{_table(header, rows)}"


def _expected(report: dict[str, Any]) -> str:
    header = ("network", "stream", "windows", "error, %", "bias", "mean distance", "best constant", "chance alone")
    rows = []
    for network in report["networks"]:
        for row in sorted(network["expected error"]["200"], key=lambda row: row["protocol"] == "all"):
            names = ("error", "bias", "mean absolute difference", "of the best constant", "by chance")
            points = [f"{100 * row[name]:.1f}" for name in names]
            points[1] = f"{100 * row['bias']:+.1f}"
            rows.append((network["network"], row["protocol"], str(row["windows"]), *points))
    told = "The expected error against the error of windows of 200 frames, in points:"
    return f"{told}\n\n{_table(header, rows, left=2)}"


def _alarms(report: dict[str, Any]) -> str:
    header = ("network", "limit", "temperature", "hours", "false alarms an hour", "right alarms", "bad time in doubt")
    rows = []
    for network in report["networks"]:
        for row in network["alarms"]:
            known = f"{network['temperature']:.2f}" if row["calibrated"] else "not known"
            bad = "none was" if row["bad time doubted"] is None else f"{100 * row['bad time doubted']:.0f} %"
            told = (f"{row['hours']:.1f}", f"{row['false alarms an hour']:.1f}", str(row["right alarms"]), bad)
            rows.append((network["network"], f"{row['limit']:g}", known, *told))
    collapsed = {name for network in report["networks"] for row in network["alarms"] for name in row[_COLLAPSED]}
    none = "None of these streams was taken for collapsed." if not collapsed else f"Taken for collapsed: {collapsed}."
    return f"Doubt, at 5 frames a second:\n\n{_table(header, rows)}\n\n{none}"


_COLLAPSED = "streams taken for collapsed"


def _about(report: dict[str, Any]) -> str:
    told = []
    for network in report["networks"]:
        changes = network["changes"]
        streams = ", ".join(name.replace("-seed-", " ") for name in network["streams"])
        told.append(
            f"{network['network']}: {network['frames']:,} frames of {streams}; temperature "
            f"{network['temperature']:.2f} from training images, where the test images would have given "
            f"{network['temperature of the test images']:.2f}. The memory of places noticed {changes['noticed']} of "
            f"{changes['changes']} changes of corruption, half of these within "
            f"{changes['median frames until then']:.0f} frames, and {changes['others an hour']:.0f} an hour where "
            f"none was."
        )
    return "\n\n".join([*told, f"CIFAR-10, corrupted here; {report['environment']['cpu']}."])


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]], left: int = 1) -> str:
    lines = [header, tuple("---" if place < left else "---:" for place in range(len(header))), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
