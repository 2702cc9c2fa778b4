"""The door over HTTP: sockets, threads and their limits. What is said is in `ecotta_rt.daemon.http.site`.

Imported only where the door is to be open: it costs some 5 MiB. Whatever comes in, the stream goes on: a connection has
some seconds in all, there are few at a time, the oldest makes room for a new one, and answers are made one after the
other.
"""

import selectors
import socket
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BufferedIOBase
from socketserver import TCPServer, ThreadingMixIn
from threading import Condition, Lock, Thread
from typing import Any

from ecotta_rt.daemon.http.access import Access
from ecotta_rt.daemon.http.board import Board
from ecotta_rt.daemon.http.http_options import HttpOptions, check_http
from ecotta_rt.daemon.http.pictures import Pictures
from ecotta_rt.daemon.http.site import MOST_BODY_BYTES, Reply, Request, Site
from ecotta_rt.errors import Unavailable
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.sinks.context import Control

__all__ = ["Web"]

_CONNECTIONS = 16
_IN_ALL_S = 10.0
_HEAD_BYTES = 16 * 2**10
_LOOK_EVERY_S = 0.5
_CLOSE_S = 0.1  # for each of two waits


class Web:
    """Answers requests in threads of its own, from its making to `close`.

    Args:
        options: Where and for whom.
        board: What there is to tell.
        control: Takes the owner's wishes.
        pictures: For the live page.
        clock: Counts a connection's seconds.

    Raises:
        ConfigurationError: Others could ask without a token.
        Unavailable: The address cannot be had.
    """

    def __init__(
        self,
        options: HttpOptions,
        board: Board,
        control: Control | None = None,
        pictures: Pictures | None = None,
        clock: Clock | None = None,
    ) -> None:
        check_http(options)
        self._server = _opened(options, clock or SystemClock())
        port = self._server.server_address[1]
        self._server.site = Site(options, board, Access(options, int(port)), control, pictures)
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.address = f"http://{host}:{port}/"
        self._thread = Thread(target=self._server.serve, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all connections, and leave behind whoever does not end; may be called twice."""
        self._server.stop()
        self._thread.join(_CLOSE_S)
        self._server.server_close()


def _opened(options: HttpOptions, clock: Clock) -> "_Server":
    host, port = options.host, options.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return _Server((host, port), family, clock)
    except OSError as error:
        raise Unavailable(
            f"http: {host}:{port} cannot be had: {error.strerror or error}; is another program there? http.port names "
            "another port"
        ) from error


class _Server(ThreadingMixIn, HTTPServer):
    """A thread a connection, and never many of them."""

    daemon_threads = True
    block_on_close = False  # a thread that is stuck must not hold the end of the process
    request_queue_size = 32
    timeout = 0
    site: Site

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily, clock: Clock) -> None:
        self.address_family = family
        self.turn = Lock()
        self._clock = clock
        self._changed = Condition()
        self._until_s: dict[socket.socket, float] = {}  # oldest first
        self._woken, self._wake = socket.socketpair()
        try:
            super().__init__(address, _Handler)
        except OSError:
            self._close_waker()
            raise
        self.socket.setblocking(False)  # who is gone before he is let in must not hold up the others

    def serve(self) -> None:
        """Let in who comes, until `stop`; `serve_forever` would look for that twice a second, day and night."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select(_LOOK_EVERY_S if self._until_s else None)]
                if self._woken in ready:
                    return
                if self in ready:
                    self.handle_request()
                self.service_actions()

    def stop(self) -> None:
        """Let `serve` end; from any thread, and more than once."""
        with suppress(OSError):  # closed already
            self._wake.send(b".")

    def server_bind(self) -> None:
        # HTTPServer's asks the name service for our name, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = map(str, self.server_address[:2])  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread; where there are enough, the oldest connection ends: an honest one takes milliseconds."""
        with self._changed:
            if len(self._until_s) >= _CONNECTIONS:
                _end(next(iter(self._until_s)))
                self._changed.wait_for(lambda: len(self._until_s) < _CONNECTIONS, _LOOK_EVERY_S)
            if len(self._until_s) >= _CONNECTIONS:
                super().shutdown_request(request)
                return
            self._until_s[request] = self._clock.now_s() + _IN_ALL_S
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._until_s.pop(request, None)
            self._changed.notify_all()

    def service_actions(self) -> None:
        now_s = self._clock.now_s()
        with self._changed:
            for connection in [connection for connection, until_s in self._until_s.items() if now_s > until_s]:
                _end(connection)

    def server_close(self) -> None:
        super().server_close()
        with self._changed:
            for connection in self._until_s:
                _end(connection)
            self._changed.wait_for(lambda: not self._until_s, _CLOSE_S)
        self._close_waker()

    def _close_waker(self) -> None:
        self._woken.close()
        self._wake.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nobody's news."""


def _end(connection: socket.socket) -> None:
    """Wake whoever reads from it or writes to it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """A request a connection."""

    server: _Server
    timeout = _IN_ALL_S

    def setup(self) -> None:
        super().setup()
        self.rfile = _Bounded(self.rfile, _HEAD_BYTES + MOST_BODY_BYTES)  # type: ignore[assignment]

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MOST_BODY_BYTES or "Transfer-Encoding" in self.headers:
            self.send_error(413)
            return
        headers: Mapping[str, str] = self.headers  # type: ignore[assignment]  # looks names up in any case
        request = Request(self.command, self.path, headers, self.rfile.read(int(length)))
        with self.server.turn:
            reply = self.server.site.answer(request)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.request_version = "HTTP/1.0"  # in 0.9, which is assumed of nonsense, a reply would have no headers
        self.send_response(reply.status)
        if reply.status != 204:
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Nothing of what was sent is said back."""
        self.command = getattr(self, "command", None) or "GET"
        self._send(Reply(code, b'{"error": "this is no request that we take"}'))

    def version_string(self) -> str:
        return "ecotta"

    def log_message(self, format: str, *args: Any) -> None:
        """An address may hold a token."""


class _Bounded:
    """A connection from which so much is read and no more."""

    def __init__(self, file: BufferedIOBase, left: int) -> None:
        self._file = file
        self._left = left

    def readline(self, most: int = -1) -> bytes:
        return self._counted(self._file.readline(min(most, self._left) if most >= 0 else self._left))

    def read(self, most: int) -> bytes:
        return self._counted(self._file.read(min(most, self._left)))

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left <= 0:
            raise ConnectionError("more than anybody has to say")
        return data
