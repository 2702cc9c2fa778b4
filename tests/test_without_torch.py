"""A device has numpy, onnxruntime, psutil and safetensors, and no more: a bundle is run in such an environment."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DEVICE_PACKAGES = ("numpy", "onnxruntime", "psutil", "safetensors")
ABSENT = ("torch", "onnx", "onnx_ir", "onnxscript", "scipy", "PIL", "matplotlib", "rich", "av", "pytest", "hypothesis")


@pytest.fixture(scope="module")
def device(tmp_path_factory, checkout):
    """Runs Python code where only what `pip install ecotta_rt` brings can be imported."""
    folder = tmp_path_factory.mktemp("site-packages")
    for package in DEVICE_PACKAGES:
        files = importlib.metadata.distribution(package).files
        # Also what a wheel puts beside its package, as numpy its libraries.
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            (folder / top).symlink_to(Path(importlib.metadata.distribution(package).locate_file(top)).resolve())
    for ours in ("ecotta_rt", "devices"):  # as they lie beside each other in a checkout
        (folder / ours).symlink_to(checkout / ours)
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}

    def run(code, *arguments):
        # -S: without the folder in which this very environment has torch.
        command = [sys.executable, "-S", "-W", "error", "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_environment_lacks_what_a_device_lacks(device):
    """Or the tests below would show nothing."""
    code = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"

    assert device(code, *ABSENT) == "[]\n"


STREAM = """
import json, sys
import numpy as np
import ecotta_rt
from ecotta_rt.runtime.engine import Runtime

bundle, frames, saved, by_frame = sys.argv[1:]
frames = np.load(frames)
runtime = Runtime.load(bundle, batch=4, frame_by_frame=by_frame == "yes")
answers = [runtime(batch) for batch in frames[:2]]
runtime.predict(frames[2])
runtime.save_state(saved)
other = Runtime.load(bundle, batch=4, frame_by_frame=by_frame == "yes")
other.restore(ecotta_rt.AdaptState.load(saved))
same = bool((other(frames[3]).probabilities == runtime(frames[3]).probabilities).all())
other.reset()
again = bool((other(frames[0]).probabilities == answers[0].probabilities).all())
print(json.dumps({
    "why": [answer.why for answer in answers],
    "probabilities": [answer.probabilities.tolist() for answer in answers],
    "restored and reset": [same, again],
    "loaded": sorted({name.split(".")[0] for name in sys.modules}),
}))
"""


@pytest.mark.parametrize(
    ("normalisation", "frame_by_frame"),
    [("running", False), ("running", True), ("source", False), ("source", True), ("batch", False)],
)
def test_a_bundle_adapts_predicts_saves_and_goes_on(device, tiny, tmp_path, normalisation, frame_by_frame):
    frames = np.stack([tiny.frames(seed=seed) for seed in range(4)])
    np.save(tmp_path / "frames.npy", frames)
    arguments = (tiny.bundle(normalisation), tmp_path / "frames.npy", tmp_path / "s.safetensors")

    found = json.loads(device(STREAM, *arguments, "yes" if frame_by_frame else "no"))

    assert found["why"] == ["adapted", "adapted"]
    assert found["restored and reset"] == [True, True]
    assert not set(found["loaded"]) & set(ABSENT)
    expected = here(tiny, normalisation, frame_by_frame, frames[:2])
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)


def here(tiny, normalisation, frame_by_frame, frames):
    from ecotta_rt.runtime.engine import Runtime

    runtime = Runtime.load(tiny.bundle(normalisation), batch=4, frame_by_frame=frame_by_frame)
    return [runtime(batch).probabilities for batch in frames]


EVERY_MODULE = """
import importlib, pkgutil, sys
import ecotta_rt

# Of the commands, only some are for a device.
HOST = ("flower", "data", "method", "profile", "exporter", "prepare", "student", "merging", "bench", "cli")
names = [m.name for m in pkgutil.walk_packages(ecotta_rt.__path__, "ecotta_rt.", onerror=lambda name: None)]
names = [name for name in names if name.split(".")[1] not in HOST]
for name in names:
    importlib.import_module(name)
print(len(names), sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[1:])))
"""


def test_every_module_of_the_device_side_can_be_imported(device):
    count, _, loaded = device(EVERY_MODULE, *ABSENT).partition(" ")

    assert int(count) > 25
    assert loaded == "[]\n"


def test_the_commands_of_a_device_work(device, tiny):
    code = "import sys; from ecotta_rt.cli.main import main; sys.exit(main(sys.argv[1:]))"

    assert "tiny" in device(code, "inspect", tiny.bundle("running"))
    assert "raspberry-pi-zero-2w" in device(code, "devices")


def test_what_needs_the_host_says_which_extra_brings_it(device):
    code = """
import ecotta_rt
try:
    ecotta_rt.ActivationProfiler
except ecotta_rt.Unavailable as error:
    print(error)
"""

    assert "pip install '.[prepare]'" in device(code)


def test_the_demo_runs_on_a_device(device):
    code = "import sys; from ecotta_rt.cli.main import main; sys.exit(main(sys.argv[1:]))"

    assert "Of 15 frames the network got" in device(code, "demo", "--frames", "1")
