"""A USB camera, played by the kernel's loop-back device and ffmpeg."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ecotta_rt.records import Frame
from ecotta_rt.sources.camera import v4l2_camera
from ecotta_rt.sources.patience import unending

pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")


@pytest.fixture
def device():
    """A loop-back device that shows a test picture."""
    ffmpeg = shutil.which("ffmpeg")
    names = {path.parent.name: path.read_text() for path in Path("/sys/class/video4linux").glob("video*/name")}
    found = [device for device, name in names.items() if "loop" in name.lower() or "dummy" in name.lower()]
    if ffmpeg is None or not found:
        pytest.skip("no loop-back camera: no v4l2loopback in this kernel (`modprobe v4l2loopback`), or no ffmpeg")
    path = f"/dev/{found[0]}"
    shown = "-v error -re -f lavfi -i testsrc=size=64x48:rate=10 -pix_fmt yuyv422 -f v4l2"
    writer = subprocess.Popen([ffmpeg, *shown.split(), path], stderr=subprocess.DEVNULL)
    try:
        yield path
    finally:
        writer.kill()
        writer.wait()


def test_a_camera_of_this_machine_shows_its_frames(device):
    frames = []
    for item in v4l2_camera(device, patience=unending()):
        frames += [item] if isinstance(item, Frame) else []
        if len(frames) == 5:
            break

    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
    assert sorted(frame.time_s for frame in frames) == [frame.time_s for frame in frames]
