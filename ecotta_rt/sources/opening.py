"""From what a user writes to a source of frames."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.events import SourceLost
from ecotta_rt.machine.clock import Clock
from ecotta_rt.messages import mask
from ecotta_rt.plugs import plug_for
from ecotta_rt.records import Frame
from ecotta_rt.sources.camera import RTSP, V4L2, Camera, timed
from ecotta_rt.sources.http_camera import HTTP
from ecotta_rt.sources.images import PICTURES
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.patience import Patience
from ecotta_rt.sources.picamera import PICAMERA
from ecotta_rt.sources.pyav import Broken, Picture
from ecotta_rt.sources.replay import REPLAY
from ecotta_rt.sources.source import Source, SourcePlug, SourceRequest
from ecotta_rt.sources.standard_input import EVERY_FRAME, STDIN
from ecotta_rt.sources.synthetic import SYNTHETIC
from ecotta_rt.sources.video import FILM
from ecotta_rt.sources.watched_folder import WATCH

__all__ = ["PLUGS", "Opened", "open_camera", "open_source"]

PLUGS = (REPLAY, SYNTHETIC, RTSP, HTTP, PICAMERA, V4L2, WATCH, EVERY_FRAME, STDIN, FILM, PICTURES)
"""Asked in this order; a new source is a file and its line here, or an entry point of the group `ecotta_rt.sources`."""


def open_source(text: str, *, classes: int | None = None, realtime: bool = False) -> Source:
    """Open a source by its name; nothing is read from it yet.

    Cameras drop what is not taken in time; from files every frame comes, unless `realtime`.

    Args:
        text: A folder of pictures, a picture, a film, `/dev/videoN`, `rtsp://...`, `http://...`,
            `replay:FOLDER[:CORRUPTION[:SEVERITY]]`, `picamera:`, `watch:FOLDER`, `-` (standard input),
            `synthetic:NAME`, or what an installed plug recognises.
        classes: Labels of a replay must be below it.
        realtime: Play a film at its own rate, and drop what is not taken in time.

    Raises:
        UsageError: It is none of these, or `realtime` is asked of anything but a film.
        InputFileError: A file is missing or of another kind.
        Unavailable: No such camera, PyAV is needed and not installed, or an installed plug is broken.
    """
    plug = _plug(text)
    if realtime and not plug.paced:
        raise UsageError(f"--realtime is for films, and {mask(text)} is none: cameras are live, pictures have no rate")
    source = plug.opens(text, SourceRequest(classes, realtime))
    return Newest(source) if plug.live or realtime else source


@dataclass(frozen=True)
class Opened:
    """A source for somebody who reads it in a thread of its own.

    Attributes:
        source: Gives every frame there is, one after the other.
        live: Frames come whether they are taken or not: of those the newest is kept. Else they wait to be taken.
    """

    source: Source
    live: bool


def open_camera(text: str, patience: Patience, *, classes: int | None = None, clock: Clock | None = None) -> Opened:
    """Open a source for somebody who reads it in a thread of its own, for months.

    A camera does not end: it is waited for. A film plays at its own rate, and then it is live.

    Args:
        text: See `open_source`.
        patience: How long a camera that is away is waited for.
        classes: See `open_source`.
        clock: Dates the frames, and waits; None: the machine's.

    Raises:
        As `open_source`; a camera that is waited for from the start is not missed here.
    """
    plug = _plug(text)
    request = SourceRequest(classes, plug.paced, patience, clock)
    theirs = plug.live and plug not in PLUGS
    return Opened(_kept(plug, text, request) if theirs else plug.opens(text, request), plug.live or plug.paced)


def _plug(text: str) -> SourcePlug:
    plug = plug_for(text, PLUGS, SourcePlug, "ecotta_rt.sources")
    if plug is not None:
        return plug
    shown = mask(text)  # whoever mistypes an address may not read its password in a log
    if "://" in text:
        raise UsageError(
            f"{shown.partition('://')[0]}:// is no source we know; streams are rtsp://, rtsps://, http:// or https://"
        )
    *others, last = (plug.shown for plug in reversed(PLUGS))
    raise InputFileError(f"{shown}: no such file or folder; a source is {', '.join(others)} or {last}")


def _kept(plug: SourcePlug, text: str, request: SourceRequest) -> Camera:
    """Somebody's camera, with our patience: opened again each time it ends or fails."""

    def connect() -> Generator[Picture | Broken, None, None]:
        with closing(iter(plug.opens(text, request))) as items:
            for item in items:
                if isinstance(item, Frame):
                    yield Picture(item.pixels, None, item.damaged, item.time_s)
                elif not isinstance(item, SourceLost):
                    yield Broken(item.why)

    advice = f"It is opened by a plug: {plug.shown}"
    return Camera(timed(connect, request.patience), mask(text), advice, request.clock, request.patience)
