"""How signs are judged, on streams made by hand."""

import numpy as np
import pytest

import measure_signs
import sign_alarms
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
        "keys": (generator.normal(size=(frames, 8)) + 2 * (np.arange(frames)[:, None] >= frames // 2)).astype(
            np.float32
        ),
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
    (alarms,) = sign_alarms.doubt_alarms({"a": found}, 1.0, [0.5])

    assert (alarms["false alarms"], alarms["right alarms"]) == (0, 1)
    assert alarms["bad time doubted"] > 0.5 and alarms["streams taken for collapsed"] == []


def test_a_change_that_is_noticed_has_its_delay_and_one_that_is_none_counts():
    one = stream()
    steady = {"steady-shuffled-fog": stream(), "steady-in-runs-fog": {"keys": one["keys"][:200]}}

    drift, places = sign_alarms.drift_alarms({"sudden-seed-0": one, "recurring-seed-0": one}, steady, [3.0])

    assert (drift["changes"], drift["within 50"], drift["within 100"]) == (1, 1, 1)
    assert 0 < drift["median frames until then"] < 32
    assert (drift["false an hour shuffled"], drift["hours shuffled"]) == (90, 0.01)  # 1 in 40 s
    assert drift["false an hour in runs"] == 0 and places["limit"] is None and places["within 100"] == 1


def test_what_comes_too_late_is_not_noticed():
    one = stream()

    found = sign_alarms._noticed(lambda keys: np.array([99, 260]), {"a": one})

    assert (found["within 50"], found["within 100"], found["median frames until then"]) == (0, 1, 60)


def test_correlations_are_of_each_seed_and_spread_over_them(found):
    ranking = measure_signs.ranking({"a-seed-0": found, "a-seed-1": found}, 100)

    assert ranking[0]["deviation"] == 0 and measure_signs.ranking({"a-seed-0": found}, 100)[0]["deviation"] is None


def test_tables_have_a_row_a_sign_and_a_stream(tmp_path):
    names = ("training-continual", "others-sudden-seed-7", "continual-seed-0", "continual-seed-1")
    steady = [f"keys/{prefix}steady-{order}-fog" for prefix in ("", "others-") for order in ("shuffled", "in-runs")]
    for number, name in enumerate((*names, *steady)):
        path = tmp_path / "net" / f"{name}.npz"
        path.parent.mkdir(exist_ok=True, parents=True)
        np.savez(path, **stream(seed=number))

    report = {"networks": [measure_signs.evaluated(tmp_path / "net")], "environment": {"cpu": "a CPU"}}
    text = render_signs(report | {"frames a second": 10.0})

    doubts, drifts = 2 * 2 * len(measure_signs.LIMITS), 2 * (len(sign_alarms.DRIFT_LIMITS) + 1)
    assert text.count("| net |") == 2 + doubts + drifts
    assert all(f"| {sign} |" in text for sign in measure_signs.SIGNS)
    assert "seeds 0, 1" in text and " ± " in text


def test_a_stream_that_was_not_found_collapsed_has_no_error_after():
    row = {"network": "net", "kind": "noise", "seed": 0, "found_after_looks": None, "returns": 0}
    errors = {"before": 20.0, "last 100 in trouble": None, "after": None}
    report = {"rows": [{**row, "error_percent": errors}], "environment": {"cpu": "a CPU"}, "images": "CIFAR-10"}

    assert "| net | noise | 0 | never | 20.0 |  |  |" in render_collapses(report)
