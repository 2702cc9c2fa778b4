"""Contestants for real, on a small network."""

import numpy as np
import pytest
import torch

from ecotta_rt.bench import latency_race
from ecotta_rt.bench.latency_contestants import Contestant
from ecotta_rt.bench.latency_race import Race
from ecotta_rt.bench.peers.timed_step import open_torch_step

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


@pytest.fixture(autouse=True)
def threads():
    """Contestants set torch's threads; put them back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_onnx_contestants_race_without_torch(small_network, monkeypatch, without_torch):
    monkeypatch.setattr(latency_race, "_WORKER", without_torch("ecotta_rt.bench.latency_worker"))
    forward, step = Contestant("forward", "onnx", "source"), Contestant("ecotta-k4", "onnx", "running")
    race = Race(2, 1)

    race.run(
        [(forward, small_network.job("source")), (step, small_network.job("ecotta-k4"))],
        rounds=1,
        on_loading=lambda contestant: None,
        on_round=lambda rounds: None,
    )

    assert [racer.failure for racer in race.racers] == [None, None]
    laps = [racer.lap() for racer in race.racers]
    assert [lap.normalisation for lap in laps] == ["source", "running"]
    assert all(ms > 0 for lap in laps for ms in lap.step_ms)
    assert all(lap.process_peak_bytes > 0 for lap in laps)
    assert laps[0].session_options["optimisation"] in ("all", "extended")
    assert laps[1].session_options["graph"] == "step-2"


def test_a_file_that_cannot_be_used_is_told_by_its_name(small_network, monkeypatch, without_torch, tmp_path):
    monkeypatch.setattr(latency_race, "_WORKER", without_torch("ecotta_rt.bench.latency_worker"))
    (tmp_path / "net.ecotta").write_bytes(b"no bundle")
    race = Race(2, 1)
    job = small_network.job("ecotta-k4", bundle=str(tmp_path / "net.ecotta"))

    race.run([(Contestant("ecotta-k4", "onnx", "running"), job)], 1, lambda contestant: None, lambda rounds: None)

    assert race.racers[0].failure.exit_code == 4
    assert "net.ecotta" in race.racers[0].failure.message


@pytest.mark.parametrize("method", ["tent", "ecotta-k4"])
def test_a_torch_contestant_runs_in_one_of_the_two_layouts(small_network, method):
    step = open_torch_step(small_network.job(method, engine="torch"), FRAMES)

    assert step(step.prepare(FRAMES)).shape == (2, 10)
    assert step.session_options["memory_format"] in ("channels_last", "contiguous")
    assert step.normalisation == ("batch" if method == "tent" else "running")


def test_the_trial_of_layouts_teaches_the_contestant_nothing(small_network):
    step = open_torch_step(small_network.job("tent", engine="torch"), FRAMES)
    again = open_torch_step(small_network.job("tent", engine="torch"), FRAMES)

    torch.testing.assert_close(step(step.prepare(FRAMES)), again(again.prepare(FRAMES)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["tent", "cotta"])
def test_a_single_frame_can_be_timed(small_network, method, monkeypatch):
    from ecotta_rt.bench.peers.cotta import Cotta

    if method == "cotta":  # one view does for a shape
        monkeypatch.setattr(Cotta.__init__, "__kwdefaults__", {**Cotta.__init__.__kwdefaults__, "augmentations": 1})

    step = open_torch_step(small_network.job(method, engine="torch", batch=1), FRAMES[:1])

    assert step(step.prepare(FRAMES[:1])).shape == (1, 10)
