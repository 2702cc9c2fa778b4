"""From what a user writes to a source of frames."""

from pathlib import Path

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.messages import mask
from ecotta_rt.sources.camera import rtsp_camera, v4l2_camera
from ecotta_rt.sources.image_file import IMAGE_SUFFIXES
from ecotta_rt.sources.images import Images
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.replay import CifarReplay
from ecotta_rt.sources.source import Source
from ecotta_rt.sources.video import VideoFile

__all__ = ["open_source"]

_REPLAY = "replay:"
_DEVICES = "/dev/"
_STREAMS = ("rtsp://", "rtsps://")


def open_source(text: str, *, classes: int | None = None, realtime: bool = False) -> Source:
    """Open a source by its name; nothing is read from it yet.

    Cameras drop what is not taken in time; from files every frame comes, unless `realtime`.

    Args:
        text: A folder of pictures, a picture, a film, `/dev/videoN`, `rtsp://...`, or
            `replay:FOLDER[:CORRUPTION[:SEVERITY]]`.
        classes: Labels of a replay must be below it.
        realtime: Play a film at its own rate, and drop what is not taken in time.

    Raises:
        UsageError: It is none of these, or `realtime` is asked of anything but a film.
        InputFileError: A file is missing or of another kind.
        Unavailable: No such camera, or PyAV is needed and not installed.
    """
    path, shown = Path(text), mask(text)  # whoever mistypes an address may not read its password in a log
    stream = text.lower().startswith(_STREAMS)
    live = stream or text.startswith(_DEVICES)
    if not live and "://" in text:
        raise UsageError(f"{shown.partition('://')[0]}:// is no source we know; streams are rtsp:// or rtsps://")
    film = not live and not text.startswith(_REPLAY) and path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES
    if realtime and not film:
        raise UsageError(f"--realtime is for films, and {shown} is none: cameras are live, pictures have no rate")
    if stream:
        return Newest(rtsp_camera(text))
    if live:
        return Newest(v4l2_camera(text))
    if text.startswith(_REPLAY):
        return _replay(text, classes)
    if film:
        return Newest(VideoFile(path, realtime=True)) if realtime else VideoFile(path)
    if not path.exists():
        raise InputFileError(
            f"{shown}: no such file or folder; a source is a folder of pictures, a film, /dev/video0, rtsp://HOST/PATH"
            f" or replay:FOLDER"
        )
    return Images(path)


def _replay(text: str, classes: int | None) -> CifarReplay:
    folder, _, rest = text.removeprefix(_REPLAY).partition(":")
    corruption, _, severity = rest.partition(":")
    if not folder or not ((severity.isascii() and severity.isdigit()) or not severity):
        raise UsageError(f"{text}: write replay:FOLDER, replay:FOLDER:fog, or replay:FOLDER:fog:5")
    return CifarReplay(folder, corruption or None, int(severity) if severity else None, classes=classes)
