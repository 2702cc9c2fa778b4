"""The script trains each network once, keeps every seed at once, and its tables say what was measured."""

import json

import numpy as np
import pytest

import measure_merging
from merging_tables import render_merging, render_origins


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Small sets under the names of the real ones, and runs of a single epoch."""
    rng = np.random.default_rng(0)
    (tmp_path / "domains").mkdir()
    for name in measure_merging.DIGITS.values():
        arrays = {f"x_{split}": rng.integers(0, 256, (40, 8, 8), dtype=np.uint8) for split in ("train", "test")}
        labels = {f"y_{split}": np.arange(40) % 10 for split in ("train", "test")}
        np.savez(tmp_path / "domains" / f"{name}.npz", **arrays, **labels)
    monkeypatch.setattr(measure_merging, "EPOCHS", dict.fromkeys(measure_merging.EPOCHS, 1))
    monkeypatch.setattr(measure_merging, "JOINT_EPOCHS", 1)
    monkeypatch.setattr(measure_merging, "UNLABELLED", 20)
    return tmp_path


def words(data, trial, *more):
    return [trial, "--data", str(data), "--store", str(data / "store"), "--out", str(data / "out.json"), *more]


def test_a_trial_merges_by_every_rule_and_makes_a_table(data, capsys):
    measure_merging.main(words(data, "tuned", "--seeds", "0"))
    trained = {path.name: path.stat().st_mtime_ns for path in (data / "store").glob("*.pt")}
    measure_merging.main(words(data, "tuned", "--seeds", "0", "1"))

    report = json.loads((data / "out.json").read_text())
    assert list(report["rows"]) == ["0", "1"] and len(trained) == 5
    assert all((data / "store" / name).stat().st_mtime_ns == when for name, when in trained.items())
    rows = report["rows"]["0"]["errors_percent"]
    assert len(rows) == 18 and set(rows["merged, own heads"]) == set(measure_merging.TARGETS)
    table = render_merging(report)
    assert all(f"| {name} | " in table for name in rows) and "| each alone, at home | " in table
    assert "H " in capsys.readouterr().out


def test_every_pair_of_networks_is_told_from_the_others(data):
    measure_merging.main(words(data, "origins", "--seeds", "0", "--networks", "bn"))

    report = json.loads((data / "out.json").read_text())
    pairs = report["rows"]["bn 0"]["pairs"]
    assert len(pairs) == 55 and sum(pair["one_origin"] for pair in pairs) == 21
    assert min(pair["cosine"] for pair in pairs if pair["one_origin"]) > measure_merging.LEAST_COSINE
    assert "21 of one checkpoint" in render_origins(report) and "34 of two random starts" in render_origins(report)
