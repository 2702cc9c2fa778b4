"""The script runs each row once, keeps it at once, and its table has a mean and a spread of the seeds."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

import distil_trials
import measure_distil
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.student.domains import Domain, Domains
from student_tables import chosen, render_distil

PEERS = ("source-only", "adapted")

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
        short = {"size": 8, "epochs": 1, "start_epochs": 1, "batch": 5, "held_out": 5, "published": None}
        cut = replace(full, pairs=full.pairs[:1], rows=rows, **short)
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
    expected = [row.name for row in small[tuned_in].rows for _ in row.settings]
    assert [figures["row"] for figures in tuned.values()] == expected
    assert {figures["seed"] for figures in tuned.values()} == {measure_distil.TUNING_SEED}

    measure_distil.main([*words("run", trial, data), "--seeds", "0"])
    first = read(data, trial)
    measure_distil.main([*words("run", trial, data), "--seeds", "0", "1"])
    report = read(data, trial)
    assert report["tune"] == tuned
    assert [row["row"] for row in report["rows"].values()] == names * 2
    assert all(report["rows"][name] == row for name, row in first["rows"].items())
    for row in report["rows"].values():
        taught = bool(row["teacher_errors_percent"])
        own = [figures for figures in tuned.values() if figures["row"] == row["row"]]
        tried = own or [f for f in tuned.values() if f["method"] == ("kd-stda" if taught else row["method"])]
        assert row["setting"] == tried[chosen(report["about"], tried)]["setting"]
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
def test_no_method_with_a_teacher_tries_more_settings_than_its_peers(trial):
    rows = distil_trials.TRIALS[trial].rows
    counts = {alone: [len(row.settings) for row in rows if (row.method in PEERS) == alone] for alone in (True, False)}
    assert max(counts[False]) <= min(counts[True] or counts[False])


def test_the_smallest_error_on_the_source_chooses_and_of_equal_ones_the_first():
    tried = [{"held_out_error_percent": error} for error in (10.0, 9.0, 9.0)]
    assert chosen({}, tried) == 1


def test_within_a_standard_error_of_it_what_is_told_about_the_target_chooses():
    """Of 100 frames 10 % are known to 3 points."""
    about = {"informed": True, "held_out": 100}
    tried = [
        {"held_out_error_percent": error, "target_information_nats": nats}
        for error, nats in ((10.0, 0.5), (12.9, 0.8), (13.1, 1.0))
    ]
    assert chosen(about, tried) == 1


def test_information_is_what_remains_of_the_entropy_when_the_frame_is_known():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2, bias=False)).requires_grad_(False)
    network[1].weight.copy_(torch.tensor([[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]]))
    sure = np.array([[255, 0, 0], [0, 255, 0]], np.uint8).reshape(2, 1, 1, 3)
    assert measure_distil.information(network, Domain("sure", sure)) == pytest.approx(np.log(2))
    unsure = np.array([[0, 0, 255], [0, 0, 0]], np.uint8).reshape(2, 1, 1, 3)
    assert measure_distil.information(network, Domain("unsure", unsure)) == pytest.approx(0)


def test_a_published_network_keeps_its_weights_but_for_the_classifier_and_its_first_stage_rests(tmp_path):
    theirs = build_network("resnet-8")
    tensors = {f"module.{name}": value for name, value in theirs.state_dict().items() if "normalise" not in name}
    torch.save({"state_dict": tensors}, tmp_path / "theirs.th")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    domains = Domains(Domain("here", frames, np.arange(20) % 2), (), ("cat", "dog"))
    trial = replace(
        distil_trials.TRIALS["pacs-published"],
        published=dict.fromkeys(("teacher", "student"), distil_trials.Published("resnet-8", "theirs.th")),
    )
    ours = measure_distil.Starts(trial, 0, domains, tmp_path).network("student")
    moved = {
        name
        for name, value in ours.named_parameters()
        if name.startswith("linear") or not torch.equal(value, theirs.get_parameter(name))
    }
    assert ours.linear.out_features == 2
    assert moved == {name for name, _ in theirs.named_parameters() if not name.startswith(trial.resting)}
    assert not torch.equal(ours.bn1.running_mean, theirs.bn1.running_mean)


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
