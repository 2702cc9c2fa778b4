"""The tables of streams: what a row comes to in text and in Markdown."""

import io

import numpy as np
import pytest

from ecotta_rt.bench.streams import plan_stream
from ecotta_rt.bench.streams.figures import score
from ecotta_rt.bench.streams.report import detail_table, error_table, print_streams
from ecotta_rt.bench.streams.results import StreamReport, StreamRow, Subject
from stream_tables import render_long_run, render_streams

LABELS = np.arange(100) % 4
SUBJECT = Subject("wrn-40-2", "00" * 32, "cifar-10 (corrupted here)")


def row(protocol, seed=0, wrong=10, **changes):
    """`tent`, which errs on the first so many frames of every span."""
    plan = plan_stream(protocol, LABELS, ("fog", "contrast"), 100, seed=seed)
    answers = plan.labels.copy()
    for span in plan.spans:
        answers[span.start : span.start + wrong] += 1
    usual = {
        "protocol": protocol,
        "seed": seed,
        "stream": plan.digest(),
        "method": "tent",
        "engine": "torch",
        "batch": 64,
        "normalisation": "batch",
        "request": "a",
        "made": "b",
        "corruptions": 2,
        "frames_each": 100,
        "severity": 5,
        "frames": len(plan),
        "distinct_images": plan.distinct_images,
        "answers": {"unfiltered": score(plan, answers)},
        "activation_bytes": 2**20,
        "step_peak_bytes": 2**21,
        "process_baseline_bytes": 2**25,
        "load_peak_bytes": 2**26,
        "process_peak_bytes": 2**27,
        "ms_per_frame": 3.0,
        "forward_ms_per_frame": 1.5,
        "trainable_parameters": 3,
        "session_options": {"threads": 1},
        "cpu": "a processor",
        "commit": "0123456789",
    }
    return StreamRow(**{**usual, **changes})


def test_a_line_has_the_mean_and_the_deviation_over_seeds_and_says_where_seeds_are_missing():
    rows = [row("continual", 0, 10), row("continual", 1, 20), row("continual", 0, 5, method="bn")]

    head, tent, bn = error_table(rows)

    assert head == ["error, %", "continual", "x forward", "ms/frame", "activations MiB", "process MiB"]
    assert tent == ["tent torch 64", "15.0 +- 7.1", "2.00", "3.00", "1.0", "128"]
    assert bn[1] == "5.0 (1)"


def test_two_views_are_a_row_of_their_own():
    one, two = row("continual"), row("continual", wrong=5, session_options={"threads": 1, "views": 2})

    assert [line[0] for line in error_table([one, two])[1:]] == ["tent torch 64", "tent x2 torch 64"]
    assert StreamReport(SUBJECT, (one,)).with_row(two).rows == (one, two)


def test_filtered_answers_have_a_line_of_their_own():
    several = row("continual", wrong=10).answers["unfiltered"]
    both = {"unfiltered": several, "filtered": row("continual", wrong=2).answers["unfiltered"]}

    table = error_table([row("continual", method="ecotta-k4", normalisation="running", answers=both)])

    assert [line[:2] for line in table[1:]] == [
        ["ecotta-k4 running torch 64", "10.0"],
        ["ecotta-k4 running torch 64 filtered", "2.0"],
    ]


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("continual", {"continual: first 50": "20.0", "first 100": "10.0"}),
        ("recurring", {"recurring: visit 1": "100.0", "visit 20": "100.0"}),
        ("one-class", {"one class: during": "16.7", "100 after": "25.0"}),
        ("clean", {"clean: between": "40.0", "at the end": "10.0"}),
    ],
)
def test_details_are_those_of_the_protocol(protocol, expected):
    head, line = detail_table([row(protocol)])

    assert dict(zip(head[1:], line[1:], strict=True)) == expected


def test_the_markdown_says_what_was_measured_on_what(tmp_path):
    path = tmp_path / "wrn-40-2.json"
    path.write_text(StreamReport(SUBJECT, (row("continual", 0), row("continual", 1))).to_json())

    text = render_streams([path])

    assert "**wrn-40-2** on cifar-10 (corrupted here):" in text
    assert "| tent torch 64 | 10.0 ± 0.0 | 1.0 | 128 |" in text
    assert "2 corruptions x 100 frames, severity 5, seeds 0, 1; 1 thread; a processor; commits 0123456." in text


def test_a_long_run_is_told_by_its_first_last_and_worst_rounds():
    def played(protocol, unfiltered):
        errors = {"unfiltered_error_percent": unfiltered, "filtered_error_percent": unfiltered / 2}
        return {"protocol": protocol, "frames": 3000, **errors, "rss_mib": 200 + unfiltered}

    rounds = [played("sorted", error) for error in (10.0, 30.0, 20.0, 16.0, 12.0)] + [played("garbage", 8.0)]
    about = {"bundle": "net.ecotta", "a_visit": 200, "severity": 5, "pool": 2000}
    about["environment"] = {"cpu": "a processor", "versions": {"onnxruntime": "1.31.1"}}

    text = render_long_run({"rounds": rounds, "about": about})

    assert "| sorted | 5 | 10.0 / 5.0 | 16.0 / 8.0 | 30.0 / 15.0 | 210 | 212 |" in text
    assert "| garbage | 1 | 8.0 / 4.0 | 8.0 / 4.0 | 8.0 / 4.0 | 208 | 208 |" in text
    assert "18,000 frames in 6 rounds of 15 corruptions x 200" in text


def test_a_report_without_rows_says_so_little():
    file = io.StringIO()

    print_streams(StreamReport(SUBJECT), (), file)

    assert file.getvalue() == "wrn-40-2 on cifar-10 (corrupted here)\n"
