"""The tables of measure_ranking.py for docs/results-student.md; for render_results.py."""

import statistics
from typing import Any

__all__ = ["render_ranking"]

_METHODS = {
    "labels alone": "labels alone",
    "labels alone, norms of all pictures": "labels alone, norms of all pictures",
    "nearest": "DistillNearest by parc",
    "weighted": "DistillWeighted by parc",
    "nearest by cka": "DistillNearest by cka or logme",
    "weighted by cka": "DistillWeighted by cka",
    "nearest by logme": "DistillNearest by logme",
    "weighted by logme": "DistillWeighted by logme",
    "uniform": "all sources, equal weights",
    "labels alone, longer": "labels alone, three times the steps",
    "nearest by cka, longer": "DistillNearest by cka, three times the steps",
    "weighted by cka, longer": "DistillWeighted by cka, three times the steps",
}


def render_ranking(report: dict[str, Any]) -> str:
    """Accuracies of the methods, of each source as the only teacher, and how well measures foretell those."""
    measures = [_measures(report)] if report.get("rank_correlation") else []
    return "\n\n".join((_methods(report), _sources(report), *measures, _about(report))) + "\n"


def _judged(report: dict[str, Any], method: str) -> dict[int, dict[str, Any]]:
    """By seed, without those for tuning, whose accuracy is that of the validation pictures."""
    return {row["seed"]: row for row in report["rows"] if row["method"] == method and row["seed"] in _seeds(report)}


def _seeds(report: dict[str, Any]) -> list[int]:
    return [int(seed) for seed in report["scores"] if seed.isdigit()]


def _methods(report: dict[str, Any]) -> str:
    lines = ["| student learns from | accuracy %, mean | by seed | above labels alone |", "| --- | ---: | --- | ---: |"]
    for method, name in _METHODS.items():
        rows = _judged(report, method)
        if not rows:
            continue
        alone = _judged(report, "labels alone" + ", longer" * method.endswith("longer"))
        found = [rows[seed]["accuracy"] for seed in sorted(rows)]
        gains = [rows[seed]["accuracy"] - alone[seed]["accuracy"] for seed in sorted(rows) if seed in alone]
        spread = f" ± {statistics.stdev(gains):.1f}" if len(gains) > 1 else ""
        gain = "" if method.startswith("labels alone") else f"{statistics.mean(gains):+.1f}{spread}"
        seeds = ", ".join(f"{one:.1f}" for one in found)
        lines.append(f"| {name} | {statistics.mean(found):.1f} | {seeds} | {gain} |")
    return "\n".join(lines)


def _sources(report: dict[str, Any]) -> str:
    draw = str(_seeds(report)[0])
    names = list(report["sources"])
    only = {name: _judged(report, f"only {name}") for name in names}
    names.sort(key=lambda name: -only[name][0]["accuracy"] if only[name] else 0)
    measures = list(next(iter(report["scores"][draw].values())))
    lines = [
        f"| source | classes | as the only teacher, % | {' | '.join(measures)} | parc, 500 labels |",
        f"| --- | ---: | ---: | {' | '.join(['---:'] * len(measures))} | ---: |",
    ]
    for name in names:
        said = report["scores"][draw][name]
        cells = [f"{said[measure]:.{1 if measure == 'parc' else 2}f}" for measure in measures]
        cells[0] += f" ± {report['errors'][name]:.1f}"
        accuracy = f"{only[name][0]['accuracy']:.1f}" if only[name] else ""
        cells.append(f"{report['scores']['500 labels'][name]['parc']:.1f}")
        lines.append(f"| {name} | {report['sources'][name]} | {accuracy} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _measures(report: dict[str, Any]) -> str:
    labels = report.get("labels", 50)
    lines = [f"| measure | rank correlation, {labels} labels, by draw | 500 labels |", "| --- | --- | ---: |"]
    for measure, found in report["rank_correlation"].items():
        few = ", ".join(f"{value:+.2f}" for draw, value in found.items() if draw.isdigit())
        lines.append(f"| `{measure}` | {few} | {found['500 labels']:+.2f} |")
    return "\n".join(lines)


def _about(report: dict[str, Any]) -> str:
    environment = report["environment"]
    versions = environment["versions"]
    return (
        f"Accuracy on {report['test_pictures']:,} test pictures; by seed: of another draw of labels and other first "
        f"weights. {_powers(report)}{_correlated(report)}{environment['cpu']}, one thread, torch {versions['torch']}, "
        f"Python {versions['python']}."
    )


def _powers(report: dict[str, Any]) -> str:
    """Which power of the weights was chosen, where there was a choice."""
    tried = {row["method"]: row["accuracy"] for row in report["rows"] if ", power " in row["method"]}
    if not tried:
        return ""
    told = ", ".join(f"{name.partition(', power ')[2]}: {accuracy:.1f} %" for name, accuracy in tried.items())
    return f"Power of the weights, by 500 other pictures and another draw: {told}; the better one was taken. "


def _correlated(report: dict[str, Any]) -> str:
    if not report.get("rank_correlation"):
        return ""
    return (
        f"Rank correlation: Spearman over the {len(report['sources'])} sources between the score and the accuracy with "
        "the source as the only teacher, one seed. "
    )
