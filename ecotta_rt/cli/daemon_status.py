"""Asks a running daemon what it has come to, over HTTP."""

import http.client
import json
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ecotta_rt.errors import ConfigurationError, Unavailable, UsageError
from ecotta_rt.messages import printable

__all__ = ["DaemonStatus", "status_of"]

_WAIT_S = 3.0
_MOST_BYTES = 16 * 2**20
_SCHEMA = 1


@dataclass(frozen=True)
class DaemonStatus:
    """Where a daemon is asked.

    Attributes:
        url: As `http://127.0.0.1:8642`.
        token: What it asks for; never shown.
        why_no_token: Why there is none, where the configuration names one.
    """

    url: str = "http://127.0.0.1:8642"
    token: str | None = None
    why_no_token: str = ""

    def __call__(self) -> dict[str, Any]:
        """All that it knows, as `/status.json` has it.

        Raises:
            UsageError: The address cannot be meant, or the token is wrong.
            Unavailable: Nobody answers, or somebody else than a daemon of ours.
        """
        connection = self._connection()
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        try:
            connection.request("GET", "/status.json", headers=headers)
            reply = connection.getresponse()
            content = reply.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(
                f"{self.url}: {why}; is the daemon running, and has its configuration [http] with enabled = true?"
            ) from error
        finally:
            connection.close()
        return self._read(reply.status, content)

    def _connection(self) -> http.client.HTTPConnection:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"--url {self.url}: {error}") from error
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise UsageError(f"--url {self.url}: expected http://HOST:PORT or https://HOST:PORT")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(host, port, timeout=_WAIT_S)

    def _read(self, code: int, content: bytes) -> dict[str, Any]:
        if code == 401 and self.token is not None:
            raise UsageError(
                f"{self.url}: the token is not this daemon's; look at http.token of the configuration that it was "
                "started with, and at ECOTTA_TOKEN"
            )
        if code == 401:
            advice = "give the configuration of the daemon, or set ECOTTA_TOKEN"
            if self.why_no_token:
                advice = f"the configuration's cannot be had here, use sudo or set ECOTTA_TOKEN ({self.why_no_token})"
            raise UsageError(f"{self.url}: it asks for a token; {advice}")
        try:
            status = json.loads(content)
        except (ValueError, RecursionError):
            status = None
        if not isinstance(status, dict) or (code == 200 and status.get("schema") != _SCHEMA):
            raise Unavailable(f"{self.url}: answers, and is no daemon of this version of ecotta_rt (code {code})")
        if code != 200:
            raise Unavailable(f"{self.url}: {printable(str(status.get('error', code)))}")
        return {key: value for key, value in status.items() if key != "csrf"}  # which is for the live page alone


def status_of(config: str | None, url: str | None) -> DaemonStatus:
    """Where to ask, from what a user has given.

    Args:
        config: The file that the daemon was started with; None: not given.
        url: An address; None: that of the configuration, or the usual one.

    Raises:
        ConfigurationError: The configuration cannot be meant, or its door is closed.
    """
    token = os.environ.get("ECOTTA_TOKEN")
    if config is None:
        return DaemonStatus(url or DaemonStatus.url, token)
    from ecotta_rt.daemon.configuration.config_reading import read_locations
    from ecotta_rt.daemon.configuration.environment_file import environment_of

    places = read_locations(config, environment_of(config, os.environ))
    http = places.http
    if not http.enabled and url is None:
        raise ConfigurationError(
            f"{config}: this daemon cannot be asked; write [http] with enabled = true into it, and start it anew"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # all of them are this machine, too
    name = f"[{host}]" if ":" in host else host
    return DaemonStatus(url or f"http://{name}:{http.port}", http.token or token, places.why_no_token)
