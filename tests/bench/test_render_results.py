"""Several result files make one table only where one note is true of all."""

import copy
import json

import pytest

import render_results
from ecotta_rt.bench.memory_cage import CageRecord
from ecotta_rt.bench.results import Enforced


@pytest.fixture
def made(report, row):
    """What `--json` writes for a run of the device engine."""
    options = {"threads": 1, "graph": "step-1", "optimisation": "all", "memory": "arena"}
    environment = {"cpu": "a processor", "threads": 1, "versions": {"python": "3.11.7", "onnxruntime": "1.31.1"}}
    written = json.loads(json.dumps(report(row("ecotta-k4", engine="onnx", session_options=options)), default=vars))
    return {**written, "environment": environment}


def test_files_of_one_origin_share_a_table_and_a_note(made):
    table = render_results.render({"1.json": made, "2.json": copy.deepcopy(made)})

    assert table.count("| ecotta-k4 |") == 2
    assert table.count("a processor") == 1
    assert "mean of the adapting loop over the median of the fastest inference-only graph" in table


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("environment", {"cpu": "another"}),
        ("environment", {"versions": {"python": "3.11.7", "onnxruntime": "1.32.0"}}),
        ("stream", {"frames": 8}),
        ("model", {"digest": "00" * 32}),
    ],
)
def test_files_of_different_origins_are_refused_by_name(made, where, change):
    other = copy.deepcopy(made)
    other[where].update(change)

    with pytest.raises(ValueError, match=r"1\.json and 2\.json do not belong in one table"):
        render_results.render({"1.json": made, "2.json": other})


def under_a_limit(report, row, made, **options):
    """What measure_runs.py keeps of a run in which TENT was killed."""
    held = {"ecotta-k4": CageRecord(60 * 2**20, 0), "tent": CageRecord(200_000_000, 1)}
    live = row("ecotta-k4", load_peak_bytes=70 * 2**20, process_peak_bytes=90 * 2**20)
    written = report(live, enforced=Enforced(200_000_000, "raspberry-pi-zero-2w", held), complete=False)
    environment = {**made["environment"], "versions": {**made["environment"]["versions"], "torch": "2.13.0"}}
    report_json = {**json.loads(written.to_json()), "environment": environment}
    return {"options": {"engine": "torch", "batch": "64", **options}, "report": report_json}


def test_runs_under_hard_limits_tell_who_lives_and_who_is_killed(made, report, row):
    run = under_a_limit(report, row, made)

    table = render_results.render({"limits.json": {"measured": "limits", "runs": [run]}})

    assert "| 200 MB | torch | 64 | ecotta-k4 | lives | 27.3 | 70, 90 | 47 | 60 |\n" in table
    assert "| 200 MB | torch | 64 | tent | **killed** |  |  |  | 191 |\n" in table
    assert "without swap" in table


def test_runs_under_hard_limits_of_different_origins_are_refused(made, report, row):
    runs = [under_a_limit(report, row, made) for _ in range(2)]
    runs[1]["report"]["stream"]["frames"] = 8

    with pytest.raises(ValueError, match="run 1 and run 2 do not belong in one table"):
        render_results.render({"limits.json": {"measured": "limits", "runs": runs}})


VERSIONS = {"python": "3.11.7", "onnxruntime": "1.31.1", "torch": "2.13.0"}
ENVIRONMENT = {"cpu": "a processor", "versions": VERSIONS}


def test_session_options_stand_beside_ours_and_a_case_alone_beside_nothing():
    row = {"case": "1 frame", "variant": "ours", "turns": 3, "peak_bytes": 80 << 20, "time_over_ours": 1.0}
    rows = [row, {**row, "variant": "prepacking on", "time_over_ours": 0.987}, {**row, "case": "answering alone"}]
    report = {"measured": "sessions", "environment": ENVIRONMENT, "network": "net", "rows": rows}

    table = render_results.render({"sessions.json": report})

    assert "| 1 frame | prepacking on | 80 | 0.99 |" in table
    assert "| answering alone | ours | 80 |  |" in table
    assert "net; medians of 3 processes" in table


def test_a_start_is_told_in_parts():
    row = {"way": "1 frame", "starts": 10, "median_s": 0.44, "slowest_s": 0.61}
    row |= {"interpreter_s": 0.02, "imports_s": 0.2, "load_s": 0.15, "step_s": 0.07}
    report = {"measured": "start", "environment": ENVIRONMENT, "network": "net", "rows": [row]}

    table = render_results.render({"start.json": report})

    assert "| 1 frame | 0.44 | 0.61 | 0.02, 0.20, 0.15, 0.07 |" in table


def test_a_pass_is_told_by_what_the_step_is_without_it():
    row = {"graph": "running, 1 frame", "pass": "join_splits", "turns": 8, "time_without_over_with": 1.023}
    row |= {
        "nodes_with": 871,
        "nodes_without": 906,
        "step_peak_bytes_with": 2 << 20,
        "step_peak_bytes_without": 3 << 20,
    }
    row |= {"activation_bytes_with": 100, "activation_bytes_without": 200}
    row |= {"weights_bytes_with": 8 << 20, "weights_bytes_without": 6 << 20}
    hidden = {**row, "pass": "skip_backward", "step_peak_bytes_with": None, "activation_bytes_with": None}
    report = {"measured": "passes", "environment": ENVIRONMENT, "network": "net", "rows": [row, hidden]}

    table = render_results.render({"passes.json": report})

    assert "| running, 1 frame | join_splits | +35 | +1.0 | 0 | -2.0 | 1.02 |" in table
    assert "| skip_backward | +35 |  |  | -2.0 | 1.02 |" in table
    assert "net; medians of turns, 8 with 1 frame." in table


def test_operators_stand_beside_a_step_without_a_profiler():
    row = {"engine": "onnx", "normalisation": "batch", "graph": "step-64", "batch": 64, "turns": 5}
    row |= {"over_forward": {"convolutions": 2.0, "rest": 0.5}, "step_over_forward": 2.444}
    tent = {**row, "engine": "torch", "graph": "TENT"}
    report = {"measured": "operators", "environment": ENVIRONMENT, "network": "net", "rows": [row, tent]}

    table = render_results.render({"operators.json": report})

    assert "| batch, step-64 | 64 | 2.00 | 0.50 | 2.50 | 2.44 |" in table
    assert "| torch's TENT | 64 | 2.00 |" in table
    assert "1 thread, 5 turns with 64 frames; medians, of torch's operators means. torch 2.13.0." in table


def test_what_learning_changes_stands_beside_each_step_size():
    still = {"method": "ecotta-k4", "factor": 0.0, "step_size": 0.0, "l1_weight": 0.5, "error_percent": 16.0}
    still |= {"errors_percent": {"fog": 20.0, "snow": 12.0}, "environment": ENVIRONMENT}
    learning = {**still, "factor": 1.0, "step_size": 0.005, "error_percent": 15.75}
    learning["errors_percent"] = {"fog": 19.0, "snow": 12.5}
    about = {"network": "net", "corruptions": 2, "frames": 100, "severity": 5, "batch": 64, "seed": 1000}
    report = {"measured": "step sizes", "about": about, "rows": {"still": still, "learning": learning}}

    table = render_results.render({"step-sizes.json": report})

    assert "| ecotta-k4 | 0 | 0.5 | 16.00 |  |  |  |" in table
    assert "| ecotta-k4 | 0.005 | 0.5 | 15.75 | -0.25 | fog -1.0 | snow +0.5 |" in table


def test_a_peers_constants_stand_beside_its_papers():
    def row(method, factor, step_size, error, **more):
        known = {"method": method, "factor": factor, "step_size": step_size, "error_percent": error}
        return {**known, "errors_percent": {"fog": error, "snow": error}, "environment": ENVIRONMENT, **more}

    rows = {
        "rotta x 1": row("rotta", 1.0, 0.001, 20.0),
        "lame x 1": row("lame", 1.0, None, 30.0),
        "rotta x 4": row("rotta", 4.0, 0.004, 19.5),
        "lame x 1, neighbours 3": row("lame", 1.0, None, 31.0, constant=["neighbours", 3.0]),
    }
    about = {"network": "net", "corruptions": 2, "frames": 100, "severity": 5, "batch": 64, "seed": 1000}
    report = {"measured": "step sizes", "about": about, "rows": rows}

    table = render_results.render({"step-sizes.peers.json": report})

    assert "minus the paper's" in table
    assert table.index("| rotta | 0.004 |  | 19.50 | -0.50 |") < table.index("| lame |  |  | 30.00 |  |")
    assert "| lame |  | neighbours 3 | 31.00 | +1.00 | fog +1.0 | fog +1.0 |" in table


def test_a_start_stands_with_what_it_costs_and_what_learning_adds_over_the_same_seeds():
    def row(start, images, learning, seed, error):
        known = {"start": start, "images": images, "learning": learning, "seed": seed, "error_percent": error}
        return {**known, "preparation_minutes": 3.25, "environment": ENVIRONMENT}

    rows = [row("batch statistics", 0, False, 0, 35.0)]
    rows += [
        row("labelled", 5000, learning, seed, 30.0 + seed - learning) for learning in (False, True) for seed in (0, 1)
    ]
    rows.append(row("labelled", 5000, False, 2, 90.0))  # not played with learning yet
    about = {"network": "net", "parts": 4, "stream": {"frames": 320, "severity": 5, "batch": 64}}
    report = {"measured": "starts", "about": about, "rows": dict(enumerate(rows))}

    table = render_results.render({"starts.json": report})

    assert "| batch statistics | none |  | 0 | 35.0 |  |  | 0 |" in table
    assert "| labelled | 5,000 | yes | 3.2 | 30.5 | 29.5 | -1.0 | 0, 1 |" in table


def test_runs_of_several_seeds_are_compared_seed_by_seed(made):
    runs = {}
    for seed, (ours, theirs) in enumerate([(20.0, 22.0), (23.0, 23.5)]):
        for method, error in (("ecotta-k4", ours), ("tent", theirs)):
            run = copy.deepcopy(made)
            run["environment"]["versions"]["torch"] = "2.13.0"
            run["stream"].update(seed=seed, corruptions=["fog"])
            run["rows"][0].update(method=method, error_percent=error, errors={"fog": error}, activation_bytes=2**20)
            runs[f"seed-{seed}.{method}.json"] = run

    table = render_results.render(runs)

    assert "| tent | 22.75 | 22.00 23.50 | +1.25 | +2.00 +0.50 | 22.8 | 1.0 |" in table
    assert "\nSeeds 0, 1; " in table
    assert "torch 2.13.0" in table

    one_seed = {file: copy.deepcopy(run) for file, run in runs.items() if file.startswith("seed-0")}
    for run in one_seed.values():
        run["rows"][0]["engine"] = "torch"
    table = render_results.render(one_seed)

    assert "| tent | 22.00 | 22.00 | +2.00 | +2.00 | 22.0 | 1.0 |" in table
    assert "\nSeed 0; " in table

    runs["seed-1.tent.json"]["rows"][0]["batch"] = 1
    with pytest.raises(ValueError, match=r"seed-1\.tent\.json ran tent with another batch"):
        render_results.render(runs)
    runs["seed-1.tent.json"]["environment"]["cpu"] = "another"
    with pytest.raises(ValueError, match="do not belong in one table: cpu"):
        render_results.render(runs)
