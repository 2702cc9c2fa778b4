"""A camera on this machine (V4L2) or on the network (RTSP), which comes back by itself when it was lost."""

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path

from ecotta_rt.errors import Unavailable
from ecotta_rt.events import Item, Refusal, SourceLost
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.messages import mask
from ecotta_rt.records import Frame
from ecotta_rt.sources.pyav import Broken, Picture, pictures, require_av
from ecotta_rt.sources.source import SourcePlug

__all__ = ["RETRY_S", "RTSP", "V4L2", "Camera", "Connect", "rtsp_camera", "v4l2_camera"]

RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)
"""Waits before connecting again, in seconds; when all are used up without a frame, the camera is given up."""

Connect = Callable[[], Generator[Picture | Broken, None, None]]
"""Opens the camera and yields what it shows; raises `Unavailable` where it cannot, or when it is lost."""

_TIMEOUT_S = 10.0

# TCP: a lost UDP packet is a damaged picture, and adapting to damage is worse than a late frame.
# Not fflags nobuffer: it throws away what was read to find out about the stream, and with that the first key frame.
_TRANSPORT = {"rtsp_transport": "tcp"}


class Camera:
    """Frames for as long as there is a camera.

    A camera that cannot be opened at first is an error at once: it is likely a wrong name. One that was lost is tried
    again after each of `RETRY_S`, and every loss is a `SourceLost` in the stream.

    Args:
        connect: Opens it.
        name: For frames and messages; holds no password.
        advice: What to try when it does not answer.
        clock: Dates the frames and waits between attempts.
    """

    dropped = 0

    def __init__(self, connect: Connect, name: str, advice: str, clock: Clock | None = None) -> None:
        self._connect = connect
        self._name = name
        self._advice = advice
        self._clock = clock or SystemClock()
        self._closed = False

    def __iter__(self) -> Generator[Item, None, None]:
        """Raises `Unavailable` where the camera cannot be opened, or does not come back."""
        index = 0
        failures = len(RETRY_S)
        while self._wanted():
            why, cause = "the stream ended" if index else "the stream ended without a picture that can be decoded", None
            try:
                with closing(self._connect()) as shown:
                    for picture in shown:
                        if not self._wanted():
                            return
                        if isinstance(picture, Broken):
                            yield Refusal(index, self._name, picture.why)
                        else:
                            failures = 0
                            now_s = self._clock.now_s()
                            yield Frame(picture.pixels, index, now_s, self._name, damaged=picture.damaged)
                        index += 1
            except Unavailable as error:
                why, cause = str(error), error
            if not self._wanted():
                return
            if failures == len(RETRY_S):
                tried = f" after {failures} attempts to connect again" if index else ""
                raise Unavailable(f"{self._name}: {why}{tried}. {self._advice}") from cause
            wait_s = RETRY_S[failures]
            yield SourceLost(index, self._name, f"lost ({why}), trying again in {wait_s:g} s")
            self._clock.sleep_s(wait_s)
            index, failures = index + 1, failures + 1

    def close(self) -> None:
        self._closed = True

    def _wanted(self) -> bool:
        # A method, since another thread may change it at any time.
        return not self._closed


def v4l2_camera(device: str, clock: Clock | None = None) -> Camera:
    """A camera of this machine.

    Args:
        device: Such as `/dev/video0`.
        clock: See `Camera`.

    Raises:
        Unavailable: There is no such device, or PyAV is not installed.
    """
    advice = "Is it in use by another program? May you read it (group video)? `v4l2-ctl --list-devices` names cameras"
    if not Path(device).exists():
        others = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        raise Unavailable(f"{device}: no such device; there are: {others}. Is the camera plugged in and enabled?")
    require_av()
    return Camera(partial(pictures, device, Unavailable, strict=False, container="v4l2"), device, advice, clock)


def rtsp_camera(url: str, clock: Clock | None = None) -> Camera:
    """A camera on the network.

    Args:
        url: `rtsp://` or `rtsps://`, with user and password where it needs them; those are never shown.
        clock: See `Camera`.

    Raises:
        Unavailable: PyAV is not installed.
    """
    require_av()
    advice = "Check address, port, path, user and password; does `ffprobe -rtsp_transport tcp URL` reach it?"
    connect = partial(pictures, url, Unavailable, strict=False, options=_TRANSPORT, timeout_s=_TIMEOUT_S)
    return Camera(connect, mask(url), advice, clock)


V4L2 = SourcePlug(
    shown="/dev/video0",
    recognises=lambda text: text.startswith("/dev/"),
    opens=lambda text, request: v4l2_camera(text),
    live=True,
)
RTSP = SourcePlug(
    shown="rtsp://HOST/PATH",
    recognises=lambda text: text.lower().startswith(("rtsp://", "rtsps://")),
    opens=lambda text, request: rtsp_camera(text),
    live=True,
)
