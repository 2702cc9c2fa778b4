"""The tables of the ranking trial: figures of the seeds, not of the tuning, and the sources by what they give."""

from ranking_tables import render_ranking

REPORT = {
    "target": "digits",
    "test_pictures": 980,
    "sources": {"far": 2, "near": 5},
    "scores": {draw: {"far": {"parc": 1.0}, "near": {"parc": 9.0}} for draw in ("0", "1", "500 labels")},
    "errors": {"far": 1.5, "near": 2.5},
    "rank_correlation": {"parc": {"0": 1.0, "1": -1.0, "500 labels": 0.5}},
    "environment": {"cpu": "some processor", "versions": {"torch": "2", "python": "3"}},
    "rows": [
        {"method": method, "seed": seed, "accuracy": accuracy, "lr": 0.1, "share": 0.3}
        for method, seed, accuracy in (
            ("labels alone", 100, 1.0),
            ("labels alone", 0, 50.0),
            ("labels alone", 1, 60.0),
            ("nearest", 0, 60.0),
            ("nearest", 1, 66.0),
            ("only far", 0, 51.0),
            ("only near", 0, 60.0),
            ("labels alone, longer", 0, 70.0),
            ("nearest by cka, longer", 0, 71.5),
        )
    ],
}


def test_a_method_is_told_by_its_seeds_and_its_gain_on_the_same_labels():
    table = render_ranking(REPORT)

    assert "| labels alone | 55.0 | 50.0, 60.0 |  |" in table
    assert "| DistillNearest by parc | 63.0 | 60.0, 66.0 | +8.0 ± 2.8 |" in table
    assert "| DistillNearest by cka, three times the steps | 71.5 | 71.5 | +1.5 |" in table
    assert "DistillWeighted by parc |" not in table  # not measured


def test_sources_stand_in_the_order_of_what_they_give():
    table = render_ranking(REPORT)

    assert table.index("| near | 5 | 60.0 | 9.0 ± 2.5 | 9.0 |") < table.index("| far | 2 | 51.0 | 1.0 ± 1.5 | 1.0 |")
    assert "| `parc` | +1.00, -1.00 | +0.50 |" in table


def test_the_power_of_the_weights_is_told_with_what_it_was_chosen_by():
    tried = [
        {"method": f"weighted by logme, power {p}", "seed": 100, "accuracy": a} for p, a in ((12, 50.0), (48, 52.0))
    ]
    table = render_ranking({**REPORT, "labels": 30, "rows": [*REPORT["rows"], *tried]})

    assert "12: 50.0 %, 48: 52.0 %; the better one was taken" in table
    assert "rank correlation, 30 labels, by draw" in table
    assert "Power" not in render_ranking(REPORT)
