"""From what a user writes to a source of frames."""

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.messages import mask
from ecotta_rt.plugs import plug_for
from ecotta_rt.sources.camera import RTSP, V4L2
from ecotta_rt.sources.images import PICTURES
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.replay import REPLAY
from ecotta_rt.sources.source import Source, SourcePlug, SourceRequest
from ecotta_rt.sources.synthetic import SYNTHETIC
from ecotta_rt.sources.video import FILM

__all__ = ["PLUGS", "open_source"]

PLUGS = (REPLAY, SYNTHETIC, RTSP, V4L2, FILM, PICTURES)
"""Asked in this order; a new source is a file and its line here, or an entry point of the group `ecotta_rt.sources`."""


def open_source(text: str, *, classes: int | None = None, realtime: bool = False) -> Source:
    """Open a source by its name; nothing is read from it yet.

    Cameras drop what is not taken in time; from files every frame comes, unless `realtime`.

    Args:
        text: A folder of pictures, a picture, a film, `/dev/videoN`, `rtsp://...`,
            `replay:FOLDER[:CORRUPTION[:SEVERITY]]`, `synthetic:NAME`, or what an installed plug recognises.
        classes: Labels of a replay must be below it.
        realtime: Play a film at its own rate, and drop what is not taken in time.

    Raises:
        UsageError: It is none of these, or `realtime` is asked of anything but a film.
        InputFileError: A file is missing or of another kind.
        Unavailable: No such camera, PyAV is needed and not installed, or an installed plug is broken.
    """
    plug = plug_for(text, PLUGS, SourcePlug, "ecotta_rt.sources")
    shown = mask(text)  # whoever mistypes an address may not read its password in a log
    if plug is None and "://" in text:
        raise UsageError(f"{shown.partition('://')[0]}:// is no source we know; streams are rtsp:// or rtsps://")
    if realtime and not (plug and plug.paced):
        raise UsageError(f"--realtime is for films, and {shown} is none: cameras are live, pictures have no rate")
    if plug is None:
        *others, last = (plug.shown for plug in reversed(PLUGS))
        raise InputFileError(f"{shown}: no such file or folder; a source is {', '.join(others)} or {last}")
    source = plug.opens(text, SourceRequest(classes, realtime))
    return Newest(source) if plug.live or realtime else source
