"""TENT compiled by the exporter: torch and onnxruntime take the same steps, and the product runs the bundle."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ecotta_rt.bundle import read_bundle
from ecotta_rt.cli.main import main
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.method.tent import Tent
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import TENT_STEP
from ecotta_rt.runtime.engine import Runtime

BATCH = 4


@pytest.fixture(scope="module")
def bundles(tiny, tmp_path_factory):
    """Normalisation -> method, options and the path of a bundle with TENT."""
    folder, made = tmp_path_factory.mktemp("tent"), {}
    for mode in ("batch", "running"):
        options = replace(TENT_STEP, normalisation=mode, lr=0.01, frame_by_frame=mode == "running")
        method, path = Tent(tiny.network().partition), folder / f"{mode}.ecotta"
        batches = (BATCH,) if mode == "batch" else (1, BATCH)
        wanted = ExportOptions("tiny", ["ant", "bee", "cat", "dog", "elk"], batches=batches, step=options, fast=True)
        export(method, to_adapt_state(initial_state(method), method.digest()), path, wanted)
        made[mode] = (method, options, path)
    return made


def relative(found, expected):
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize(
    ("mode", "batch", "frame_by_frame", "fast"),
    [
        ("batch", BATCH, False, False),
        ("batch", BATCH, False, True),
        ("running", 1, False, True),
        ("running", BATCH, False, False),
        ("running", BATCH, True, False),
    ],
)
def test_every_step_from_the_same_state_agrees(tiny, bundles, mode, batch, frame_by_frame, fast):
    method, options, path = bundles[mode]
    engine = TorchEngine(method, replace(options, frame_by_frame=frame_by_frame))
    runtime = Runtime.load(path, batch=batch, frame_by_frame=frame_by_frame, fast=fast)

    for seed in range(6):
        frames = tiny.floats(batch, seed)
        start = engine.state
        runtime.restore(start)
        expected, prediction = engine.step(torch.from_numpy(frames)), runtime(frames)

        assert prediction.why == "adapted" and prediction.kept.all()
        assert relative(prediction.probabilities, expected.logits.softmax(1).numpy()) < 1e-5
        after, state = engine.state, runtime.state
        for section in ("parameters", "momentum", "statistics"):
            for name, array in getattr(after, section).items():
                assert relative(getattr(state, section)[name], array) < 1e-5, f"{section} {name}"
        moved = start.compare(after)
        assert all(moved[f"momentum/{name}"] > 0 for name in start.parameters)


def test_the_manifest_declares_the_method_and_no_option_that_it_lacks(bundles):
    manifest = read_bundle(bundles["running"][2]).manifest

    assert manifest.ports.name == "tent"
    assert manifest.ports.gradients == ("entropy_gradient",)
    assert [port.name for port in manifest.ports.report] == ["entropy_nats", "kept"]
    assert not {"l1_weight", "entropy_margin", "keep_parts"} & manifest.options.keys()
    assert {"lr", "sgd_momentum", "statistics_momentum"} <= manifest.options.keys()


def test_learning_makes_the_answers_more_certain(tiny, bundles):
    runtime = Runtime.load(bundles["batch"][2])
    frames = tiny.frames(BATCH)

    entropies = [runtime(frames).entropy_nats.mean() for _ in range(60)]

    assert entropies[-1] < 0.9 * entropies[0]


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_ecotta_run_takes_it_as_any_bundle(tiny, bundles, tmp_path, capsys, mode):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index, picture in enumerate(tiny.frames(8)):
        Image.fromarray(picture).save(pictures / f"{index}.png")
    state = tmp_path / "adapted.safetensors"

    code = main(["run", str(bundles[mode][2]), str(pictures), "--state", str(state), "--guard", "off"])

    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert len(answers) == 8 and {answer["why"] for answer in answers} == {"adapted"}
    assert state.is_file()
