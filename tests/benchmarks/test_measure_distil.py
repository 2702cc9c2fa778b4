"""The script runs each row once, keeps it at once, and its table has a mean and a spread of the seeds."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import measure_distil
from student_tables import render_distil

image = pytest.importorskip("PIL.Image")


@pytest.fixture
def data(tmp_path):
    """Small sets under the names of the real ones."""
    rng = np.random.default_rng(0)
    (tmp_path / "domains").mkdir()
    for name in measure_distil.DIGITS.values():
        arrays = {f"x_{split}": rng.integers(0, 256, (20, 8, 8), dtype=np.uint8) for split in ("train", "test")}
        labels = {f"y_{split}": np.arange(20) % 10 for split in ("train", "test")}
        np.savez(tmp_path / "domains" / f"{name}.npz", **arrays, **labels)
    with zipfile.ZipFile(tmp_path / "domains" / "pacs96.zip", "w") as archive:
        for number, pixels in enumerate(rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)):
            content = io.BytesIO()
            image.fromarray(pixels).save(content, "png")
            domain, label = ("photo", "art_painting")[number % 2], ("cat", "dog")[number // 2 % 2]
            archive.writestr(f"{domain}/{label}/{number}.png", content.getvalue())
    return tmp_path


@pytest.mark.parametrize("trial", list(measure_distil.TRIALS))
def test_a_trial_goes_on_where_it_was_and_makes_a_table(data, monkeypatch, capsys, trial):
    small = replace(measure_distil.TRIALS[trial], size=8, epochs=1, batch=10)
    monkeypatch.setitem(measure_distil.TRIALS, trial, replace(small, pairs=small.pairs[:1]))
    out = data / "out.json"
    words = [trial, "--data", str(data), "--store", str(data / "store"), "--out", str(out)]

    measure_distil.main([*words, "--seeds", "0"])
    first = json.loads(out.read_text())
    measure_distil.main([*words, "--seeds", "0", "1"])
    report = json.loads(out.read_text())

    names = [row.name for row in small.rows]
    assert [row["row"] for row in report["rows"].values()] == names * 2
    assert all(report["rows"][name] == row for name, row in first["rows"].items())
    assert capsys.readouterr().out.count(" %") == 2 * len(names)
    table = render_distil(report)
    assert all(f"| {name} | " in table for name in names) and table.count("±") > len(names)

    monkeypatch.setitem(measure_distil.TRIALS, trial, replace(small, epochs=2))
    with pytest.raises(SystemExit, match="other conditions"):
        measure_distil.main([*words, "--seeds", "0"])
