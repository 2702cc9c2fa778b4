"""A film as a stream: every frame of it, or, at its own pace, as a camera would have shown it."""

from collections.abc import Generator
from contextlib import closing
from os.path import isfile  # Path.is_file raises where a name is too long or nobody may look
from pathlib import Path

from ecotta_rt.errors import InputFileError
from ecotta_rt.events import Item, Refusal
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.image_file import IMAGE_SUFFIXES
from ecotta_rt.sources.pyav import Broken, pictures, require_av
from ecotta_rt.sources.source import SourcePlug

__all__ = ["FILM", "FORMATS", "VideoFile"]

FORMATS = (
    *("mov", "mp4", "3gp", "matroska", "webm", "avi", "mpeg", "mpegts", "mpegvideo", "ogg", "asf", "flv", "live_flv"),
    *("ivf", "nut", "mxf", "gxf", "rm", "dv", "wtv", "nsv", "dhav", "swf", "nuv", "flic", "yuv4mpegpipe", "image2pipe"),
    *("h261", "h263", "h264", "hevc", "vvc", "evc", "m4v", "obu", "av1", "vc1", "avs2", "avs3", "cavsvideo", "dirac"),
    *("mjpeg", "mpjpeg", "gif", "apng", "jpeg_pipe", "png_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "gif_pipe"),
)
"""FFmpeg's names of the formats that hold their pictures themselves. Left out are lists of other files (hls, concat,
dash, sdp, image2, webm_dash_manifest, vobsub): one that names itself never ends, and others would be opened for it."""


class VideoFile:
    """The frames of a film, in order.

    Args:
        path: A file of any format that FFmpeg reads.
        realtime: Hand a frame out no earlier than the film shows it. Nothing is dropped here: see `newest`.
        clock: Dates the frames, and waits where `realtime`.

    Raises:
        InputFileError: No such file; when iterated: not a film, or it cannot be read to its end.
        Unavailable: PyAV is not installed.
    """

    dropped = 0

    def __init__(self, path: str | Path, *, realtime: bool = False, clock: Clock | None = None) -> None:
        self._path = Path(path)
        self._realtime = realtime
        self._clock = clock or SystemClock()
        self._closed = False
        if not isfile(self._path):
            raise InputFileError(f"{path}: no such file")
        require_av()

    def __iter__(self) -> Generator[Item, None, None]:
        # `file:` and the list of protocols, since FFmpeg reads names such as `http:x` and playlists as addresses.
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
        start_s = self._clock.now_s()
        with closing(pictures(f"file:{self._path}", self._fail, strict=True, options=options)) as found:
            for index, picture in enumerate(found):
                if self._closed:
                    return
                if isinstance(picture, Broken):
                    yield Refusal(index, self._path.name, picture.why)
                    continue
                at_s = picture.time_s
                if self._realtime and at_s is not None:
                    self._clock.sleep_s(start_s + at_s - self._clock.now_s())
                name = self._path.name if at_s is None else f"{self._path.name} at {at_s:.3f} s"
                yield Frame(picture.pixels, index, self._clock.now_s(), name, damaged=picture.damaged)

    def close(self) -> None:
        self._closed = True

    def _fail(self, why: str) -> InputFileError:
        return InputFileError(f"{self._path}: {why}; expected a film that FFmpeg can read, and no list of other files")


def _is_film(text: str) -> bool:
    path = Path(text)
    return "://" not in text and isfile(path) and path.suffix.lower() not in IMAGE_SUFFIXES


FILM = SourcePlug(
    shown="a film",
    recognises=_is_film,
    opens=lambda text, request: VideoFile(text, realtime=request.realtime),
    needs=lambda text: require_av(),
    paced=True,
)
