"""The tables of measure_signs.py and measure_collapses.py for docs/explanation/signs.md; for render_results.py."""

from typing import Any

__all__ = ["render_collapses", "render_signs"]


def render_signs(report: dict[str, Any]) -> str:
    """How signs rank windows, how near the expected error comes, and what doubt and drift do."""
    parts = [_ranking(report), _expected(report), _alarms(report), _drift(report), _about(report)]
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
        cells = [f"{_spread(each['all'], each['deviation'])} ({each['median within']:.2f})" for each in found]
        rows.append((first["sign"], *cells))
    told = (
        "Spearman's rank correlation with the error of the windows of all streams of a seed, mean and standard "
        "deviation over the seeds; in brackets the median within one stream:"
    )
    return f"{told}\n\n{_table(header, rows)}"


def _spread(value: float, deviation: float | None, form: str = ".2f") -> str:
    return f"{value:{form}}" + ("" if deviation is None else f" ± {deviation:{form.replace('+', '')}}")


def _expected(report: dict[str, Any]) -> str:
    header = ("network", "stream", "windows", "error, %", "bias", "mean distance", "best constant", "chance alone")
    rows = []
    for network in report["networks"]:
        for row in sorted(network["expected error"]["200"], key=lambda row: row["protocol"] == "all"):
            names = ("error", "mean absolute difference", "of the best constant", "by chance")
            error, *others = (f"{100 * row[name]:.1f}" for name in names)
            off = row["deviation of the bias"]
            bias = _spread(100 * row["bias"], None if off is None else 100 * off, "+.1f")
            rows.append((network["network"], row["protocol"], str(row["windows"]), error, bias, *others))
    told = "The expected error against the error of windows of 200 frames, in points:"
    return f"{told}\n\n{_table(header, rows, left=2)}"


_IMAGES = {"others": "training, other corruptions", "test": "test"}
_COLLAPSED = "streams taken for collapsed"


def _alarms(report: dict[str, Any]) -> str:
    header = (
        "network",
        "images",
        "limit",
        "temperature",
        "hours",
        "false alarms an hour",
        "right alarms",
        "bad time in doubt",
    )
    rows = []
    for network in report["networks"]:
        for row in network["alarms"]:
            known = f"{network['temperature']:.2f}" if row["calibrated"] else "not known"
            bad = "none was" if row["bad time doubted"] is None else f"{100 * row['bad time doubted']:.0f} %"
            told = (f"{row['hours']:.1f}", f"{row['false alarms an hour']:.1f}", str(row["right alarms"]), bad)
            rows.append((network["network"], _IMAGES[row["images"]], f"{row['limit']:g}", known, *told))
    named = {(n["network"], name) for n in report["networks"] for row in n["alarms"] for name in row[_COLLAPSED]}
    collapsed = "; ".join(f"{network}, {name}" for network, name in sorted(named))
    note = f"Taken for collapsed: {collapsed}." if named else "None of these streams was taken for collapsed."
    rate = f"{report['frames a second']:g}"
    return f"Doubt, at {rate} frames a second:\n\n{_table(header, rows, left=2)}\n\n{note}"


def _drift(report: dict[str, Any]) -> str:
    header = (
        "network",
        "images",
        "limit",
        "changes",
        "noticed within 50 frames",
        "within 100",
        "median, frames",
        "hours without a change",
        "false an hour, shuffled",
        "in runs",
    )
    rows = []
    for network in report["networks"]:
        for row in network["drift"]:
            limit = "memory of places" if row["limit"] is None else f"{row['limit']:g}"
            shares = [f"{100 * row[name]:.0f} %" for name in ("within 50", "within 100")]
            hours = f"{row['hours shuffled'] + row['hours in runs']:.1f}"
            false = [f"{row[f'false an hour {order}']:.1f}" for order in ("shuffled", "in runs")]
            about = (network["network"], _IMAGES[row["images"]], limit, str(row["changes"]))
            rows.append((*about, *shares, f"{row['median frames until then']:.0f}", hours, *false))
    told = (
        "Drift, by its limit, and for comparison the memory of places; stays of 100 frames or more, and streams "
        f"without a change at {report['frames a second']:g} frames a second, half of them with classes in runs:"
    )
    return f"{told}\n\n{_table(header, rows, left=3)}"


def _about(report: dict[str, Any]) -> str:
    told = []
    for network in report["networks"]:
        names = sorted({name.partition("-seed-")[0] for name in network["streams"] if "-seed-" in name})
        seeds = sorted({name.partition("-seed-")[2] for name in network["streams"] if "-seed-" in name})
        told.append(
            f"{network['network']}: {network['frames']:,} frames of {', '.join(names)}, seeds {', '.join(seeds)}; "
            f"temperature {network['temperature']:.2f} from training images, where the test images would have given "
            f"{network['temperature of the test images']:.2f}."
        )
    return "\n\n".join([*told, f"CIFAR-10, corrupted here; {report['environment']['cpu']}."])


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]], left: int = 1) -> str:
    lines = [header, tuple("---" if place < left else "---:" for place in range(len(header))), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
