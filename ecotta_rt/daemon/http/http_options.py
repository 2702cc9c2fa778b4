"""Who may ask a daemon over HTTP, and where it listens."""

import ipaddress
from dataclasses import dataclass
from typing import Annotated

from ecotta_rt.errors import ConfigurationError
from ecotta_rt.files.fields import Doc, Limit, Matches

__all__ = ["LEAST_TOKEN", "HttpOptions", "check_http", "http_fault", "is_loopback"]

LEAST_TOKEN = 12
"""Characters of a token: with fewer, somebody on the network could try them all."""


@dataclass(frozen=True)
class HttpOptions:
    """The door for metrics, health checks and the live page."""

    enabled: Annotated[bool, Doc("Whether it is open.")] = False
    host: Annotated[
        str,
        Doc("The address it is bound to: 127.0.0.1 is this machine alone, 0.0.0.0 the whole network."),
        Limit(most=255),
        Matches(r"[A-Za-z0-9._:%-]+", "an address or the name of a host, without port"),
    ] = "127.0.0.1"
    port: Annotated[int, Doc("Its TCP port; 0: any that is free."), Limit(0, 65535)] = 8642
    token: Annotated[
        str | None,
        Doc(
            f"Who asks has to send it, at least {LEAST_TOKEN} characters. Needed where the address is not this machine "
            "alone. Without it: nobody has to.",
            '"${ECOTTA_TOKEN}"',
            secret=True,
        ),
        Limit(most=256),
    ] = None
    page: Annotated[bool, Doc("Whether it has the live page, with the newest pictures, its switch and its reset.")] = (
        False
    )
    names: Annotated[
        tuple[str, ...],
        Doc(
            "Further names under which browsers reach it, such as those of a proxy; this machine's own are known.",
            '["cameras.example.org"]',
        ),
        Limit(most=16),
    ] = ()


def http_fault(options: HttpOptions) -> tuple[str, str] | None:
    """The field that would let everybody on the network in, and what is wrong with it; None: all is well."""
    token = options.token or ""
    if not options.enabled:
        return None
    if not token.isascii():
        return "token", "give letters, digits and signs of ASCII; others cannot be sent in a header"
    if token and len(token) < LEAST_TOKEN:
        short = f"{len(token)} characters, at least {LEAST_TOKEN} are needed"
        return "token", f"{short}; `openssl rand -hex 16` makes one"
    if not token and not is_loopback(options.host):
        return "host", (
            f"{options.host} lets others on the network ask, and there is no http.token; give one, for example "
            'token = "${ECOTTA_TOKEN}", or bind to 127.0.0.1'
        )
    return None


def check_http(options: HttpOptions) -> None:
    """Refuse what would let everybody on the network in.

    Raises:
        ConfigurationError: Bound to more than this machine without a token, or with one that is too short.
    """
    fault = http_fault(options)
    if fault is not None:
        raise ConfigurationError(f"http.{fault[0]}: {fault[1]}")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
