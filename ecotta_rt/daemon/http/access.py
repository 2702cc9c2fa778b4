"""Who asks, and may he: token, cookie, name of the host, and where a change comes from.

    a program    Authorization: Bearer TOKEN
    a browser    a cookie, which it gets for the token once; it is made from the token and does not tell it

What others' pages could make a browser do is kept out thrice: requests under a name that is not ours are refused (a
stranger's name may be bound to our address), a change has to come from our own page, and has to know what only our own
page can read.
"""

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Literal
from urllib.parse import urlsplit

from ecotta_rt.daemon.http.http_options import HttpOptions

__all__ = ["CSRF_HEADER", "Access", "Identity", "shows_token"]

Identity = Literal["program", "browser", "anybody"]
"""By a token in the header, by a cookie, or since no token is asked for."""

CSRF_HEADER = "X-Ecotta-Token"
_MONTH_S = 30 * 86_400


class Access:
    """Judges requests.

    Args:
        options: With the token.
        port: That it listens on: browsers send a cookie to each port of a host.

    Attributes:
        csrf: What a change from a browser has to tell; new with each start.
    """

    def __init__(self, options: HttpOptions, port: int) -> None:
        self.csrf = secrets.token_urlsafe(24)
        self._token = (options.token or "").encode()
        self._cookie_name = f"ecotta_{port}"
        # The same after a restart, and another with another token.
        self._cookie = hmac.new(self._token, b"ecotta live page", hashlib.sha256).hexdigest()
        here = socket.gethostname().lower()
        self._names = {"localhost", here, f"{here}.local", options.host.lower(), *map(str.lower, options.names)}

    def knows_host(self, host: str | None) -> bool:
        """Whether a Host header names us: an address, or one of our names."""
        name = _name_of(host)
        if name is None:
            return False
        return name in self._names or name.endswith(".localhost") or _is_address(name)

    def identify(self, headers: Mapping[str, str]) -> Identity | None:
        """Who asks; None: somebody who has to show the token first."""
        kind, _, given = headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._token and self.is_token(given.strip()):
            return "program"
        if not self._token:
            return "anybody"
        return "browser" if hmac.compare_digest(self._sent_cookie(headers).encode(), self._cookie.encode()) else None

    def is_token(self, given: str) -> bool:
        # Of both the digest: how long the comparison takes must not tell the length either.
        digests = (hashlib.sha256(text).digest() for text in (given.encode("utf-8", "replace"), self._token))
        return hmac.compare_digest(*digests)

    def cookie(self) -> str:
        """The header's value that lets a browser in for a month."""
        return f"{self._cookie_name}={self._cookie}; Path=/; Max-Age={_MONTH_S}; HttpOnly; SameSite=Lax"

    def refuses_change(self, headers: Mapping[str, str], identity: Identity) -> str | None:
        """Why a change is refused; None where it may be made."""
        if identity == "program":  # no browser sends a token by itself
            return None
        if not self.is_own_page(headers):
            return "a change has to come from the live page itself, or with Authorization: Bearer"
        if not hmac.compare_digest(headers.get(CSRF_HEADER, "").encode(), self.csrf.encode()):
            return "the page is from before a restart; load it again"
        return None

    def is_own_page(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from a page of ours."""
        origin, host = headers.get("Origin", ""), headers.get("Host", "")
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return False
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()

    def _sent_cookie(self, headers: Mapping[str, str]) -> str:
        try:
            sent = SimpleCookie(headers.get("Cookie", "")).get(self._cookie_name)
        except CookieError:
            return ""
        return "" if sent is None else sent.value


def shows_token(headers: Mapping[str, str]) -> bool:
    """Whether somebody sends a token, right or wrong, as programs do."""
    return headers.get("Authorization", "").lower().startswith("bearer ")


def _name_of(host: str | None) -> str | None:
    """The host without its port; None where there is none."""
    try:
        return urlsplit(f"//{host}").hostname if host else None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
