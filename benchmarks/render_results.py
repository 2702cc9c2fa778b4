"""Write the result tables of README.md and docs/ anew from the JSON files in benchmarks/results/.

    ecotta-bench --memory --json benchmarks/results/fashion-mnist-c.json
    python benchmarks/render_results.py

A table stands between `<!-- BEGIN RESULTS: NAME -->` and `<!-- END RESULTS: NAME -->` and comes from NAME.json, or from
all files of a folder NAME: what `ecotta-bench --memory` or `--latency` wrote with `--json`, or measure_runs.py,
measure_collapses.py, measure_distil.py, measure_fine_tuning.py, measure_fleet.py, measure_merging.py,
measure_passes.py, measure_ranking.py, measure_sessions.py, measure_signs.py, measure_slim.py, measure_start.py,
measure_starts.py, measure_warm_ups.py, profile_operators.py or compare_budgets.py.
The files of `streams/`, one a network, are from `ecotta-bench --stream`; see stream_tables.py.
Runs of several seeds make the table of compare_seeds.py. `BEGIN RESULTS: NAME source,tent` makes a shorter table of
these methods. A test fails when a table and its file differ.
"""

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import compare_seeds
from daemon_tables import render_daemon
from fine_tuning_tables import render_fine_tuning
from fleet_tables import render_fleet
from merging_tables import render_merging, render_origins
from ranking_tables import render_ranking
from sign_tables import render_collapses, render_signs
from slim_tables import render_slim
from soak_tables import render_simulated_day, render_soak
from story_tables import render_story
from stream_tables import render_long_run, render_streams
from student_tables import render_distil

REPOSITORY = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- BEGIN RESULTS: (\S+)(?: ([\w,-]+))? -->\n)(.*?)(<!-- END RESULTS: \2 -->)", re.DOTALL)

HEADER = (
    "| method | error % | activations MiB | live tensors, peak MiB | process growth MiB | step time, x TENT "
    "| learns |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)

FEW_HEADER = (
    "| method | error % | kept for learning, MiB | process growth, MiB | step time, x TENT |\n"
    "| --- | ---: | ---: | ---: | ---: |"
)

DEVICE_HEADER = (
    "| method | normalisation | batch | error % | activations MiB | process: imports, load, run MiB "
    "| step / fastest forward | session |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
)

DEVICE_NOTE = (
    '"Step / fastest forward": the mean of the adapting loop over the median of the fastest inference-only graph, '
    "which is timed afterwards in the same process."
)

LATENCY_HEADER = (
    "| batch | threads | method | engine | normalisation | x fastest forward | x torch TENT | steps |\n"
    "| ---: | ---: | --- | --- | --- | ---: | ---: | ---: |"
)

LIMITS_HEADER = (
    "| limit | engine | batch | method | outcome | error % | process: load, run MiB | of the limit % "
    "| control group MiB |\n"
    "| --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: |"
)

BUDGETS_HEADER = (
    "| network | normalisation | graphs | batch | planned MiB | verified MiB | measured MiB | planned / measured |\n"
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"
)

SESSIONS_HEADER = (
    "| graphs | session options | peak of the process, MiB | step time, x ours |\n| --- | --- | ---: | ---: |"
)

PASS_SIZES = ("step_peak_bytes", "activation_bytes", "weights_bytes")

PASSES_HEADER = (
    "| graph | without | nodes | live tensors, peak MiB | activations MiB | weights MiB | step time, x |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
)

OPERATORS_HEADER = (
    "| step | batch | convolutions | matrix products | layouts | norms, sums | ReLUs, masks | rest | all operators "
    "| a step, no profiler |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)

STEP_SIZES_HEADER = (
    "| method | step size | lambda | error % | minus not learning's | clearest gain | clearest loss |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)
PEERS_STEP_SIZES_HEADER = (
    "| method | step size | other constant | error % | minus the paper's | clearest gain | clearest loss |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)

START_HEADER = (
    "| way | from start to first adapted frame, s | slowest, s | interpreter, imports, load, step, s |\n"
    "| --- | ---: | ---: | ---: |"
)

STARTS_HEADER = (
    "| start | training images seen | labels | minutes of one core | error %, not learning | learning | learning adds "
    "| seeds |\n"
    "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"
)

WARM_UPS_HEADER = (
    "| recipe | learns | images x epochs | minutes of one core | clean, error % | six other corruptions "
    "| the 15, batch of 64 | the 15, one at a time | seeds |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)

LIMITS_NOTE = (
    'Each in a memory control group without swap. "Of the limit": the larger of load and run. "Control group": the '
    "most it was charged for, which leaves out pages of libraries that other processes had read before."
)


def render(reports: dict[str, dict[str, Any]]) -> str:
    """One table in Markdown, and under it what, where and with what it was measured.

    Args:
        reports: File name -> what is in it.

    Raises:
        ValueError: The files were not measured on the same machine, versions, stream and network.
    """
    first = next(iter(reports.values()))
    if first.get("measured") == "limits":
        return _render_limits(first["runs"])
    if first.get("measured") == "budgets":
        return _render_budgets(first)
    if first.get("measured") == "sessions":
        return _render_sessions(first)
    if first.get("measured") == "start":
        return _render_start(first)
    if first.get("measured") == "passes":
        return _render_passes(first)
    if first.get("measured") == "step sizes":
        return _render_step_sizes(first)
    if first.get("measured") == "starts":
        return _render_starts(first)
    if first.get("measured") == "long run":
        return render_long_run(first)
    if first.get("measured") == "soak":
        return render_soak(first)
    if first.get("measured") == "simulated day":
        return render_simulated_day(first)
    if first.get("measured") == "signs":
        return render_signs(first)
    if first.get("measured") == "collapses":
        return render_collapses(first)
    if first.get("measured") == "ranking":
        return render_ranking(first)
    if first.get("measured") == "daemon":
        return render_daemon(first)
    if first.get("measured") == "fine-tuning":
        return render_fine_tuning(first)
    if first.get("measured") == "warm-ups":
        return _render_warm_ups(first)
    if first.get("measured") == "operators":
        return _render_operators(first)
    if first.get("measured") == "student-distil":
        return render_distil(first)
    if first.get("measured") == "merging":
        return render_merging(first)
    if first.get("measured") == "merging-origins":
        return render_origins(first)
    if first.get("measured") == "student-story":
        return render_story(first)
    if first.get("measured") == "student-slim":
        return render_slim(first)
    if str(first.get("measured")).startswith("fleet "):
        return render_fleet(first)
    if first.get("measured") == "latency":
        return _render_latency(first)
    engine, seeds = first["rows"][0]["engine"], {report["stream"]["seed"] for report in reports.values()}
    if len(seeds) > 1 or (len(reports) > 1 and engine == "torch"):
        return _render_seeds(reports)
    _require_one_origin(reports)
    if engine == "onnx":
        return _render_device(list(reports.values()))
    return _render_methods(first)


def _require_one_origin(reports: dict[str, dict[str, Any]]) -> None:
    """One note stands under all rows, so it must be true of all."""
    origins = {file: _facts(report) for file, report in reports.items()}
    (first, facts), *others = origins.items()
    for file, other in others:
        differing = [name for name in facts if facts[name] != other[name]]
        if differing:
            told = "; ".join(f"{name}: {facts[name]} and {other[name]}" for name in differing)
            raise ValueError(f"{first} and {file} do not belong in one table: {told}; measure them again together")


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    environment, model = report["environment"], report["model"]
    facts = {name: environment[name] for name in ("cpu", "threads", "versions")}
    facts |= {f"model {name}": model[name] for name in ("name", "digest")}
    return {**facts, "stream": report["stream"]} if "stream" in report else facts


def _render_device(reports: list[dict[str, Any]]) -> str:
    lines = [DEVICE_HEADER]
    for report in reports:
        for row in report["rows"]:
            sizes = (row["process_baseline_bytes"], row["load_peak_bytes"], row["process_peak_bytes"])
            options = row["session_options"]
            forward = row["forward_ms_per_frame"]
            cells = [
                row["method"],
                row["normalisation"] + (", constant" if options.get("gradient") == "constant" else ""),
                str(row["batch"]),
                f"{row['error_percent']:.1f}",
                f"{row['activation_bytes'] / 2**20:.1f}",
                ", ".join(f"{size / 2**20:.0f}" for size in sizes),
                f"{row['ms_per_frame'] / forward:.2f}",
                ", ".join(str(options[key]) for key in ("graph", "optimisation", "memory") if key in options),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{_origin(reports[0])} {DEVICE_NOTE}", ""])


def _render_seeds(reports: dict[str, dict[str, Any]]) -> str:
    """The table of `compare_seeds`, and under it what it is of."""
    runs = list(reports.values())
    _require_one_origin({file: {**report, "stream": None} for file, report in reports.items()})
    if complaint := compare_seeds.unlike([Path(file) for file in reports], runs):
        raise ValueError(complaint)
    about, _, *lines = compare_seeds.table(runs, "ecotta-k4")
    environment, row = runs[0]["environment"], runs[0]["rows"][0]
    versions = environment["versions"]
    note = (
        f"{about[0].upper()}{about[1:]}; severity {runs[0]['stream']['severity']}, batch {row['batch']}, continual. "
        f"{environment['cpu']}, torch {versions['torch']}, Python {versions['python']}."
    )
    return "\n".join([*lines, "", note, ""])


def _render_budgets(report: dict[str, Any]) -> str:
    """Those of the usual session options in a table, all of them in a sentence."""
    lines = [BUDGETS_HEADER]
    for row in report["rows"]:
        if row["session_options"] == {"threads": 1, "optimisation": "all", "memory": "arena"}:
            graph = "accumulate, update" if row["frame_by_frame"] else row["graph"]
            cells = [row["network"], row["normalisation"], graph, str(row["batch"])]
            cells += [f"{row[f'{what}_bytes'] / 2**20:.0f}" for what in ("planned", "verified", "measured")]
            cells.append(f"{row['planned_to_measured']:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    ratios = [row["planned_to_measured"] for row in report["rows"]]
    environment = report["environment"]
    versions = environment["versions"]
    note = (
        f"Peaks of the process, the larger of load and run. Over all {len(ratios)} ways that were measured, those with "
        f"optimisation `extended`, memory `returning` or more threads too, the plan is {min(ratios):.2f} to "
        f"{max(ratios):.2f} times what was measured. {environment['cpu']}, onnxruntime {versions['onnxruntime']}, "
        f"Python {versions['python']}. What a process has beside its tensors was fitted to these very processes; the "
        "tensors' part was not. Frames are random, and weights too but for WRN-40-2: memory does not care."
    )
    return "\n".join([*lines, "", note, ""])


def _render_sessions(report: dict[str, Any]) -> str:
    lines = [SESSIONS_HEADER]
    for row in report["rows"]:
        alone = sum(other["case"] == row["case"] for other in report["rows"]) == 1
        cells = [row["case"], row["variant"], f"{row['peak_bytes'] / 2**20:.0f}"]
        cells.append("" if alone else f"{row['time_over_ours']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    turns = report["rows"][0]["turns"]
    note = f"{report['network']}; medians of {turns} processes, which took turns. {_machine(report)}"
    return "\n".join([*lines, "", note, ""])


def _render_start(report: dict[str, Any]) -> str:
    lines = [START_HEADER]
    for row in report["rows"]:
        parts = ", ".join(f"{row[key]:.2f}" for key in ("interpreter_s", "imports_s", "load_s", "step_s"))
        lines.append(f"| {row['way']} | {row['median_s']:.2f} | {row['slowest_s']:.2f} | {parts} |")
    starts = report["rows"][0]["starts"]
    note = f"{report['network']}; medians of {starts} processes, which took turns. {_machine(report)}"
    return "\n".join([*lines, "", note, ""])


def _render_passes(report: dict[str, Any]) -> str:
    """What the step is without the pass, against the step with all of them."""
    lines = [PASSES_HEADER]
    for row in report["rows"]:
        cells = [row["graph"], row["pass"], f"{row['nodes_without'] - row['nodes_with']:+d}"]
        for key in PASS_SIZES:
            sizes = row[f"{key}_without"], row[f"{key}_with"]
            mib = None if None in sizes else round((sizes[0] - sizes[1]) / 2**20, 1)
            cells.append("" if mib is None else f"{mib:+.1f}" if mib else "0")
        cells.append(f"{row['time_without_over_with']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    turns = {row["graph"].split(", ")[1]: row["turns"] for row in report["rows"]}
    told = ", ".join(f"{count} with {frames}" for frames, count in turns.items())
    note = f"{report['network']}; medians of turns, {told}. {_machine(report)}"
    return "\n".join([*lines, "", note, ""])


def _render_step_sizes(report: dict[str, Any]) -> str:
    """What a step size or another constant changes.

    Against the same method with a step size of zero; where nobody has that, against it with its paper's constants.
    """
    rows, about = list(report["rows"].values()), report["about"]
    bases = {row["method"]: row for row in rows if row["factor"] == 0}
    lines = [STEP_SIZES_HEADER if bases else PEERS_STEP_SIZES_HEADER]
    bases = bases or {row["method"]: row for row in rows if row["factor"] == 1 and "constant" not in row}
    for row in sorted(rows, key=lambda row: [other["method"] for other in rows].index(row["method"])):
        step_size = "" if row["step_size"] is None else f"{row['step_size']:g}"
        constant = "{} {:g}".format(*row["constant"]) if "constant" in row else f"{row.get('l1_weight', '')}"
        cells = [row["method"], step_size, constant, f"{row['error_percent']:.2f}"]
        base = bases.get(row["method"], row)
        changes = {name: error - base["errors_percent"][name] for name, error in row["errors_percent"].items()}
        extremes = min(changes, key=changes.__getitem__), max(changes, key=changes.__getitem__)
        cells.append("" if base is row else f"{row['error_percent'] - base['error_percent']:+.2f}")
        cells += ["" if base is row else f"{name} {changes[name]:+.1f}" for name in extremes]
        lines.append(f"| {' | '.join(cells)} |")
    note = (
        f"{about['network']}; corrupted training images, {about['corruptions']} corruptions x {about['frames']}, "
        f"severity {about['severity']}, batch {about['batch']}, seed {about['seed']}. "
        f"{_machine(next(iter(report['rows'].values())), 'torch')}"
    )
    return "\n".join([*lines, "", note, ""])


def _render_starts(report: dict[str, Any]) -> str:
    """What each start costs and brings, in the mean of the seeds that were played both ways."""
    lines, about = [STARTS_HEADER], report["about"]
    rows = list(report["rows"].values())
    for start, images in dict.fromkeys((row["start"], row["images"]) for row in rows):
        same = [row for row in rows if (row["start"], row["images"]) == (start, images)]
        still, learned = (
            {r["seed"]: r["error_percent"] for r in same if r["learning"] is how} for how in (False, True)
        )
        seeds = sorted(still.keys() & learned.keys() or still.keys())
        without = sum(still[seed] for seed in seeds) / len(seeds)
        with_it = sum(learned[seed] for seed in seeds) / len(seeds) if learned else None
        gain = ["", ""] if with_it is None else [f"{with_it:.1f}", f"{with_it - without:+z.1f}"]
        labels = {"labelled": "yes", "self-distilled": "no"}.get(start, "")
        minutes = f"{same[0]['preparation_minutes']:.1f}" if images else "0"
        cells = [start, f"{images:,}" if images else "none", labels, minutes, f"{without:.1f}", *gain]
        lines.append(f"| {' | '.join([*cells, ', '.join(map(str, seeds))])} |")
    stream = about["stream"]
    note = (
        f"{about['network']}, K={about['parts']}; corrupted test images, 15 corruptions x {stream['frames']}, severity "
        f"{stream['severity']}, batch {stream['batch']}, batch statistics in all but source, EcoTTA's own step size. "
        f"Minutes: processor time. {_machine(rows[0], 'torch')}"
    )
    return "\n".join([*lines, "", note, ""])


def _render_warm_ups(report: dict[str, Any]) -> str:
    """What each recipe costs and brings, in the mean of its seeds."""
    lines, about = [WARM_UPS_HEADER], report["about"]
    rows = list(report["rows"].values())
    kinds = ("recipe", "draws", "trained", "images", "epochs", "parts", "kernel")
    for kind in dict.fromkeys(tuple(row[key] for key in kinds) for row in rows):
        same = [row for row in rows if tuple(row[key] for key in kinds) == kind]
        recipe, draws, trained, images, epochs, parts, kernel = kind
        shape = f"K={parts}, {kernel}x{kernel}" if trained == "groups" else "all weights"
        shared = "" if draws is None else f" ({draws} a batch)"
        cells = [recipe.replace(",", ", ") + shared, shape, f"{images:,} x {epochs}"]
        cells += [f"{_mean(same, key):.1f}" for key in ("minutes", "clean_error_percent", "error_percent")]
        for way in ("batch", "running" if trained == "groups" else "tent"):
            found = [statistics.mean(row["confirmed"][way].values()) for row in same if "confirmed" in row]
            cells.append(f"{statistics.mean(found):.1f}" + (" (TENT)" if way == "tent" else "") if found else "")
        lines.append(f"| {' | '.join([*cells, ', '.join(str(row['seed']) for row in same)])} |")
    note = (
        f"{about['network']}, not learning (but for TENT); held-out training images, {about['frames']} a corruption, "
        f"severity {about['severity']}, batch {about['batch']} with batch statistics, or one frame at a time with "
        f"`running` ones. Minutes: processor time. {_machine(rows[0], 'torch')}"
    )
    return "\n".join([*lines, "", note, ""])


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


def _render_operators(report: dict[str, Any]) -> str:
    """Where the time of a step goes, in forward passes."""
    lines = [OPERATORS_HEADER]
    for row in report["rows"]:
        step = f"torch's {row['graph']}" if row["engine"] == "torch" else f"{row['normalisation']}, {row['graph']}"
        shares = [*row["over_forward"].values(), sum(row["over_forward"].values()), row["step_over_forward"]]
        lines.append(f"| {' | '.join([step, str(row['batch']), *(f'{share:.2f}' for share in shares)])} |")
    turns = {row["batch"]: row["turns"] for row in report["rows"]}
    told = ", ".join(f"{count} turns with {batch} frame{'s' * (batch > 1)}" for batch, count in turns.items())
    note = (
        f"{report['network']}; in fastest forward passes, 1 thread, {told}; medians, of torch's operators means. "
        f"torch {report['environment']['versions']['torch']}. {_machine(report)}"
    )
    return "\n".join([*lines, "", note, ""])


def _machine(report: dict[str, Any], library: str = "onnxruntime") -> str:
    versions = report["environment"]["versions"]
    return f"{report['environment']['cpu']}, {library} {versions[library]}, Python {versions['python']}."


def _render_limits(runs: list[dict[str, Any]]) -> str:
    reports = {f"run {number}": run["report"] for number, run in enumerate(runs, start=1)}
    _require_one_origin(reports)
    lines = [LIMITS_HEADER]
    for run in runs:
        options, report = run["options"], run["report"]
        rows = {row["method"]: row for row in report["rows"]}
        for method, held in report["enforced"]["held"].items():
            limit_bytes, row = report["enforced"]["limit_bytes"], rows.get(method)
            cells = [f"{limit_bytes / 10**6:g} MB", options["engine"], options["batch"], method]
            if row is None:
                cells += ["**killed**" if held["oom_kills"] else "failed", "", "", ""]
            else:
                peaks = (row["load_peak_bytes"], row["process_peak_bytes"])
                cells += ["lives", f"{row['error_percent']:.1f}", ", ".join(f"{peak / 2**20:.0f}" for peak in peaks)]
                cells.append(f"{100 * max(peaks) / limit_bytes:.0f}")
            cells.append("" if held["peak_bytes"] is None else f"{held['peak_bytes'] / 2**20:.0f}")
            lines.append(f"| {' | '.join(cells)} |")
    first = runs[0]["report"]
    stream, environment = first["stream"], first["environment"]
    versions = environment["versions"]
    origin = (
        f"{first['model']['name']}, {stream['name']}: {len(stream['corruptions'])} corruptions x {stream['frames']} "
        f"frames, severity {stream['severity']}, seed {stream['seed']}. {environment['cpu']}, "
        f"{environment['threads']} thread, torch {versions['torch']}, onnxruntime {versions['onnxruntime']}, "
        f"Python {versions['python']}. {LIMITS_NOTE}"
    )
    return "\n".join([*lines, "", origin, ""])


def _render_latency(report: dict[str, Any]) -> str:
    lines = [LATENCY_HEADER]
    for row in report["rows"]:
        ratios = [row["ratio_to_forward"], row["ratio_to_tent"]]
        cells = [str(row["batch"]), str(row["threads"]), row["method"], row["engine"], row["normalisation"]]
        cells += [f"{ratio['median']:.2f}" if ratio else "" for ratio in ratios]
        lines.append(f"| {' | '.join([*cells, str(row['steps'])])} |")
    environment = report["environment"]
    versions = environment["versions"]
    origin = (
        f"{report['model']['name']}; medians of steps taken in turn. {environment['cpu']}, torch {versions['torch']}, "
        f"onnxruntime {versions['onnxruntime']}, Python {versions['python']}."
    )
    return "\n".join([*lines, "", origin, ""])


def _origin(report: dict[str, Any]) -> str:
    stream, environment = report["stream"], report["environment"]
    versions = environment["versions"]
    return (
        f"{report['model']['name']}, {stream['name']}: {len(stream['corruptions'])} corruptions x {stream['frames']} "
        f"frames, severity {stream['severity']}, seed {stream['seed']}. {environment['cpu']}, "
        f"{report['rows'][0]['session_options']['threads']} thread, onnxruntime {versions['onnxruntime']}, "
        f"Python {versions['python']}. One seed on one machine is an observation, not a result."
    )


def _render_methods(report: dict[str, Any]) -> str:
    tent = next((row["ms_per_frame"] for row in report["rows"] if row["method"] == "tent"), None)
    lines = [HEADER]
    for row in report["rows"]:
        growth = row["process_peak_bytes"] - row["process_baseline_bytes"]
        cells = [
            row["method"],
            f"{row['error_percent']:.1f}",
            *(f"{size / 2**20:.1f}" for size in (row["activation_bytes"], row["step_peak_bytes"], growth)),
            f"{row['ms_per_frame'] / tent:.2f}" if tent else "",
            f"{row['trainable_parameters']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    stream, environment = report["stream"], report["environment"]
    versions = environment["versions"]
    lines += [
        "",
        f"{report['model']['name']}, {stream['name']}: {len(stream['corruptions'])} corruptions x "
        f"{stream['frames']} frames, severity {stream['severity']}, batch {report['rows'][0]['batch']}, "
        f"seed {stream['seed']}. {environment['cpu']}, {environment['threads']} threads, "
        f"torch {versions['torch']}, Python {versions['python']}. "
        "One seed on one machine is an observation, not a result.",
        "",
    ]
    return "\n".join(lines)


def _render_few_methods(report: dict[str, Any], methods: list[str]) -> str:
    """What decides between methods, for a reader in a hurry; methods that were not measured are left out."""
    rows = {row["method"]: row for row in report["rows"]}
    tent = rows["tent"]["ms_per_frame"]
    lines = [FEW_HEADER]
    for row in (rows[method] for method in methods if method in rows):
        growth = row["process_peak_bytes"] - row["process_baseline_bytes"]
        sizes = (f"{size / 2**20:.0f}" for size in (row["activation_bytes"], growth))
        cells = [f"`{row['method']}`", f"{row['error_percent']:.1f}", *sizes, f"{row['ms_per_frame'] / tent:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    stream, environment = report["stream"], report["environment"]
    frames = len(stream["corruptions"]) * stream["frames"]
    note = (
        f"{report['model']['name']}, {frames:,} corrupted images, batch {report['rows'][0]['batch']}; "
        f"{environment['cpu']}, {environment['threads']} threads. One seed, one machine: an observation, not a result."
    )
    return "\n".join([*lines, "", note, ""])


def rendered(text: str, results: Path) -> str:
    """`text` with every block whose file exists written anew."""

    def write(match: re.Match[str]) -> str:
        file, folder = results / f"{match[2]}.json", results / match[2]
        files = [file] if file.is_file() else sorted(folder.glob("*.json"))
        if match[2] == "streams" and files:
            return f"{match[1]}{render_streams(files)}{match[5]}"
        reports = {path.name: json.loads(path.read_text()) for path in files}
        if match[3]:
            body = _render_few_methods(next(iter(reports.values())), match[3].split(","))
        else:
            body = render(reports) if files else match[4]
        return f"{match[1]}{body}{match[5]}"

    return BLOCK.sub(write, text)


def main() -> int:
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))):
        page.write_text(rendered(page.read_text(), REPOSITORY / "benchmarks" / "results"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
