"""Frozen norms that learn beside the groups, going by the sign of the velocity: torch and onnxruntime take one step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.attach import attach
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.runtime.engine import Runtime

BATCH = 4
FLAT = 1e-4
"""Share of the steepest slope below which the two engines may see another sign."""


@pytest.fixture(scope="module")
def bundles(tiny, tmp_path_factory):
    """Normalisation -> network, options and the path of its bundle."""
    folder, made = tmp_path_factory.mktemp("norms"), {}
    for mode in ("batch", "running"):
        options = tiny.options(mode, optimiser="signum", lr=0.01, entropy_margin=1.0, frame_by_frame=mode == "running")
        network, path = attach(tiny.network().partition, norms_learn=True), folder / f"{mode}.ecotta"
        wanted = ExportOptions("tiny", list("abcde"), batches=(BATCH,), step=options)
        export(network, to_adapt_state(initial_state(network), network.digest()), path, wanted)
        made[mode] = (network, options, path)
    return made


def differs(found, expected):
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize(("mode", "frame_by_frame"), [("batch", False), ("running", False), ("running", True)])
def test_every_step_from_the_same_state_agrees(tiny, bundles, mode, frame_by_frame):
    network, options, path = bundles[mode]
    assert {"block1.bn1", "block2.bn2", "bn"} <= set(network.learning_norms)
    engine = TorchEngine(network, replace(options, frame_by_frame=frame_by_frame))
    runtime = Runtime.load(path, batch=BATCH, frame_by_frame=frame_by_frame)

    for seed in range(4):
        frames = tiny.floats(BATCH, seed)
        start = engine.state
        runtime.restore(start)
        expected, prediction = engine.step(torch.from_numpy(frames)), runtime(frames)

        assert prediction.why == "adapted"
        assert differs(prediction.probabilities, expected.logits.softmax(1).numpy()) < 1e-5
        after, state = engine.state, runtime.state
        steepest = max(np.abs(array).max() for array in after.momentum.values())
        for name, velocity in after.momentum.items():
            assert differs(state.momentum[name], velocity) < 1e-4, name
            steep = np.abs(velocity) > FLAT * steepest
            np.testing.assert_allclose(
                state.parameters[name][steep], after.parameters[name][steep], atol=1e-6, err_msg=name
            )
            moved = np.abs(after.parameters[name] - start.parameters[name])[steep]
            np.testing.assert_allclose(moved, options.lr, rtol=1e-3, err_msg=name)
