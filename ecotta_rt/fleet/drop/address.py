"""Where a state goes, and as whom it is sent."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal
from urllib.parse import unquote, urlsplit

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.fleet.drop.tls import tls_context
from ecotta_rt.messages import mask

__all__ = ["Address", "Unsent", "address_of"]

_PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
_SECURE = ("https", "mqtts")
_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)
_LONGEST = 2000
_MOST_SECRET_BYTES = 4096


class Unsent(TransferError):
    """It was not sent this time.

    Attributes:
        again: Whether another try may help.
    """

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


@dataclass(frozen=True)
class Address:
    """Where to, and as whom.

    Attributes:
        scheme: Of the address.
        host: Of the server or broker.
        port: Of it.
        path: For HTTP the path with what follows it, for MQTT the topic.
        user: For MQTT; None: nobody.
        secret: The token of HTTP, or the password of the user; None: none.
        ca_file: Certificates to trust instead of the system's.
        cert_file: Our own certificate.
        key_file: And its key.
        timeout_s: Seconds for the other side to answer.
    """

    scheme: Literal["http", "https", "mqtt", "mqtts"]
    host: str
    port: int
    path: str
    user: str | None = None
    secret: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    timeout_s: float = 30.0

    @property
    def is_http(self) -> bool:
        """Whether it is a web server's."""
        return self.scheme in ("http", "https")

    @property
    def is_secure(self) -> bool:
        """Whether what is sent is encrypted."""
        return self.scheme in _SECURE

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def address_of(
    url: str,
    *,
    user: str | None = None,
    secret_file: str | None = None,
    ca_file: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
    timeout_s: float = 30.0,
) -> Address:
    """Say before anything is sent what no later try would mend.

    Args:
        url: `https://HOST/PATH`, `mqtts://HOST/TOPIC`, or `http`, `mqtt`; with `:PORT` where it is another than usual.
        user: For MQTT.
        secret_file: A file with the token or password on its only line.
        ca_file, cert_file, key_file: As `Address` has them.
        timeout_s: As `Address` has it.

    Raises:
        UsageError: It cannot be meant, a file is missing, or a secret would go unencrypted to another machine.
        InputFileError: `secret_file` has no secret; a certificate or key is none, or the key is encrypted.
    """
    parts = _parts(url)
    if not 0.1 <= timeout_s <= 3600:
        raise UsageError(f"a timeout of {timeout_s:g} s: give 0.1 to 3600")
    if (cert_file is None) != (key_file is None):
        raise UsageError("our certificate and its key go together; give both")
    if parts.scheme not in _SECURE and (ca_file or cert_file):
        raise UsageError(f"certificates, and {parts.scheme} is not encrypted; use {parts.scheme}s")
    if user is not None and parts.scheme.startswith("http"):
        raise UsageError("a user is for MQTT; a web server is given a token")
    if user is None and secret_file is not None and parts.scheme.startswith("mqtt"):
        raise UsageError("a password without a user; give both")
    for path in (ca_file, cert_file, key_file):
        if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
            raise UsageError(f"{path}: no such file, or none that may be read")
    scheme, host = parts.scheme, parts.host
    if secret_file is not None and scheme not in _SECURE and not _is_here(host):
        raise UsageError(
            f"{scheme} is not encrypted, and all on the way to {host} could read the secret; use {scheme}s, or send "
            "without --secret-file"
        )
    if ca_file or cert_file:
        tls_context(ca_file, cert_file, key_file)
    secret = None if secret_file is None else _secret_in(secret_file)
    return Address(scheme, host, parts.port, parts.path, user, secret, ca_file, cert_file, key_file, timeout_s)


@dataclass(frozen=True)
class _Parts:
    scheme: Literal["http", "https", "mqtt", "mqtts"]
    host: str
    port: int
    path: str


def _parts(url: str) -> _Parts:
    if len(url) > _LONGEST or not _PRINTABLE.fullmatch(url):
        raise UsageError(f"expected an address of up to {_LONGEST} printable ASCII characters, as https://HOST/PATH")
    parts = urlsplit(url, allow_fragments=False)  # `boards/#` is a topic
    if parts.scheme not in _PORTS:
        raise UsageError(f"{mask(url[:80])}: expected an address like https://HOST/PATH or mqtts://HOST/TOPIC")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise UsageError(f"{mask(url[:80])}: {error}") from error
    if not parts.hostname:
        raise UsageError(f"{mask(url[:80])} has no host; write it like {parts.scheme}://HOST/...")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the address holds a user or a password, which others see: give them as options")
    scheme: Literal["http", "https", "mqtt", "mqtts"] = parts.scheme  # type: ignore[assignment]
    if scheme.startswith("http"):
        return _Parts(scheme, parts.hostname, port, f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}")
    topic = unquote(parts.path.removeprefix("/"))
    if not topic or parts.query:
        raise UsageError(f"{mask(url[:80])}: expected a topic after the host, as mqtts://HOST/boards/door")
    return _Parts(scheme, parts.hostname, port, topic)


def _is_here(host: str) -> bool:
    """Whether what is sent to that host does not leave this machine."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _secret_in(path: str) -> str:
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_SECRET_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    secret = content.decode("latin-1").rstrip("\r\n")
    if not secret or len(content) > _MOST_SECRET_BYTES or not all(" " <= c <= "~" for c in secret):
        raise InputFileError(f"{path}: expected a token or password on one line of printable ASCII")
    return secret
