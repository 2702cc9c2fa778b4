"""Ask a camera over HTTP, and wait no longer than it takes an honest one to answer.

The time limit of a socket is for one read: who sends a byte now and then is never late by it. So there is a look at
the clock before each read, until the first picture is whole.
"""

import math
from collections.abc import Callable
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ecotta_rt.errors import Unavailable
from ecotta_rt.machine.clock import Clock
from ecotta_rt.messages import mask

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import HTTPDigestAuthHandler, OpenerDirector, Request

__all__ = ["Asking", "why"]

_TIMEOUT_S = 10.0
_FIRST_S = 30.0
_MOST_HEAD_BYTES = 1 << 18  # a server may say "100 Continue" for ever


class Asking:
    """Asks one address, as often as it is called.

    Args:
        address: With user and password where it needs them.
        clock: Tells how long it takes.
        wanted: Whether anything is still wanted; asked before each read.
        verify: Whether a certificate is checked.
    """

    def __init__(self, address: str, clock: Clock, wanted: Callable[[], bool], *, verify: bool) -> None:
        self._parts = urlsplit(address)
        self._clock, self._wanted, self._verify = clock, wanted, verify
        self._made: OpenerDirector | None = None
        self._until_s = math.inf
        self._head_bytes: float = 0

    def __call__(self) -> "HTTPResponse":
        """Its answer, headers read.

        Raises:
            Unavailable: There is none, another one than wanted, or none in time.
        """
        from http.client import HTTPException

        parts = self._parts
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        if self._made is None:
            self._made = _director(bare, parts.username, parts.password, self._verify, self._look)
        self._until_s, self._head_bytes = self._clock.now_s() + _FIRST_S, 0
        try:
            response: HTTPResponse = self._made.open(bare, timeout=_TIMEOUT_S)
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(why(error)) from None
        self._head_bytes = -math.inf  # what follows has limits of its own
        return response

    def arrived(self) -> None:
        """The first picture is there: it is a camera."""
        self._until_s = math.inf

    def _look(self, came: int) -> None:
        self._head_bytes += came
        if not self._wanted():
            raise Unavailable("nothing of it is wanted any more")
        if self._head_bytes > _MOST_HEAD_BYTES:
            raise Unavailable(f"headers of more than {_MOST_HEAD_BYTES} bytes, the most we read")
        if self._clock.now_s() > self._until_s:
            raise Unavailable(f"no whole picture within {_FIRST_S:g} s of asking for it")


def _director(
    bare: str, user: str | None, password: str | None, verify: bool, look: Callable[[int], None]
) -> "OpenerDirector":
    """Of urllib's handlers those alone that we mean: no files, no FTP, no redirections, no proxies."""
    import ssl
    from urllib import request

    class Looking(request.AbstractHTTPHandler):
        def do_open(self, http_class: Any, req: "Request", **given: Any) -> "HTTPResponse":
            def connection(host: str, **options: Any) -> Any:
                return _looked_at(http_class(host, **options), look)

            return super().do_open(connection, req, **given)

    class Plain(Looking, request.HTTPHandler):
        pass

    class Secure(Looking, request.HTTPSHandler):
        pass

    director = request.OpenerDirector()
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers = [
        Plain(),
        Secure(context=context),
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


def _looked_at(connection: Any, look: Callable[[int], None]) -> Any:
    """One whose answer is read with a look at the limits before each read."""
    response = connection.response_class

    def begun(*args: Any, **options: Any) -> Any:
        made = response(*args, **options)
        made.fp = BufferedReader(_Looked(made.fp.detach(), look))
        return made

    connection.response_class = begun
    return connection


class _Looked(RawIOBase):
    """Bytes of a connection.

    Args:
        raw: Where they come from.
        look: Told before each read how many bytes came by the one before.
    """

    def __init__(self, raw: RawIOBase, look: Callable[[int], None]) -> None:
        self._raw, self._look, self._came = raw, look, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._look(self._came)
        count = self._raw.readinto(buffer)
        self._came = count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


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


def why(error: Exception) -> str:
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
