"""The table of measure_fine_tuning.py for docs/how-to/prepare.md; for render_results.py."""

import statistics
from typing import Any

__all__ = ["render_fine_tuning"]

_HEAD = ("passes", "step size", "augmentation", "images", "minutes of one core", "clean, own statistics", "clean",
         "six other corruptions", "seeds")  # fmt: skip
_KIND = ("epochs", "lr", "recipe", "images", "precision", "groups")


def render_fine_tuning(report: dict[str, Any]) -> str:
    """A line a recipe, in the mean of its seeds; the network as it is first."""
    rows, about = list(report["rows"].values()), report["about"]
    lines = [f"| {' | '.join(_HEAD)} |", f"| {' | '.join(['---:', '---:', '---', *['---:'] * 6])} |"]
    kinds = sorted(dict.fromkeys(tuple(row[key] for key in _KIND) for row in rows), key=lambda kind: kind[:3])
    for kind in kinds:
        same = [row for row in rows if tuple(row[key] for key in _KIND) == kind]
        epochs, lr, recipe, images, _, groups = kind
        cells = [str(epochs), f"{lr:g}", recipe.replace(",", ", ") + (", then groups" if groups else ""), f"{images:,}"]
        if not epochs:
            cells = ["none", "", "", ""]
        cells += ["" if not epochs else f"{statistics.mean(row['minutes'] for row in same):.1f}"]
        found = [row["errors_percent"] for row in same]
        corrupted = [statistics.mean(error for name, error in one.items() if name != "clean") for one in found]
        own = statistics.mean(row["clean_own_error_percent"] for row in same)
        figures = (own, statistics.mean(one["clean"] for one in found), statistics.mean(corrupted))
        cells += [f"{figure:.1f}" for figure in figures]
        lines.append(f"| {' | '.join([*cells, ', '.join(str(row['seed']) for row in same)])} |")
    environment = rows[0]["environment"]
    note = (
        f"{about['network']}, errors in % of {about['frames']} held-out training images a corruption, severity "
        f"{about['severity']}; batch {about['batch']} with its statistics, but for the column of the network's own. "
        f"Minutes: processor time, {rows[0]['precision']}, beside other work. {environment['cpu']}, torch "
        f"{environment['versions']['torch']}."
    )
    return "\n".join([*lines, "", note, ""])
