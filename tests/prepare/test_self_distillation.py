"""Warm-up without labels: the network's own answers to the clean pictures are what the groups learn."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.calibrate import frozen_answers
from ecotta_rt.prepare.epochs import WarmUpOptions
from ecotta_rt.prepare.identity import start_as_identity
from ecotta_rt.prepare.warmup import warm_up

QUICK = WarmUpOptions(epochs=4, batch=8, lr=0.02)


@pytest.fixture
def network(tiny):
    return tiny.network()


@pytest.fixture
def frames(tiny):
    return tiny.frames(32)


def as_floats(frames):
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def test_the_teacher_is_the_frozen_network_by_the_statistics_of_its_training(network, frames):
    plain = copy.deepcopy(nn.Sequential(network.stem, *network.parts, network.head)).eval()

    answers = frozen_answers(network, frames, 5)

    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, plain(as_floats(frames)).softmax(1), atol=1e-5)


def test_groups_learn_the_networks_own_answers_and_touch_nothing_else(network, frames):
    digest, seen = network.digest(), []
    answers = frozen_answers(network, frames, 8)

    state = warm_up(network, frames, answers, QUICK, report=seen.append)

    first, last = (np.mean([p.loss for p in seen if p.epoch == epoch]) for epoch in (1, 4))
    assert last < first
    assert network.digest() == digest
    assert TorchEngine(network, StepOptions(normalisation="source"), state).predict(as_floats(frames)).shape == (32, 5)


def test_a_run_without_labels_goes_on_after_its_last_epoch(tiny, frames, tmp_path):
    class Interrupted(Exception):
        pass

    def stop(progress):
        if progress.epoch == 3:
            raise Interrupted

    def start(**how):
        network = tiny.network()
        return warm_up(network, frames, frozen_answers(network, frames, 8), QUICK, **how)

    snapshot, seen = tmp_path / "net.snapshot", []
    with pytest.raises(Interrupted):
        start(snapshot=snapshot, report=stop)
    resumed = start(snapshot=snapshot, report=seen.append)

    assert seen[0].epoch == 3
    assert resumed.compare(start()) == pytest.approx(dict.fromkeys(resumed.compare(resumed), 0.0), abs=1e-5)


def test_answers_for_another_number_of_classes_are_refused(network, frames):
    with pytest.raises(UsageError, match=r"\[32, 7\] for a network of 5 classes"):
        warm_up(network, frames, np.full((32, 7), 1 / 7, np.float32), QUICK)


def test_held_norms_keep_their_statistics_through_a_warm_up(network, frames):
    start_as_identity(network)
    answers = frozen_answers(network, frames, 8)
    seen = []

    state = warm_up(network, frames, answers, WarmUpOptions(epochs=1, batch=8), report=seen.append)

    assert seen[0].loss < 2 * float(-(answers * np.log(answers)).sum(1).mean()), "from the identity, not from afar"
    assert not state.statistics["groups.0.norm.mean"].any()
    assert state.statistics["groups.0.conv_norm.mean"].any()
    assert "groups.0.norm" in state.metadata["momenta"]
