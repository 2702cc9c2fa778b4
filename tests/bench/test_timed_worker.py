"""Contestants for real, on a small network."""

import numpy as np
import pytest
import torch

from ecotta_rt.bench import race as race_module
from ecotta_rt.bench.peers.torch_engine import TorchStep, open_step
from ecotta_rt.bench.race import Race

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


@pytest.fixture(autouse=True)
def threads():
    """Contestants set torch's threads; put them back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_onnx_contestants_race_without_torch(small_network, monkeypatch, without_torch):
    monkeypatch.setattr(race_module, "WORKER", without_torch("ecotta_rt.bench.worker"))
    race = Race([small_network.case(method, timed=True) for method in ("source", "ecotta-k4")])

    race.run(1, lambda what: None, lambda rounds: None)

    assert race.complete
    forward, step = race.rows()
    assert (forward.method, forward.normalisation, step.normalisation) == ("forward", "source", "running")
    assert all(ms > 0 for racer in race.racers for ms in racer.step_ms)
    assert min(forward.process_peak_bytes, step.process_peak_bytes) > 0
    assert forward.session_options["optimisation"] in ("all", "extended")
    assert step.session_options["graph"] == "step-2"


def test_a_file_that_cannot_be_used_is_told_by_its_name(small_network, monkeypatch, without_torch, tmp_path):
    monkeypatch.setattr(race_module, "WORKER", without_torch("ecotta_rt.bench.worker"))
    (tmp_path / "net.ecotta").write_bytes(b"no bundle")
    race = Race([small_network.case("ecotta-k4", bundle=str(tmp_path / "net.ecotta"), timed=True)])

    race.run(1, lambda what: None, lambda rounds: None)

    (failure,) = race.failures()
    assert failure.exit_code == 4
    assert "net.ecotta" in failure.message


@pytest.mark.parametrize("method", ["tent", "ecotta-k4"])
def test_a_torch_contestant_runs_in_one_of_the_two_layouts(small_network, method):
    step = open_step(small_network.case(method, engine="torch", timed=True), FRAMES)

    assert step(step.prepare(FRAMES)).shape == (2, 10)
    assert step.session_options["memory_format"] in ("channels_last", "contiguous")
    assert step.normalisation == ("batch" if method == "tent" else "running")


@pytest.mark.parametrize(("method", "gradient"), [("ecotta-k4", "exact"), ("ecotta-k4-constant", "constant")])
def test_a_step_tells_the_gradient_that_runs_not_the_one_that_was_asked_for(small_network, method, gradient):
    step = TorchStep(small_network.case(method, engine="torch", gradient="exact"), "contiguous")

    assert step.name == method
    assert step.session_options["gradient"] == step._method.engine.options.frozen_gradient == gradient


def test_the_trial_of_layouts_teaches_the_contestant_nothing(small_network):
    step = open_step(small_network.case("tent", engine="torch", timed=True), FRAMES)
    again = open_step(small_network.case("tent", engine="torch", timed=True), FRAMES)

    torch.testing.assert_close(step(step.prepare(FRAMES)), again(again.prepare(FRAMES)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["tent", "cotta"])
def test_a_single_frame_can_be_timed(small_network, method, monkeypatch):
    from ecotta_rt.bench.peers.cotta import Cotta

    if method == "cotta":  # one view does for a shape
        monkeypatch.setattr(Cotta.__init__, "__kwdefaults__", {**Cotta.__init__.__kwdefaults__, "augmentations": 1})

    step = open_step(small_network.case(method, engine="torch", timed=True, batch=1), FRAMES[:1])

    assert step(step.prepare(FRAMES[:1])).shape == (1, 10)
