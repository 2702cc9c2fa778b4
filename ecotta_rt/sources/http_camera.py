"""A camera on the network that speaks HTTP: a stream of JPEG pictures (MJPEG), or one picture at an address.

    http://192.168.1.20/stream.mjpg               multipart/x-mixed-replace: pictures as they come
    http://192.168.1.20/snapshot.jpg#every=5      image/jpeg: asked for again every 5 seconds

What stands behind # is for us, and is never sent. User and password in the address are given as the camera asks for
them, basic or digest. Redirections are not followed, and proxies not asked.
"""

import io
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ecotta_rt.errors import BadFrames, Unavailable, UsageError
from ecotta_rt.files.fields import Limit
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.messages import mask
from ecotta_rt.sources.camera import Camera
from ecotta_rt.sources.multipart import MOST_PART_BYTES, boundary_of, parts_of
from ecotta_rt.sources.patience import GIVES_UP, Patience
from ecotta_rt.sources.picture import read_picture, require_pillow
from ecotta_rt.sources.pyav import Broken, Picture
from ecotta_rt.sources.query import read_query
from ecotta_rt.sources.source import SourcePlug

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import HTTPDigestAuthHandler, OpenerDirector, Request

__all__ = ["HTTP", "HttpOptions", "http_camera"]

_TIMEOUT_S = 10.0
_SNAPSHOT_S = 60.0
_READ_BYTES = 1 << 16
_SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class HttpOptions:
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
    opener = _opener(address, options.verify)

    def connect() -> Generator[Picture | Broken, None, None]:
        with opener() as response:
            kind = response.headers.get_content_type()
            if kind == "multipart/x-mixed-replace":
                yield from _stream(response, clock)
                return
            if not kind.startswith("image/"):
                raise Unavailable(f"its answer is {kind}; expected multipart/x-mixed-replace (MJPEG) or a picture")
            yield _decoded(_whole(response, clock))
        camera.pause(options.every)
        while not camera.closed:
            with opener() as response:
                yield _decoded(_whole(response, clock))
            camera.pause(options.every)

    advice = "Check address, port, path, user and password; does `curl --max-time 5 --output /dev/null URL` reach it?"
    camera = Camera(connect, shown, advice, clock, patience)
    return camera


def _stream(response: "HTTPResponse", clock: Clock) -> Generator[Picture | Broken, None, None]:
    boundary = boundary_of(response.headers.get("Content-Type", ""))
    for body in parts_of(_reader(response), boundary, clock.now_s):
        yield _decoded(body)


def _whole(response: "HTTPResponse", clock: Clock) -> bytes:
    read, content, until_s = _reader(response), bytearray(), clock.now_s() + _SNAPSHOT_S
    while new := read():
        content += new
        if len(content) > MOST_PART_BYTES or clock.now_s() > until_s:
            raise Unavailable(f"a picture of more than {MOST_PART_BYTES} bytes, or one that took {_SNAPSHOT_S:g} s")
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
            raise Unavailable(f"reading stopped half-way ({_why(error)})") from error

    return read


def _asked(url: str) -> tuple[str, HttpOptions]:
    address, _, fragment = url.partition("#")
    shown = mask(address)
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{shown}: no address ({error}); expected http://HOST[:PORT]/PATH") from None
    if not host or not address.isascii() or not address.isprintable() or " " in address:
        raise UsageError(f"{shown}: no address; expected http://HOST[:PORT]/PATH, with %20 for a space")
    return address, read_query(shown, fragment, HttpOptions)


def _opener(address: str, verify: bool) -> "Callable[[], HTTPResponse]":
    """Asks for an address; errors are ours."""
    parts = urlsplit(address)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    made: list[OpenerDirector] = []

    def ask() -> "HTTPResponse":
        from http.client import HTTPException

        if not made:
            made.append(_director(bare, parts.username, parts.password, verify))
        try:
            response: HTTPResponse = made[0].open(bare, timeout=_TIMEOUT_S)
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(_why(error)) from None
        return response

    return ask


def _director(bare: str, user: str | None, password: str | None, verify: bool) -> "OpenerDirector":
    """Of urllib's handlers those alone that we mean: no files, no FTP, no redirections, no proxies."""
    import ssl
    from urllib import request

    director = request.OpenerDirector()
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers = [
        request.HTTPHandler(),
        request.HTTPSHandler(context=context),
        request.HTTPErrorProcessor(),
        request.HTTPDefaultErrorHandler(),
    ]
    if user is not None:
        known = request.HTTPPasswordMgrWithDefaultRealm()
        known.add_password(None, bare, unquote(user), unquote(password or ""))
        handlers += [_digest()(known), request.HTTPBasicAuthHandler(known)]
    for handler in handlers:
        director.add_handler(handler)
    return director


def _digest() -> "type[HTTPDigestAuthHandler]":
    from urllib.request import HTTPDigestAuthHandler

    class Once(HTTPDigestAuthHandler):
        """Of its own it sends a wrong password five times, and there are cameras that lock a user out for that."""

        def http_error_401(self, req: "Request", fp: Any, code: int, msg: str, headers: Any) -> Any:
            fp.close()  # the first that is asked, and none needs what is in it
            return super().http_error_401(req, fp, code, msg, headers)

        def retry_http_digest_auth(self, req: "Request", auth: str) -> Any:
            if req.has_header(self.auth_header):
                raise Unavailable("HTTP 401 Unauthorized")
            return super().retry_http_digest_auth(req, auth)

    return Once


def _why(error: Exception) -> str:
    """In a few words, and without the address."""
    from urllib.error import HTTPError, URLError

    if isinstance(error, HTTPError):
        error.close()
        target = error.headers.get("Location")
        moved = f", to {mask(target)[:200]}" if target else ""
        return f"HTTP {error.code} {error.reason}{moved}"
    if isinstance(error, URLError):
        reason = error.reason
        return str(getattr(reason, "strerror", None) or reason)
    if isinstance(error, TimeoutError):
        return f"nothing came for {_TIMEOUT_S:g} s"
    return str(getattr(error, "strerror", None) or type(error).__name__)


HTTP = SourcePlug(
    shown="http://HOST/PATH",
    recognises=lambda text: text.lower().startswith(_SCHEMES),
    opens=lambda text, request: http_camera(text, request.clock, request.patience),
    checks=_asked,
    live=True,
)
