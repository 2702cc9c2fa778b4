"""A camera on the network that speaks HTTP: a stream of JPEG pictures (MJPEG), or one picture at an address.

    http://192.168.1.20/stream.mjpg               multipart/x-mixed-replace: pictures as they come
    http://192.168.1.20/snapshot.jpg#every=5      image/jpeg: asked for again every 5 seconds

What stands behind # is for us, and is never sent. User and password in the address are given as the camera asks for
them, basic or digest. Redirections are not followed, and proxies not asked.
"""

import io
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from ecotta_rt.errors import BadFrames, Unavailable, UsageError
from ecotta_rt.files.fields import Limit
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.messages import mask
from ecotta_rt.sources.camera import Camera
from ecotta_rt.sources.http_asking import Asking, why
from ecotta_rt.sources.multipart import MOST_PART_BYTES, boundary_of, parts_of
from ecotta_rt.sources.patience import GIVES_UP, Patience
from ecotta_rt.sources.picture import read_picture, require_pillow
from ecotta_rt.sources.pyav import Broken, Picture
from ecotta_rt.sources.query import read_query
from ecotta_rt.sources.source import SourcePlug

if TYPE_CHECKING:
    from http.client import HTTPResponse

__all__ = ["HTTP", "HttpCameraOptions", "http_camera"]

_READ_BYTES = 1 << 16
_SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class HttpCameraOptions:
    """What stands behind # in the address.

    Attributes:
        every: Seconds from one picture to the next, where each has to be asked for.
        verify: Whether the certificate of an https:// address is checked.
    """

    every: Annotated[float, Limit(0.05, 86400)] = 1.0
    verify: bool = True


def http_camera(url: str, clock: Clock | None = None, patience: Patience = GIVES_UP) -> Camera:
    """A camera that speaks HTTP.

    Args:
        url: `http://` or `https://`, with user and password where it needs them; those are never shown.
        clock: See `Camera`.
        patience: See `Camera`.

    Raises:
        UsageError: The address cannot be meant.
        Unavailable: Pillow is not installed.
    """
    require_pillow()
    (address, options), shown, clock = _asked(url), mask(url), clock or SystemClock()
    asking = Asking(address, clock, lambda: not camera.closed, verify=options.verify)

    def connect() -> Generator[Picture | Broken, None, None]:
        with asking() as response:
            kind = response.headers.get_content_type()
            if kind == "multipart/x-mixed-replace":
                boundary = boundary_of(response.headers.get("Content-Type", ""))
                for body in parts_of(_reader(response), boundary, clock.now_s):
                    asking.arrived()
                    yield _decoded(body)
                return
            if not kind.startswith("image/"):
                raise Unavailable(f"its answer is {kind}; expected multipart/x-mixed-replace (MJPEG) or a picture")
            yield _decoded(_whole(response))
        camera.pause(options.every)
        while not camera.closed:
            with asking() as response:
                yield _decoded(_whole(response))
            camera.pause(options.every)

    advice = "Check address, port, path, user and password; does `curl --max-time 5 --output /dev/null URL` reach it?"
    camera = Camera(connect, shown, advice, clock, patience)
    return camera


def _whole(response: "HTTPResponse") -> bytes:
    read, content = _reader(response), bytearray()
    while new := read():
        content += new
        if len(content) > MOST_PART_BYTES:
            raise Unavailable(f"a picture of more than {MOST_PART_BYTES} bytes, the most we read")
    return bytes(content)


def _decoded(content: bytes) -> Picture | Broken:
    try:
        return Picture(read_picture(io.BytesIO(content)), None)
    except BadFrames as error:
        return Broken(str(error))


def _reader(response: "HTTPResponse") -> Callable[[], bytes]:
    """Reads what is there. `read1`, since `read` waits for as long as somebody sends a byte a second."""
    from http.client import HTTPException

    def read() -> bytes:
        try:
            return response.read1(_READ_BYTES)
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(f"reading stopped half-way ({why(error)})") from error

    return read


def _asked(url: str) -> tuple[str, HttpCameraOptions]:
    address, _, fragment = url.partition("#")
    shown = mask(address)
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{shown}: no address ({error}); expected http://HOST[:PORT]/PATH") from None
    if not host or not address.isascii() or not address.isprintable() or " " in address:
        raise UsageError(f"{shown}: no address; expected http://HOST[:PORT]/PATH, with %20 for a space")
    return address, read_query(shown, fragment, HttpCameraOptions)


HTTP = SourcePlug(
    shown="http://HOST/PATH",
    recognises=lambda text: text.lower().startswith(_SCHEMES),
    opens=lambda text, request: http_camera(text, request.clock, request.patience),
    checks=_asked,
    needs=lambda text: require_pillow(),
    live=True,
)
