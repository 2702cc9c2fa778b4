"""The ribbon camera, played by a double of picamera2, which only a Raspberry Pi has."""

import itertools
import sys
import time
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest

from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.events import SourceLost
from ecotta_rt.records import Frame
from ecotta_rt.sources.i420 import rgb_of_i420
from ecotta_rt.sources.opening import open_source
from ecotta_rt.sources.patience import Patience
from ecotta_rt.sources.picamera import PicameraOptions, picamera
from ecotta_rt.sources.query import Size

STRIDE = 64  # the driver's rows are longer than the picture's


class Request:
    def __init__(self, device):
        self.device = device

    def make_array(self, name):
        assert name == "lores"
        width, height = self.device.configuration["lores"]["size"]
        planes = np.zeros((3 * height // 2, STRIDE), np.uint8)
        planes[:height, :width] = 81  # red: Y 81, Cb 90, Cr 240
        planes[height : height + height // 4] = 90
        planes[height + height // 4 :] = 240
        return planes

    def get_metadata(self):
        return {"SensorTimestamp": time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 40_000_000}

    def release(self):
        self.device.log.append("released")


class Device:
    log: ClassVar[list] = []
    frames = 2

    def __init__(self, number):
        if number:
            raise IndexError("list index out of range")
        self.left = self.frames

    def create_video_configuration(self, **parts):
        return parts

    def configure(self, configuration):
        self.configuration = configuration

    def start(self):
        self.log.append("started")

    def capture_request(self):
        if not self.left:
            raise RuntimeError("Camera frontend has timed out!")
        self.left -= 1
        return Request(self)

    def stop(self):
        self.log.append("stopped")

    def close(self):
        self.log.append("closed")


@pytest.fixture
def library(monkeypatch):
    module = ModuleType("picamera2")
    module.Picamera2 = Device
    monkeypatch.setitem(sys.modules, "picamera2", module)
    monkeypatch.setattr(Device, "log", [])
    return module


SMALL = PicameraOptions(Size(32, 16), 5.0)


def test_frames_are_the_small_stream_in_rgb_dated_when_they_were_exposed(library):
    frame = next(iter(picamera(0, SMALL)))
    age_s = time.monotonic() - frame.time_s

    assert frame.pixels.shape == (16, 32, 3)
    assert np.abs(frame.pixels.astype(int) - [254, 0, 0]).max() <= 2
    assert 0.04 <= age_s < 5


def test_a_camera_that_times_out_is_lost_closed_and_opened_again(library):
    patience = Patience((0.0,), unending=True, from_start=True)

    items = list(itertools.islice(picamera(0, SMALL, patience=patience), 4))

    assert [type(item) for item in items] == [Frame, Frame, SourceLost, Frame]
    assert "Camera frontend has timed out" in items[2].why
    assert Device.log[:6] == ["started", "released", "released", "stopped", "closed", "started"]


def test_a_camera_that_is_not_there_is_told_with_what_to_try(library):
    with pytest.raises(Unavailable, match=r"picamera:1: list index out of range.*rpicam-hello --list-cameras"):
        list(picamera(1))


def test_a_machine_without_picamera2_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)

    with pytest.raises(Unavailable, match="sudo apt install python3-picamera2.*--system-site-packages"):
        open_source("picamera:")


def test_what_cannot_be_meant_is_a_usage_error(library, subtests):
    for text in ("picamera:x", "picamera:0?size=33x16", "picamera:0?fps=0", "picamera:\u0661"):
        with subtests.test(text), pytest.raises(UsageError):
            open_source(text)


def test_colours_of_three_planes_are_those_of_the_standard(subtests):
    """BT.601, limited range."""
    colours = {"white": (235, 128, 128, 255, 255, 255), "black": (16, 128, 128, 0, 0, 0)}
    colours |= {"green": (145, 54, 34, 0, 255, 0), "blue": (41, 240, 110, 0, 0, 255)}
    for name, (y, cb, cr, *rgb) in colours.items():
        planes = np.concatenate([np.full((4, 8), y), np.full((1, 8), cb), np.full((1, 8), cr)]).astype(np.uint8)
        with subtests.test(name):
            assert np.abs(rgb_of_i420(planes, 6, 4).astype(int) - rgb).max() <= 2
