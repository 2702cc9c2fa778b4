"""How signs are judged, on streams made by hand."""

import numpy as np
import pytest

import measure_signs
from sign_tables import render_collapses, render_signs


def stream(frames=400, classes=4, seed=0):
    """Half of it easy, half of it hard, and the network knows which: 90 % and 30 % sure, and right as often."""
    generator = np.random.default_rng(seed)
    sure = np.repeat([0.9, 0.3], frames // 2)
    labels = generator.integers(classes, size=frames)
    wrong = generator.random(frames) > sure
    answers = np.where(wrong, (labels + generator.integers(1, classes, size=frames)) % classes, labels)
    rows = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, axis=1)
    rows[np.arange(frames), answers] = sure
    rows = rows.astype(np.float32)
    frozen = np.where(np.arange(frames)[:, None] % 4 == 0, rows, np.float32(np.nan))
    return {
        "unfiltered": rows,
        "filtered": rows,
        "frozen": frozen,
        "distances": np.zeros((frames, 2), np.float32),
        "changes": (np.arange(frames) >= frames // 2 + 7).astype(int),
        "known": np.zeros(frames, int),
        "labels": labels,
        "places": np.repeat([0, 1], frames // 2),
    }


def test_ranks_share_what_is_equal():
    assert measure_signs.ranks(np.array([3, 1, 3, 2])).tolist() == [2.5, 0, 2.5, 1]


@pytest.mark.parametrize(("other", "found"), [([1, 2, 9, 16], 1), ([4, 3, 2, 1], -1), ([5, 5, 5, 5], 0)])
def test_rank_correlation_is_of_the_order_alone(other, found):
    assert measure_signs.spearman(np.arange(4), np.array(other)) == pytest.approx(found)


def test_windows_lie_half_over_each_other_and_are_whole():
    assert [len(window["labels"]) for window in measure_signs.windows(stream(), 100)] == [100] * 7


@pytest.fixture(scope="module")
def found():
    return measure_signs.at_temperature(stream(800), 1.0)


def test_a_network_that_knows_how_sure_it_may_be_is_expected_right(found):
    (row, _) = measure_signs.expectation({"continual-seed-0": found}, 100)
    assert row["rank correlation"] > 0.7 and abs(row["bias"]) < 0.03
    assert row["mean absolute difference"] < row["of the best constant"] / 3

    ranking = {row["sign"]: row["all"] for row in measure_signs.ranking({"a": found}, 100)}
    assert ranking["entropy"] > 0.7 and ranking["distance"] == 0


def test_doubt_of_a_hard_half_is_right_and_nothing_else_is(found):
    (alarms,) = measure_signs.alarms({"a": found}, 1.0, [0.5])

    assert (alarms["false alarms"], alarms["right alarms"]) == (0, 1)
    assert alarms["bad time doubted"] > 0.5 and alarms["streams taken for collapsed"] == []


def test_a_change_that_is_noticed_has_its_delay_and_one_that_is_none_counts():
    one = stream()
    assert measure_signs.changes_of({"a": one}) == {
        "changes": 1,
        "noticed": 1,
        "median frames until then": 7,
        "others an hour": 0,
    }
    twice = {**one, "changes": one["changes"] + (np.arange(400) >= 390)}
    assert measure_signs.changes_of({"a": twice})["others an hour"] == 45


def test_tables_have_a_row_a_sign_and_a_stream(tmp_path):
    for name in ("training-continual", "continual-seed-0"):
        (tmp_path / "net").mkdir(exist_ok=True)
        np.savez(tmp_path / "net" / f"{name}.npz", **stream())

    report = {"networks": [measure_signs.evaluated(tmp_path / "net")], "environment": {"cpu": "a CPU"}}
    text = render_signs(report)

    assert text.count("| net |") == 2 + 2 * len(measure_signs.LIMITS)
    assert all(f"| {sign} |" in text for sign in measure_signs.SIGNS)


def test_a_stream_that_was_not_found_collapsed_has_no_error_after():
    row = {"network": "net", "kind": "noise", "seed": 0, "found_after_looks": None, "returns": 0}
    errors = {"before": 20.0, "last 100 in trouble": None, "after": None}
    report = {"rows": [{**row, "error_percent": errors}], "environment": {"cpu": "a CPU"}, "images": "CIFAR-10"}

    assert "| net | noise | 0 | never | 20.0 |  |  |" in render_collapses(report)
