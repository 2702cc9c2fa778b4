"""Whether cameras can be what a configuration says: known kinds, addresses that parse, each device once."""

import re
from collections.abc import Iterator, Sequence
from os.path import realpath

from ecotta_rt.daemon.configuration.tables import CameraOptions
from ecotta_rt.errors import EcottaError
from ecotta_rt.files.fields import FieldPath
from ecotta_rt.messages import mask
from ecotta_rt.plugs import plug_for
from ecotta_rt.sources.opening import PLUGS
from ecotta_rt.sources.source import SourcePlug

__all__ = ["source_faults"]

_LONGEST = 200  # characters
_ONE_READER = re.compile("stdin:|picamera:[0-9]*", re.ASCII)
_SCHEMES = ("rtsp", "rtsps")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s:\[\]@]+)(?::([0-9]{1,5}))?", re.ASCII)


def source_faults(cameras: Sequence[CameraOptions]) -> Iterator[tuple[FieldPath, str]]:
    """What is wrong with the sources, by place."""
    seen: dict[str, str] = {}
    for at, camera in enumerate(cameras):
        for problem in _faults(camera.source):
            yield ("camera", at, "source"), problem
        device = _device(camera.source)
        other = camera.name if device is None else seen.setdefault(device, camera.name)
        if other != camera.name:  # two readers of one device keep each other out
            problem = f"{camera.source} is the device of camera {other!r}; each needs its own"
            yield ("camera", at, "source"), problem


def _faults(source: str) -> Iterator[str]:
    try:
        plug = plug_for(source, PLUGS, SourcePlug, "ecotta_rt.sources")
        if plug is not None:
            plug.checks(source)
    except EcottaError as error:
        yield str(error)
    except OSError as error:  # a name that is too long, a folder that nobody may look into
        yield f"expected a source that can be read, found {mask(source)[:_LONGEST]}: {error.strerror}"
    else:
        if plug is None:
            known, found = ", ".join(plug.shown for plug in reversed(PLUGS)), mask(source)[:_LONGEST]
            yield f"expected one of {known}, found {found}; there is no such file or folder, if it is one"
        yield from _address_faults(source)


def _address_faults(source: str) -> Iterator[str]:
    """A camera that is away is waited for, and one whose address nobody can parse would be for ever."""
    scheme, _, rest = source.partition("://")
    if scheme.lower() not in _SCHEMES:
        return
    host = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    parsed = _HOST.fullmatch(host)
    if parsed is None or not 0 < int(parsed[1] or 1) < 1 << 16:
        hint = "within a user or password write / as %2F, : as %3A and @ as %40"
        yield f"expected {scheme}://HOST or {scheme}://HOST:PORT before the path, found {mask(source)}; {hint}"


def _device(source: str) -> str | None:
    """What only one can read; None: others may read the source, too."""
    bare = source.partition("?")[0]
    if bare.startswith("/dev/"):
        return realpath(bare)
    return {"-": "stdin:", "picamera:0": "picamera:"}.get(bare, bare if _ONE_READER.fullmatch(bare) else None)
