"""The tables of measure_slim.py: one seed is shown without a spread, and what was not measured is left out."""

import json
import sys

import pytest


@pytest.fixture(scope="module")
def report(checkout):
    return json.loads((checkout / "benchmarks" / "results" / "student-slim.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def render_slim(checkout):
    sys.path.insert(0, str(checkout / "benchmarks"))
    try:
        from slim_tables import render_slim
    finally:
        sys.path.remove(str(checkout / "benchmarks"))
    return render_slim


def row(kind, share, seed, error):
    return {
        "kind": kind,
        "share": share,
        "seed": seed,
        "error_percent": error,
        "training_cpu_s": 10.0,
        "setting": {"lr": 0.2 if kind == "alone" else 0.1},
    }


def test_a_bank_stands_beside_widths_that_were_trained_alone(report, render_slim):
    widths = [row("bank", 1.0, 0, 4.0), row("bank", 0.5, 0, 6.0)]
    widths += [row("alone", share, seed, 5.0 + 2 * seed) for share in (1.0, 0.5) for seed in (0, 1)]

    found = render_slim({**report, "widths": widths, "boards": [], "rank": []}).splitlines()

    assert found[:5] == [
        "| operations | bank | alone |",
        "| ---: | ---: | ---: |",
        "| 1/1 | 4.0 | 6.0 ± 1.4 |",
        "| 1/2 | 6.0 | 6.0 ± 1.4 |",
        "| mean of widths | 5.0 | 6.0 ± 1.4 |",
    ]
    assert "(1 of bank, 2 of alone, 0 of source only; one seed is a check)" in found[6]
    assert "Seconds of a core: bank 10, alone 20;" in found[6]


def test_networks_alone_with_a_step_size_that_was_not_taken_stand_apart(report, render_slim):
    widths = [row("bank", 1.0, 0, 4.0), row("alone", 1.0, 0, 6.0)]
    widths += [{**widths[1], "error_percent": 3.0, "setting": {"lr": 0.1}}]

    found = render_slim({**report, "widths": widths, "boards": [], "rank": []}).splitlines()

    assert (
        found[0] == "| operations | bank | alone | alone, step size 0.1 |" and found[2] == "| 1/1 | 4.0 | 6.0 | 3.0 |"
    )


def test_ensembles_stand_beside_the_one_that_was_chosen_seed_by_seed(report, render_slim):
    setting = report["tune"][0]["setting"]
    both = [setting, {**setting, "confidence": "uniform"}]

    def ablated(which, seed, error):
        errors = {"1.0000": error, "0.0156": error + 2}
        return {"seed": seed, "epochs": 3, "setting": both[which], "error_percent": errors}

    rows = [ablated(0, 0, 10.0), ablated(1, 0, 11.0), ablated(0, 1, 14.0), ablated(1, 1, 13.5)]
    found = render_slim({**report, "ablate": rows}).splitlines()

    place = next(number for number, line in enumerate(found) if line.startswith("| ensemble"))
    assert found[place + 2 : place + 4] == [
        "| confidence rank, temperature 0.5 | 2 | 12.0 ± 2.8 | 14.0 ± 2.8 | 14.0 ± 2.8 | 13.0 ± 2.8 |  |",
        "| confidence uniform | 2 | 12.2 ± 1.8 | 14.2 ± 1.8 | 14.2 ± 1.8 | 13.2 ± 1.8 | +1.0, -0.5 |",
    ]


def test_no_board_was_over_its_limit(report, render_slim):
    assert len(report["boards"]) == 5
    for board in report["boards"]:
        assert board["measured_bytes"] < board["limit_bytes"] and board["kills"] == 0
    assert "| raspberry-pi-zero-2w | 191 |" in render_slim(report)


def test_the_next_wider_one_does_not_fit_and_is_marked_where_it_is_a_prediction(report, render_slim):
    refused = [board for board in report["boards"] if board["wider_bytes"]]
    assert refused and all(board["wider_planned"] for board in refused)
    assert all(board["wider_bytes"][0] > board["limit_bytes"] for board in refused)

    predicted = {**refused[0], "wider_planned": False}
    rows = ([board, *report["boards"][1:]] for board in (refused[0], predicted))
    tables = [render_slim({**report, "boards": boards}).splitlines() for boards in rows]
    cells = [next(line for line in table if line.startswith("| raspberry")).split(" | ")[6] for table in tables]
    assert cells[1] == f"~{cells[0]}"


def test_what_an_exported_candidate_was_planned_with_is_kept(checkout, monkeypatch):
    monkeypatch.syspath_prepend(str(checkout / "benchmarks"))
    from measure_slim import next_wider

    guessed, exported = {"predicted_peak_bytes": 183.4}, {"predicted_peak_bytes": 183.4, "peak_bytes": 214}
    assert next_wider([guessed, exported]) == {"wider_bytes": [214], "wider_planned": True}
    assert next_wider([exported, guessed]) == {"wider_bytes": [183], "wider_planned": False}
    assert next_wider([]) == {"wider_bytes": [], "wider_planned": False}
