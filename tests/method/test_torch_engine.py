import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_rt.errors import BadFrames, InputFileError, UsageError
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions

OPEN = StepOptions(entropy_margin=0.9)


@pytest.fixture
def network(make_adaptable):
    return make_adaptable(dtype=torch.float32)


@pytest.fixture
def frames(frames):
    return frames.float()


def largest_difference(one, other):
    return max(one.compare(other).values())


def test_stepping_adapts_and_resetting_undoes_all_of_it(network, frames):
    engine = TorchEngine(network, OPEN)
    start = engine.state

    first = engine(frames)
    adapted = engine.state
    second = engine(frames)
    engine.reset()

    assert largest_difference(start, adapted) > 0
    assert not torch.equal(first, second)
    assert largest_difference(start, engine.state) == 0
    assert torch.equal(engine(frames), first)


def test_the_frozen_network_is_never_written_to(network, frames):
    before = network.digest()
    engine = TorchEngine(network, dataclasses.replace(OPEN, normalisation="running"))

    engine(frames)

    assert network.digest() == before


def test_a_saved_state_goes_on_exactly_where_it_stopped(network, frames, make_adaptable):
    engine = TorchEngine(network, OPEN)
    engine(frames)
    saved = engine.state
    expected = engine(frames.flip(0))

    other = TorchEngine(make_adaptable(dtype=torch.float32), OPEN, saved)
    restored = TorchEngine(network, OPEN)
    restored.restore(saved)

    assert torch.equal(other(frames.flip(0)), expected)
    assert torch.equal(restored(frames.flip(0)), expected)


def test_a_state_is_a_value_that_later_steps_do_not_reach(network, frames):
    engine = TorchEngine(network, OPEN)
    saved = engine.state
    copies = {name: array.copy() for name, array in saved.parameters.items()}

    engine(frames)

    assert all(np.array_equal(saved.parameters[name], copy) for name, copy in copies.items())


def test_the_state_of_another_network_or_another_cut_is_refused(network, make_adaptable):
    state = TorchEngine(network, OPEN).state

    with pytest.raises(InputFileError, match="belongs to network"):
        TorchEngine(make_adaptable(parts=(2, 2, 2), dtype=torch.float32), OPEN, state)
    left = {n: a for n, a in state.parameters.items() if n != "groups.0.conv.weight"}
    lacking = dataclasses.replace(state, parameters=left)
    with pytest.raises(InputFileError, match=r"parameters.*missing \['groups.0.conv.weight'\]"):
        TorchEngine(network, OPEN, lacking)
    bent = dataclasses.replace(state, statistics={**state.statistics, "bn1.mean": np.zeros(3, np.float32)})
    with pytest.raises(InputFileError, match="misshapen"):
        TorchEngine(network, OPEN, bent)


def test_frames_that_no_step_can_use_are_refused_and_change_nothing(network, frames, subtests):
    for spoil, reason in [
        (lambda x: x.index_fill(0, torch.tensor([2]), float("nan")), "3072 values are NaN"),
        (lambda x: x * float("inf"), "NaN or infinite"),
        (lambda x: x.double(), "float64"),
        (lambda x: (255 * x).byte(), "uint8"),
        (lambda x: x[0], r"\[3, 32, 32\]"),
        (lambda x: x[:0], r"\[0, 3, 32, 32\]"),
        (lambda x: x[:, :1], "1x32x32"),
        (lambda x: x[..., :31], "3x32x31, the network was cut for 3x32x32"),
        (lambda x: x.numpy(), "ndarray"),
        (lambda x: x[:1], "'running'"),
    ]:
        with subtests.test(reason):
            engine = TorchEngine(network, OPEN)
            before = engine.state

            with pytest.raises(BadFrames, match=reason):
                engine(spoil(frames))

            assert largest_difference(before, engine.state) == 0


@pytest.mark.parametrize("mode", ["running", "source"])
def test_one_frame_at_a_time_is_fine_without_batch_statistics(network, frames, mode):
    engine = TorchEngine(network, dataclasses.replace(OPEN, normalisation=mode))

    assert engine(frames[:1]).shape == (1, 5)


def test_predicting_learns_nothing(network, frames):
    engine = TorchEngine(network, OPEN)
    before = engine.state

    engine.predict(frames)

    assert largest_difference(before, engine.state) == 0


def test_a_network_of_one_class_is_refused(make_adaptable):
    with pytest.raises(UsageError, match="1 class"):
        TorchEngine(make_adaptable(classes=1, dtype=torch.float32), OPEN)


def test_a_network_that_gives_maps_instead_of_logits_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    network = attach(partition(network.eval(), torch.zeros(1, 3, 8, 8), 1))

    with pytest.raises(UsageError, match=r"gives \[N, 2x6x6\]"):
        TorchEngine(network)
