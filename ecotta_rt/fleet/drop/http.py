"""A state by HTTP: PUT to any web server that takes files, such as nginx with `dav_methods PUT`."""

from typing import TYPE_CHECKING

from ecotta_rt._version import __version__
from ecotta_rt.fleet.drop.address import Address, Unsent
from ecotta_rt.fleet.drop.tls import is_lasting, tls_context
from ecotta_rt.messages import printable

if TYPE_CHECKING:
    from http.client import HTTPConnection

__all__ = ["put"]

_TRY_AGAIN = (408, 425, 429)  # and all from 500 on; what else is refused would be refused again


def put(address: Address, content: bytes) -> None:
    """Send it, and wait for the answer. A redirection is not followed: the token is for this host.

    Args:
        address: Of a web server.
        content: Of the state's file.

    Raises:
        Unsent: The server is out, or refuses it.
    """
    from http.client import HTTPException  # here: three megabytes, for those who send

    try:
        status, where = _put(address, content)
    except (OSError, HTTPException) as error:
        again = not is_lasting(error)
        raise Unsent(printable(f"{address}: {type(error).__name__}: {error}"), again=again) from error
    if not 200 <= status < 300:
        moved = f" to {where}; name that address" if 300 <= status < 400 else ""
        again = status >= 500 or status in _TRY_AGAIN
        raise Unsent(printable(f"{address} answered {status}{moved}"), again=again)


def _put(address: Address, content: bytes) -> tuple[int, str]:
    """Status, and where a redirection leads."""
    connection = _connection(address)
    headers = {"Content-Type": "application/octet-stream", "User-Agent": f"ecotta/{__version__}"}
    if address.secret is not None:
        headers["Authorization"] = f"Bearer {address.secret}"
    try:
        connection.request("PUT", address.path, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location", "elsewhere")
    finally:
        connection.close()


def _connection(address: Address) -> "HTTPConnection":
    from http.client import HTTPConnection, HTTPSConnection

    if not address.is_secure:
        return HTTPConnection(address.host, address.port, timeout=address.timeout_s)
    context = tls_context(address.ca_file, address.cert_file, address.key_file)
    return HTTPSConnection(address.host, address.port, timeout=address.timeout_s, context=context)
