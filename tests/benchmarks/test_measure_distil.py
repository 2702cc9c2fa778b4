"""The script runs each row once, keeps it at once, and its table has a mean and a spread of the seeds."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import distil_trials
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


@pytest.fixture
def small(monkeypatch):
    """Every trial with one pair and two settings, short."""
    for name, full in distil_trials.TRIALS.items():
        rows = tuple(replace(row, settings=row.settings[-2:]) for row in full.rows)
        cut = replace(full, pairs=full.pairs[:1], rows=rows, size=8, epochs=1, start_epochs=1, batch=5, held_out=5)
        monkeypatch.setitem(distil_trials.TRIALS, name, cut)
    return distil_trials.TRIALS


def words(stage, trial, data):
    return [stage, trial, "--data", str(data), "--store", str(data / "store"), "--results", str(data)]


def read(data, trial):
    return json.loads((data / f"student-distil-{trial}.json").read_text())


@pytest.mark.parametrize("trial", list(distil_trials.TRIALS))
def test_a_trial_is_tuned_then_goes_on_where_it_was_and_makes_a_table(data, small, trial, monkeypatch):
    names, tuned_in = [row.name for row in small[trial].rows], small[trial].tuned_in

    with pytest.raises(SystemExit, match="not tuned yet"):
        measure_distil.main(words("run", trial, data))
    assert measure_distil.main(words("tune", tuned_in, data)) == 0
    tuned = read(data, tuned_in)["tune"]
    assert [figures["row"] for figures in tuned.values()] == [row.name for row in small[tuned_in].rows for _ in "ab"]
    assert {figures["seed"] for figures in tuned.values()} == {measure_distil.TUNING_SEED}

    measure_distil.main([*words("run", trial, data), "--seeds", "0"])
    first = read(data, trial)
    measure_distil.main([*words("run", trial, data), "--seeds", "0", "1"])
    report = read(data, trial)
    assert report["tune"] == tuned
    assert [row["row"] for row in report["rows"].values()] == names * 2
    assert all(report["rows"][name] == row for name, row in first["rows"].items())
    for row in report["rows"].values():
        method = "kd-stda" if row["teacher_errors_percent"] else row["method"]
        tried = [figures for figures in tuned.values() if figures["method"] == method]
        best = min(figures["held_out_error_percent"] for figures in tried)
        assert row["setting"] == next(f["setting"] for f in tried if f["held_out_error_percent"] == best)
    epochs = {row["method"]: len(row["history"]) for row in report["rows"].values()}
    if "source-only" in epochs:
        assert epochs["source-only"] == len(small[trial].pairs[0][1]) * epochs["adapted"]

    table = render_distil(report)
    assert all(f"| {name} | " in table and f"| {name}, norms of target | " in table for name in names)
    assert table.count("±") > 2 * len(names) and "lr " in table

    monkeypatch.setitem(small, trial, replace(small[trial], epochs=2))
    with pytest.raises(SystemExit, match="other conditions"):
        measure_distil.main(words("run", trial, data))


def test_a_trial_that_takes_the_settings_of_another_is_not_tuned(data, small):
    with pytest.raises(SystemExit, match="takes the settings of digits"):
        measure_distil.main(words("tune", "targets", data))


@pytest.mark.parametrize("trial", list(distil_trials.TRIALS))
def test_every_method_tries_as_many_settings(trial):
    assert len({len(row.settings) for row in distil_trials.TRIALS[trial].rows}) == 1


def test_tuning_sees_no_held_out_frame(data, small, monkeypatch):
    """Nor a label of a target: what is trained on and what decides are two parts of the source's training frames."""
    trained_on, judged_by = [], []
    train, judge = measure_distil.train, measure_distil.error_percent

    def watched_train(*words):
        trained_on.append(words[-1].domains)
        return train(*words)

    def watched_judge(network, frames, labels):
        judged_by.append(frames)
        return judge(network, frames, labels)

    monkeypatch.setattr(measure_distil, "train", watched_train)
    monkeypatch.setattr(measure_distil, "error_percent", watched_judge)
    measure_distil.main(words("tune", "digits", data))
    assert all(target.labels is None for domains in trained_on for target in domains.targets)
    learned = {frame.tobytes() for domains in trained_on for frame in domains.source.frames}
    held = {frame.tobytes() for frames in judged_by for frame in frames}
    assert held and not learned & held
