"""A camera on this machine (V4L2) or on the network (RTSP), which comes back by itself when it was lost."""

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from os.path import exists
from pathlib import Path

from ecotta_rt.errors import EcottaError, Unavailable
from ecotta_rt.events import Item, Refusal, SourceLost
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.messages import mask
from ecotta_rt.records import Frame
from ecotta_rt.sources.patience import GIVES_UP, Patience
from ecotta_rt.sources.pyav import Broken, Picture, pictures, require_av
from ecotta_rt.sources.source import SourcePlug
from ecotta_rt.sources.timed_reads import TimedReads

__all__ = ["RTSP", "V4L2", "Camera", "Connect", "rtsp_camera", "timed", "v4l2_camera"]

Connect = Callable[[], Generator[Picture | Broken, None, None]]
"""Opens the camera and yields what it shows; raises `Unavailable` where it cannot, or when it is lost."""

_TIMEOUT_S = 10.0
_PAUSE_S = 0.5  # how long a camera that was closed may go on waiting
_OLDEST_S = 5.0  # a picture that claims to be older was dated by another clock

# TCP: a lost UDP packet is a damaged picture, and adapting to damage is worse than a late frame.
# Not fflags nobuffer: it throws away what was read to find out about the stream, and with that the first key frame.
_TRANSPORT = {"rtsp_transport": "tcp"}


class Camera:
    """Frames for as long as there is a camera: what a lost one means is a matter of patience.

    With that of `ecotta run`, a camera that cannot be opened at first is an error at once, since it is likely a wrong
    name, and each attempt to connect again is a `SourceLost` in the stream. With an unending one a loss is one
    `SourceLost`, however long it takes.

    Args:
        connect: Opens it.
        name: For frames and messages; holds no password.
        advice: What to try when it does not answer.
        clock: Dates the frames and waits between attempts.
        patience: How long it is waited for.

    Attributes:
        attempts: How often it was tried to connect.
        losses: How often it was lost; a camera that was not there at first counts as one.
        closed: Whether no more frames are wanted.
    """

    dropped = 0

    def __init__(
        self,
        connect: Connect,
        name: str,
        advice: str,
        clock: Clock | None = None,
        patience: Patience = GIVES_UP,
    ) -> None:
        self.attempts = 0
        self.losses = 0
        self._connect = connect
        self._name = name
        self._advice = advice
        self._clock = clock or SystemClock()
        self._patience = patience
        self.closed = False
        self._now_s = -math.inf

    def __iter__(self) -> Generator[Item, None, None]:
        """Raises `Unavailable` where the camera cannot be opened, or is given up."""
        index, tried, lost, waits = 0, 0, False, self._patience.waits_at_start()
        while self._wanted():
            end = yield from self._connected(index)
            if not self._wanted():
                return
            index = end.index
            if end.frames:
                tried, lost = 0, False
                if end.lasted_s >= self._patience.settled_s:
                    waits = self._patience.waits()
            wait_s = next(waits, None)
            if wait_s is None:
                after = f" after {tried} attempts to connect again" if tried else ""
                raise Unavailable(f"{self._name}: {end.why}{after}. {self._advice}") from end.error
            self.losses += not lost
            if not (lost and self._patience.unending):
                yield SourceLost(index, self._name, self._loss(end, wait_s))
                index += 1
            self.pause(wait_s)
            tried, lost = tried + 1, True

    def close(self) -> None:
        self.closed = True

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than there is somebody who wants frames."""
        until_s = self._clock.now_s() + seconds
        while self._wanted() and (left_s := until_s - self._clock.now_s()) > 0:
            self._clock.sleep_s(min(left_s, _PAUSE_S))

    def _wanted(self) -> bool:
        # A method, since another thread may change it at any time.
        return not self.closed

    def _connected(self, index: int) -> Generator[Item, None, "_End"]:
        """What one connection shows, and how it ended."""
        self.attempts += 1
        frames, start_s = 0, self._clock.now_s()
        error: Exception | None = None
        try:
            with closing(self._connect()) as shown:
                for picture in shown:
                    if not self._wanted():
                        break
                    frames += isinstance(picture, Picture)
                    yield self._item(picture, index)
                    index += 1
        except Unavailable as raised:
            error = raised.with_traceback(None)  # else it holds this frame, and with it the last picture, for long
        except Exception as raised:  # of a decoder, a driver, a library: nobody is there to start it again
            if not self._patience.unending:
                raise
            error = raised.with_traceback(None)
        return _End(index, frames, self._clock.now_s() - start_s, error)

    def _item(self, picture: Picture | Broken, index: int) -> Item:
        if isinstance(picture, Broken):
            return Refusal(index, self._name, picture.why)
        self._now_s = max(self._now_s, _captured_s(picture, self._clock.now_s()))
        return Frame(picture.pixels, index, self._now_s, self._name, damaged=picture.damaged)

    def _loss(self, end: "_End", wait_s: float) -> str:
        if not self._patience.unending:
            return f"lost ({end.why}), trying again in {wait_s:g} s"
        return f"{'lost' if end.index else 'not there'} ({end.why}); tried again until it is back"


@dataclass(frozen=True)
class _End:
    """How a connection ended.

    Attributes:
        index: The position after its last item.
        frames: How many it showed.
        lasted_s: How long it stood.
        error: Why it ended, where something went wrong.
    """

    index: int
    frames: int
    lasted_s: float
    error: Exception | None

    @property
    def why(self) -> str:
        if isinstance(self.error, EcottaError):
            return str(self.error)
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error}"
        return "the stream ended" if self.frames else "the stream ended without a picture that can be decoded"


def _captured_s(picture: Picture, now_s: float) -> float:
    """When it was captured, where its driver says so by our clock: `Picture.captured_s`; else when it came."""
    at_s = picture.captured_s
    return at_s if at_s is not None and now_s - _OLDEST_S <= at_s <= now_s else now_s


def v4l2_camera(device: str, clock: Clock | None = None, patience: Patience = GIVES_UP) -> Camera:
    """A camera of this machine.

    Args:
        device: Such as `/dev/video0`.
        clock: See `Camera`.
        patience: See `Camera`; with one that has a `hang_s`, a driver that hangs is left behind.

    Raises:
        Unavailable: PyAV is not installed, or there is no such device and it is not waited for.
    """
    advice = "Is it in use by another program? May you read it (group video)? `v4l2-ctl --list-devices` names cameras"
    if not patience.from_start and not exists(device):
        others = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        raise Unavailable(f"{device}: no such device; there are: {others}. Is the camera plugged in and enabled?")
    require_av()
    connect = partial(pictures, device, Unavailable, strict=False, container="v4l2", dated=True)
    return Camera(timed(connect, patience), device, advice, clock, patience)


def rtsp_camera(url: str, clock: Clock | None = None, patience: Patience = GIVES_UP) -> Camera:
    """A camera on the network.

    Args:
        url: `rtsp://` or `rtsps://`, with user and password where it needs them; those are never shown.
        clock: See `Camera`.
        patience: See `Camera`.

    Raises:
        Unavailable: PyAV is not installed.
    """
    require_av()
    advice = "Check address, port, path, user and password; does `ffprobe -rtsp_transport tcp URL` reach it?"
    connect = partial(pictures, url, Unavailable, strict=False, options=_TRANSPORT, timeout_s=_TIMEOUT_S)
    return Camera(connect, mask(url), advice, clock, patience)


def timed(connect: Connect, patience: Patience) -> Connect:
    """The same, in a thread that is left behind when it hangs, where the patience has a limit for that."""
    return connect if patience.hang_s is None else TimedReads(connect, patience.hang_s)


V4L2 = SourcePlug(
    shown="/dev/video0",
    recognises=lambda text: text.startswith("/dev/"),
    opens=lambda text, request: v4l2_camera(text, request.clock, request.patience),
    needs=lambda text: require_av(),
    live=True,
)
RTSP = SourcePlug(
    shown="rtsp://HOST/PATH",
    recognises=lambda text: text.lower().startswith(("rtsp://", "rtsps://")),
    opens=lambda text, request: rtsp_camera(text, request.clock, request.patience),
    needs=lambda text: require_av(),
    live=True,
)
