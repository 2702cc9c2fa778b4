"""Events to a web server: HTTP POST of a JSON array, some events at once."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from ecotta_rt._version import __version__
from ecotta_rt.errors import UsageError
from ecotta_rt.events import Event
from ecotta_rt.files.fields import Doc, Limit, Matches
from ecotta_rt.machine.clock import Clock
from ecotta_rt.messages import printable
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.json_lines import json_line
from ecotta_rt.sinks.kinds import SinkKind, SinkOptions
from ecotta_rt.sinks.named_files import check_files
from ecotta_rt.sinks.sink import Undelivered

if TYPE_CHECKING:
    from http.client import HTTPConnection

__all__ = ["KIND", "Webhook", "WebhookOptions", "check_webhook", "open_webhook"]

_TRY_AGAIN = (408, 425, 429)  # and all from 500 on; what else is refused would be refused again
_TOKEN = Matches(r"[!-~]([ -~]*[!-~])?", "printable ASCII")


@dataclass(frozen=True, kw_only=True)
class WebhookOptions(SinkOptions):
    """HTTP POST of JSON."""

    url: Annotated[
        str,
        Limit(most=2000),
        Matches(r"(?i:https?)://[!-~]+", "an address like https://HOST/PATH"),
        Doc("Where to.", '"https://example.org/ecotta"', secret=True),
    ]
    token: Annotated[
        str | None, Doc("Sent as `Authorization: Bearer TOKEN`.", '"file:/run/secrets/hook"', secret=True)
    ] = None
    token_header: Annotated[
        str | None,
        Matches(r"[A-Za-z0-9-]{1,100}", "the name of a header"),
        Doc("The token is sent in this header instead, as it is.", '"X-Api-Key"'),
    ] = None
    secret: Annotated[
        str | None,
        Doc(
            "Signs each body: `X-Ecotta-Signature: sha256=` and its HMAC in hexadecimal.", '"${HOOK_KEY}"', secret=True
        ),
    ] = None
    ca_file: Annotated[str | None, Doc("Certificates to trust instead of the system's.", '"/etc/ecotta/ca.pem"')] = None
    batch: Annotated[int, Limit(1, 1000), Doc("Events that are sent at once, at most.")] = 50
    batch_s: Annotated[float, Limit(0, 3600), Doc("Seconds that an event waits for more, at most.")] = 2.0
    timeout_s: Annotated[float, Limit(0.1, 600), Doc("Seconds for the server to answer.")] = 10.0


class Webhook:
    """Collects events and sends them. The first one is sent at once, so that a server that is out shows early.

    Args:
        options: Where to.
        clock: Says how long events have waited.

    Attributes:
        tick_s: How often `tick` is to be called.
    """

    def __init__(self, options: WebhookOptions, clock: Clock) -> None:
        self.tick_s = max(0.05, min(1.0, options.batch_s))
        self._options = options
        self._clock = clock
        self._batch: list[Event] = []
        self._since_s = 0.0
        self._proven = False
        self._closed = False

    @property
    def held(self) -> int:
        """Events that are not sent yet."""
        return len(self._batch)

    def take(self, event: Event) -> None:
        """Raises `Undelivered`: the server is out or refuses what there is."""
        if self._closed or not json_line(event):
            return
        if not self._batch:
            self._since_s = self._clock.now_s()
        self._batch.append(event)
        if not self._proven or len(self._batch) >= self._options.batch:
            self._send()
        else:
            self.tick()

    def tick(self) -> None:
        """Send what has waited for long enough."""
        if self._batch and self._clock.now_s() - self._since_s >= self._options.batch_s:
            self._send()

    def close(self) -> None:
        """Send what is left."""
        self._closed = True
        if self._batch:
            self._send()

    def _send(self) -> None:
        from http.client import HTTPException  # here: three megabytes, for those who send

        body = f"[{','.join(map(json_line, self._batch))}]".encode()
        try:
            status, where = self._post(body)
        except (OSError, HTTPException) as error:
            self._refuse(f"{type(error).__name__}: {error}", again=True)
        else:
            if not 200 <= status < 300:
                moved = f" to {where}; name that address" if 300 <= status < 400 else ""
                self._refuse(f"answered {status}{moved}", again=status >= 500 or status in _TRY_AGAIN)
        self._proven = True
        self._batch = []

    def _refuse(self, why: str, again: bool) -> None:
        events, self._batch = self._batch, []
        raise Undelivered(printable(f"{urlsplit(self._options.url).hostname}: {why}"), events, again=again)

    def _post(self, body: bytes) -> tuple[int, str]:
        """Status, and where a redirection leads."""
        url = urlsplit(self._options.url)
        connection = self._connection()
        try:
            connection.request(
                "POST", f"{url.path or '/'}{f'?{url.query}' if url.query else ''}", body, self._headers(body)
            )
            answer = connection.getresponse()
            return answer.status, answer.getheader("Location", "elsewhere")
        finally:
            connection.close()

    def _connection(self) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection

        url = urlsplit(self._options.url)
        if url.scheme == "http":
            return HTTPConnection(url.hostname or "", url.port, timeout=self._options.timeout_s)
        from ssl import create_default_context

        context = create_default_context(cafile=self._options.ca_file)
        return HTTPSConnection(url.hostname or "", url.port, timeout=self._options.timeout_s, context=context)

    def _headers(self, body: bytes) -> dict[str, str]:
        options = self._options
        headers = {"Content-Type": "application/json", "User-Agent": f"ecotta/{__version__}"}
        if options.token is not None:
            named = options.token_header is not None
            headers[options.token_header or "Authorization"] = options.token if named else f"Bearer {options.token}"
        if options.secret is not None:
            signature = hmac.new(options.secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Ecotta-Signature"] = f"sha256={signature}"
        return headers


def open_webhook(options: WebhookOptions, name: str, context: SinkContext) -> Webhook:
    """A sink of a daemon; whether the server is there shows with the first event."""
    return Webhook(options, context.clock)


def check_webhook(options: WebhookOptions, name: str) -> None:
    """Say before the start what no later try would mend.

    Raises:
        UsageError: The address or the token cannot be sent, or `ca_file` is missing.
    """
    url = urlsplit(options.url)
    try:
        port_is_known = url.port is None or url.port > 0
    except ValueError:
        port_is_known = False
    if not url.hostname or not port_is_known:
        raise UsageError(
            f"output {name}: url has no host, or a port that is none; write it like https://HOST:PORT/PATH"
        )
    if url.username or url.password:
        raise UsageError(f"output {name}: url holds a user or a password; give a token instead")
    if options.token is not None and _TOKEN(options.token):
        raise UsageError(f"output {name}: token: expected printable ASCII")
    check_files(options, name)


KIND = SinkKind("webhook", WebhookOptions, open_webhook, check_webhook, reaches_people=True)
