"""The ranking trial goes on with rows of its own conditions alone."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

import measure_ranking


def bench(digest="a"):
    return SimpleNamespace(
        options=measure_ranking.OPTIONS["digits"],
        sources=[SimpleNamespace(name="near", digest=digest)],
        labels_a_class=10,
        powers=(12.0,),
    )


@pytest.fixture
def rows(tmp_path):
    """A file with one row, as a stopped run left it."""
    path = tmp_path / "rows.json"
    report = measure_ranking.read_rows(path, measure_ranking.about(bench()))
    assert report["rows"] == []
    report["rows"].append({"method": "nearest"})
    measure_ranking.save(report | {"out": str(path)})
    return path


def test_rows_of_the_same_conditions_are_kept(rows):
    assert measure_ranking.read_rows(rows, measure_ranking.about(bench()))["rows"] == [{"method": "nearest"}]


def test_rows_of_other_sources_options_or_settings_are_refused(rows, monkeypatch):
    longer = bench()
    longer.options = replace(longer.options, epochs=9)
    for other in (bench("b"), longer):
        with pytest.raises(SystemExit, match="other conditions"):
            measure_ranking.read_rows(rows, measure_ranking.about(other))
    monkeypatch.setattr(measure_ranking, "SHARES", (0.5,))
    with pytest.raises(SystemExit, match="other conditions"):
        measure_ranking.read_rows(rows, measure_ranking.about(bench()))


def test_rows_that_do_not_say_how_they_were_made_are_refused(rows):
    rows.write_text(json.dumps({"schema": 1, "rows": []}))
    with pytest.raises(SystemExit, match="other conditions"):
        measure_ranking.read_rows(rows, measure_ranking.about(bench()))
