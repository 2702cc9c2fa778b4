"""What is said over HTTP: from a request to a reply, without sockets.

    GET  /healthz[?camera=NAME]   200 while the stream is alive, else 503 with why
    GET  /readyz                  200 when the network is loaded and has answered a frame
    GET  /metrics                 for Prometheus
    GET  /status.json             all that the board knows; ?since=SECONDS&after=NUMBER: only what is new
    GET  /                        the live page, where it is switched on
    GET  /picture.png?camera=NAME the newest picture
    POST /login                   {"token": ...}: a cookie for a browser
    POST /adapting                {"camera": ..., "on": true}
    POST /reset                   {"camera": ...}

Without the token the first two say yes or no, and nothing else; the page is an empty one that asks for it.
"""

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ecotta_rt.daemon.http.access import Access, Identity, shows_token
from ecotta_rt.daemon.http.board import Board
from ecotta_rt.daemon.http.health import health, readiness
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.daemon.http.metrics import CONTENT_TYPE, metrics_text
from ecotta_rt.daemon.http.pictures import Pictures
from ecotta_rt.errors import UsageError
from ecotta_rt.sinks.context import Control

__all__ = ["MOST_BODY_BYTES", "Reply", "Request", "Site"]

MOST_BODY_BYTES = 4096

_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PAGE = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Request:
    """What came in.

    Attributes:
        method: In capitals.
        target: Path and query, as sent.
        headers: By name; whatever case is looked up has to be found.
        body: At most `MOST_BODY_BYTES`.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """What goes out; the headers that make it safe are among `headers`."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.headers.update({**_SAFE, "Content-Security-Policy": _NOTHING, **self.headers})


@dataclass(frozen=True)
class _Asked:
    """A request that has been looked through."""

    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    identity: Identity | None


class Site:
    """Answers requests; threads may ask together.

    Args:
        options: What is switched on.
        board: What there is to tell.
        access: Who may ask.
        control: Takes the owner's wishes; None: nobody does.
        pictures: Of the cameras; None: there are none.
    """

    def __init__(
        self,
        options: HttpOptions,
        board: Board,
        access: Access,
        control: Control | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self._options = options
        self._board = board
        self._access = access
        self._control = control
        self._pictures = pictures
        self._instance = secrets.token_hex(8)
        self._routes: dict[tuple[str, str], Callable[[_Asked], Reply]] = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/status.json"): self._status,
            ("POST", "/login"): self._login,
        }
        page: dict[tuple[str, str], Callable[[_Asked], Reply]] = {
            ("GET", "/"): self._page,
            ("GET", "/picture.png"): self._picture,
            ("POST", "/adapting"): self._adapting,
            ("POST", "/reset"): self._reset,
        }
        self._routes |= page if options.page else {("GET", "/"): self._index}

    def answer(self, request: Request) -> Reply:
        """Never raises for what a stranger has sent."""
        if not self._access.knows_host(request.headers.get("Host")):
            return _no(421, "this name is not ours; name it in http.names, or use the address")
        try:
            parts = urlsplit(request.target)
            query = {key: values[-1] for key, values in parse_qs(parts.query, max_num_fields=8).items()}
        except ValueError:
            return _no(400, "the address cannot be read")
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, parts.path))
        if route is None:
            return self._no_route(method, parts.path)
        identity = self._access.identify(request.headers)
        if identity is None and parts.path not in _FOR_STRANGERS:
            why = "the token is not this daemon's" if shows_token(request.headers) else "a token is needed"
            return _no(401, why, {"WWW-Authenticate": 'Bearer realm="ecotta"'})
        asked = _Asked(query, request.headers, request.body, identity)
        if method == "POST" and (refusal := self._refuse_post(asked, parts.path)) is not None:
            return refusal
        return route(asked)

    def _no_route(self, method: str, path: str) -> Reply:
        allowed = ", ".join(sorted({known for known, at in self._routes if at == path}))
        if allowed:
            return _no(405, f"{path} takes {allowed}", {"Allow": allowed})
        page = "" if self._options.page else "; the live page is off, http.page = true switches it on"
        return _no(404, f"there is nothing here{page}")

    def _refuse_post(self, asked: _Asked, path: str) -> Reply | None:
        if not asked.headers.get("Content-Type", "").lower().startswith("application/json"):
            return _no(415, "send application/json")
        if path == "/login":
            return None if self._access.is_own_page(asked.headers) else _no(403, "log in on the live page itself")
        why = self._access.refuses_change(asked.headers, asked.identity or "anybody")
        return None if why is None else _no(403, why)

    # What is asked

    def _healthz(self, asked: _Asked) -> Reply:
        return _judged(*health(self._board.snapshot(math.inf), asked.query.get("camera")), "healthy", asked)

    def _readyz(self, asked: _Asked) -> Reply:
        return _judged(*readiness(self._board.snapshot(math.inf)), "ready", asked)

    def _metrics(self, asked: _Asked) -> Reply:
        return Reply(200, metrics_text(self._board.snapshot(math.inf)).encode(), CONTENT_TYPE)

    def _status(self, asked: _Asked) -> Reply:
        try:
            since_s, after = float(asked.query.get("since", "-inf")), int(asked.query.get("after", "0"))
        except ValueError:
            return _no(400, "since and after are numbers")
        status = {**self._board.snapshot(since_s, after), "instance": self._instance, "page": self._options.page}
        if self._options.page:
            status["csrf"] = self._access.csrf
            status["control"] = self._control is not None
        return _json(200, status)

    def _index(self, asked: _Asked) -> Reply:
        there = sorted(path for method, path in self._routes if method == "GET" and path != "/")
        text = "\n".join(["ecotta: there is no live page here (http.page = true switches it on)", *there, ""])
        return Reply(200, text.encode(), "text/plain; charset=utf-8")

    def _page(self, asked: _Asked) -> Reply:
        given = asked.query.get("token")
        if given is not None:  # not to stay in the address bar
            headers = {"Location": "/"}
            if self._options.token and self._access.is_token(given):
                headers["Set-Cookie"] = self._access.cookie()
            return Reply(303, b"", "text/plain", headers)
        nonce = secrets.token_urlsafe(16)
        body = _page_text().replace("{{nonce}}", nonce).encode()
        return Reply(
            200, body, "text/html; charset=utf-8", {"Content-Security-Policy": _PAGE.replace("{nonce}", nonce)}
        )

    def _picture(self, asked: _Asked) -> Reply:
        camera = asked.query.get("camera", "")
        known = [one["name"] for one in self._board.snapshot(math.inf)["cameras"]]
        if camera not in known or self._pictures is None:
            return _no(404, "no such camera")
        picture = self._pictures.png(camera)
        return Reply(204) if picture is None else Reply(200, picture, "image/png")

    def _login(self, asked: _Asked) -> Reply:
        given = _fields(asked.body).get("token")
        if not self._options.token or not isinstance(given, str) or not self._access.is_token(given):
            return _no(401, "this is not the token")
        return Reply(204, headers={"Set-Cookie": self._access.cookie()})

    def _adapting(self, asked: _Asked) -> Reply:
        fields = _fields(asked.body)
        camera, on = fields.get("camera"), fields.get("on")
        if not isinstance(camera, str) or not isinstance(on, bool):
            return _no(400, 'send {"camera": NAME, "on": true or false}')
        return self._change(lambda control: control.set_adapting(camera, on))

    def _reset(self, asked: _Asked) -> Reply:
        camera = _fields(asked.body).get("camera")
        if not isinstance(camera, str):
            return _no(400, 'send {"camera": NAME}')
        return self._change(lambda control: control.reset(camera))

    def _change(self, change: Callable[[Control], None]) -> Reply:
        if self._control is None:
            return _no(404, "nobody takes orders here")
        try:
            change(self._control)
        except UsageError as error:
            return _no(404, str(error))
        return _json(202, {"asked": True})


_FOR_STRANGERS = ("/healthz", "/readyz", "/", "/login")


@cache
def _page_text() -> str:
    return (files("ecotta_rt.daemon.http") / "page.html").read_text(encoding="utf-8")


def _json(status: int, fields: Mapping[str, Any]) -> Reply:
    return Reply(status, json.dumps(fields, allow_nan=False).encode())


def _no(status: int, why: str, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps({"error": why}).encode(), headers=headers or {})


def _judged(good: bool, report: Mapping[str, Any], key: str, asked: _Asked) -> Reply:
    """All of a report for those who may know; yes or no for others, such as a container's health check."""
    return _json(200 if good else 503, report if asked.identity else {key: good})


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
