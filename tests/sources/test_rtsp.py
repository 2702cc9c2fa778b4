"""A camera on the network, played by a real RTSP server (GStreamer's, which .ci/run installs)."""

import contextlib
import gc
import os
import shutil
import signal
import subprocess

import numpy as np
import psutil
import pytest

from ecotta_rt.events import SourceLost
from ecotta_rt.records import Frame
from ecotta_rt.sources import camera as camera_module
from ecotta_rt.sources.camera import rtsp_camera
from ecotta_rt.sources.patience import Patience

av = pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")

FRAMES = 40

# Run by the system's Python: GStreamer's bindings come with Debian's packages. Arguments: a film, a port or 0.
SERVER = """
import sys
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
for part in ("matroskademux", "h264parse", "rtph264pay"):
    if Gst.ElementFactory.find(part) is None:
        sys.exit(f"GStreamer has no {part}")
server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
server.set_address("127.0.0.1")
server.set_service(sys.argv[2])
factory.set_launch(f"( filesrc location={sys.argv[1]} ! matroskademux ! h264parse ! rtph264pay name=pay0 pt=96 )")
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Whose one key frame is the first."""
    path = tmp_path_factory.mktemp("rtsp") / "film.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "1000", "bf": "0", "sc_threshold": "0"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        scene = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        for i in range(FRAMES):
            shown = np.ascontiguousarray(np.roll(scene, 2 * i, 1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@contextlib.contextmanager
def rtsp_server(film, port=0, signals=None):
    """The port where it listens; 0: any that is free. A list for `signals` gets what sends them to it."""
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        pytest.skip("no /usr/bin/python3 to run GStreamer's RTSP server with")
    command = [python, "-c", SERVER, str(film), str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, close_fds=True)
    try:
        told = server.stdout.readline()
        if not told:
            why = (server.stderr.read().strip().splitlines() or ["it ended"])[-1]
            pytest.skip(f"no RTSP server: {why}; apt-get install gir1.2-gst-rtsp-server-1.0 and GStreamer's plugins")
        if signals is not None:
            signals.append(server.send_signal)
        yield int(told)
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
def port(film):
    with rtsp_server(film) as port:
        yield port


def test_a_stream_shows_its_pictures_from_the_first_key_frame_on(port):
    """A camera may send the next key frame after many seconds: the one read to find out about the stream has to do."""
    camera = rtsp_camera(f"rtsp://user:secret@127.0.0.1:{port}/live")
    seen = []
    for item in camera:
        assert isinstance(item, Frame), item
        seen.append(item)
        if len(seen) == FRAMES // 2:
            camera.close()

    assert [frame.index for frame in seen] == list(range(FRAMES // 2))
    assert {frame.name for frame in seen} == {f"rtsp://***@127.0.0.1:{port}/live"}
    assert not any(frame.damaged for frame in seen)
    assert all(frame.pixels.shape == (96, 128, 3) and frame.pixels.std() > 20 for frame in seen)


def test_a_server_that_dies_and_comes_back_is_a_loss_and_then_frames_again(film):
    patience = Patience((0.05,), unending=True, from_start=True)
    with rtsp_server(film) as port:
        camera = rtsp_camera(f"rtsp://127.0.0.1:{port}/live", patience=patience)
        items = iter(camera)
        assert isinstance(next(items), Frame)
    lost = next(item for item in items if not isinstance(item, Frame))
    attempts = camera.attempts

    with rtsp_server(film, port):
        back = next(items)
        items.close()

    assert isinstance(lost, SourceLost)
    assert isinstance(back, Frame)
    assert back.index == lost.index + 1
    assert camera.attempts > attempts


def test_a_server_that_says_nothing_any_more_is_a_loss(film, monkeypatch):
    monkeypatch.setattr(camera_module, "_TIMEOUT_S", 0.5)
    signals = []
    with rtsp_server(film, signals=signals) as port:
        items = iter(rtsp_camera(f"rtsp://127.0.0.1:{port}/live"))
        assert isinstance(next(items), Frame)
        signals[0](signal.SIGSTOP)
        lost = next(item for item in items if not isinstance(item, Frame))
        items.close()
        signals[0](signal.SIGCONT)

    assert isinstance(lost, SourceLost)
    assert "reading stopped half-way" in lost.why


@pytest.mark.slow
def test_many_connections_leave_no_descriptor_and_no_memory(port):
    def held():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), psutil.Process().memory_full_info().pss

    def connect_once():
        items = iter(rtsp_camera(f"rtsp://127.0.0.1:{port}/live"))
        assert isinstance(next(items), Frame)
        items.close()

    for _ in range(20):
        connect_once()
    before = held()
    for _ in range(60):
        connect_once()
    after = held()

    assert after[0] == before[0]
    assert after[1] - before[1] < 2 * 2**20
