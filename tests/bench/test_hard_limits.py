"""The proof under a hard limit: `ecotta run` in a control group of each device's default limit, without swap.

Thousands of frames, each learned from, with the state saved every few seconds as a daemon does: nothing is killed, and
the memory is flat. With -s the figures are printed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ecotta_rt.bench.exporting import bundle_for
from ecotta_rt.bench.memory_cage import MemoryCage, limit_in_words
from ecotta_rt.bench.plan import make_plan
from ecotta_rt.bench.request import Request
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.stream import open_stream
from ecotta_rt.errors import Unavailable
from ecotta_rt.machine.device import THIS_MACHINE, device_ids, load_device

ECOTTA = "import sys; from ecotta_rt.cli.main import main; sys.exit(main())"

FRAMES = 3000
SAMPLE_EVERY = 50
WARM_UP = 500
"""Frames after which everything has been done at least once: caches filled, the state saved, arenas grown."""

MOST_GROWTH_BYTES = 128 * 1024
"""Tolerated slope of the process's own memory, in bytes per 1000 frames.

Whatever a frame costs would be seen if it stayed: its pixels are 3 KiB, its JSON line 250 bytes, which makes 3 MiB and
250 KB per 1000 frames. What is below is noise: the heaps of Python and glibc grow by single pages, at odd times.
"""

PROFILES = [load_device(device) for device in device_ids() if device != THIS_MACHINE]
LIMITS = sorted({profile.default_limit_bytes for profile in PROFILES if profile.host == "python"})


@pytest.fixture(scope="module")
def bundle() -> Path:
    """The embedded WRN-40-2, one frame at a time, made where there is none."""
    pytest.importorskip("torch")
    plan = make_plan(Request(engine="onnx", batches=(1,), normalisations=("running",), methods=("ecotta-k4",)))
    return bundle_for(plan.orders["ecotta-k4", "running"], print)


@pytest.fixture(scope="module")
def replay(tmp_path_factory) -> Path:
    """A folder in the layout of CIFAR-10-C with `FRAMES` corrupted frames."""
    folder = tmp_path_factory.mktemp("replay")
    stream = open_stream("fashion-mnist-c", frames=FRAMES // len(CORRUPTIONS), seed=0)
    np.save(folder / "all.npy", np.concatenate([segment.frames for segment in stream.segments]))
    np.save(folder / "labels.npy", np.concatenate([segment.labels for segment in stream.segments]))
    return folder


@pytest.fixture
def cage(limit_bytes):
    """An open one; skips where no group may be made, or the machine has less memory."""
    try:
        with MemoryCage(limit_bytes) as cage:
            yield cage
    except Unavailable as error:
        pytest.skip(str(error))


class Sample(NamedTuple):
    """What was resident after so many frames, and how much of it the kernel cannot drop and read again from a file.

    The frames are such a file, mapped: it becomes resident as it is played, 3 KiB a frame, and would hide a leak.
    """

    frames: int
    resident_bytes: int
    own_bytes: int


def sample(pid: int, frames: int) -> Sample:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return Sample(frames, *(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon")))


@pytest.mark.slow
@pytest.mark.parametrize("limit_bytes", LIMITS, ids=lambda limit: limit_in_words(limit).partition(" (")[0])
def test_the_loop_lives_and_stays_flat_inside_the_default_limit(limit_bytes, cage, bundle, replay, tmp_path):
    command = [sys.executable, "-P", "-c", ECOTTA, "run", str(bundle), f"replay:{replay}", "--threads", "1"]
    command += ["--state", str(tmp_path / "learned.safetensors"), "--save-every", "5"]
    samples, answered, adapted = [], 0, 0
    with (
        (tmp_path / "stderr").open("w") as complaints,
        subprocess.Popen(cage.command(command), stdout=subprocess.PIPE, stderr=complaints) as loop,
    ):
        for line in loop.stdout:
            message = json.loads(line)
            assert "adapted" in message, f"the guard had to step in: {message}"
            adapted += message["adapted"]
            answered += 1
            if answered % SAMPLE_EVERY == 0 and answered < FRAMES:  # at the last one the process may be gone
                samples.append(sample(loop.pid, answered))
    held = cage.held()

    assert loop.returncode == 0, (tmp_path / "stderr").read_text()
    assert held.oom_kills == 0
    assert held.peak_bytes is None or held.peak_bytes < limit_bytes
    settled = [(seen.frames, seen.own_bytes) for seen in samples if seen.frames >= WARM_UP]
    growth_bytes = 1000 * np.polyfit(*np.array(settled).T, 1)[0]
    most_bytes = max(seen.resident_bytes for seen in samples)
    print(
        f"\n{limit_in_words(limit_bytes)}: {adapted} of {answered} frames adapted, resident at most "
        f"{most_bytes / 2**20:.1f} MiB, group {(held.peak_bytes or 0) / 2**20:.1f} MiB, own "
        f"{settled[0][1] / 1024:.0f} KiB at {WARM_UP} and {settled[-1][1] / 1024:.0f} at the end, "
        f"slope {growth_bytes / 1024:.1f} KiB per 1000 frames"
    )
    assert answered == FRAMES
    assert adapted > 2000
    assert most_bytes < limit_bytes
    assert growth_bytes < MOST_GROWTH_BYTES
