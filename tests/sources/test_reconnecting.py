"""What a camera that comes and goes for months leaves behind: no thread, no descriptor, no memory."""

import gc
import io
import itertools
import os
import threading
from dataclasses import replace

import numpy as np
import psutil
import pytest

from ecotta_rt.errors import Unavailable
from ecotta_rt.events import SourceLost
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sources.camera import Camera, timed
from ecotta_rt.sources.http_camera import http_camera
from ecotta_rt.sources.patience import unending
from ecotta_rt.sources.pyav import Picture
from fixtures.http_server import http_camera_at, streamed

PATIENCE_S = 30
MIB = 2**20


def held():
    """Threads, open descriptors, and bytes of this process, pages that it shares counted in part."""
    for thread in threading.enumerate():
        if thread.name == "camera":
            thread.join(PATIENCE_S)
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd")), psutil.Process().memory_full_info().pss


def flapping(clock, patience):
    """A camera with a picture of 300 kB that is lost after two of them, for ever."""

    def connect():
        for _ in range(2):
            clock.advance_s(5.0)
            yield Picture(np.zeros((320, 320, 3), np.uint8), None)
        raise Unavailable("connection reset")

    return Camera(timed(connect, patience), "door", "", clock, patience)


def lose(camera, times):
    losses = (item for item in camera if isinstance(item, SourceLost))
    return sum(1 for _ in itertools.islice(losses, times))


@pytest.mark.parametrize("hang_s", [None, PATIENCE_S])
def test_a_camera_that_comes_and_goes_leaves_no_thread_and_no_descriptor(hang_s):
    camera = flapping(ManualClock(), replace(unending(), hang_s=hang_s))
    lose(camera, 1)
    before = held()

    assert lose(camera, 200) == 200

    assert held()[:2] == before[:2]
    assert camera.losses == 201


def test_a_connection_over_http_is_closed_each_time():
    file = io.BytesIO()
    pytest.importorskip("PIL.Image").new("RGB", (16, 16)).save(file, "JPEG")

    with http_camera_at(lambda handler: streamed(handler, 2 * [file.getvalue()])) as server:
        camera = http_camera(f"{server.url}/live", ManualClock(), unending())
        lose(camera, 1)
        before = held()[1]

        assert lose(camera, 50) == 50

        # The server's own end of a connection may take a moment longer.
        assert held()[1] <= before + 2


@pytest.mark.slow
def test_ten_thousand_losses_leave_memory_as_it_was():
    clock = ManualClock()
    camera = flapping(clock, unending())
    lose(camera, 500)
    before = held()

    assert lose(camera, 10_000) == 10_000

    threads, descriptors, size = held()
    assert (threads, descriptors) == before[:2]
    assert abs(size - before[2]) < 2 * MIB
    assert clock.now_s() > 86_400
