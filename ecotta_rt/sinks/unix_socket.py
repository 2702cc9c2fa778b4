"""Events as JSON lines to whoever connects to a Unix socket of this machine: `nc -U /run/ecotta/events`."""

import contextlib
import errno
import os
import select
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.events import Event, EventsDropped
from ecotta_rt.files.fields import Doc, Limit, Matches
from ecotta_rt.files.kinds import kind_of
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.json_lines import json_line
from ecotta_rt.sinks.kinds import SinkKind, SinkOptions

__all__ = ["KIND", "UnixSocket", "UnixSocketOptions", "check_socket", "open_socket"]

_LONGEST_PATH = 107  # bytes, of sockaddr_un in Linux
_BACKLOG = 16


@dataclass(frozen=True, kw_only=True)
class UnixSocketOptions(SinkOptions):
    """JSON lines to clients of a Unix socket."""

    path: Annotated[str, Doc("The socket.", '"/run/ecotta/events"')]
    mode: Annotated[str, Matches("0?[0-7]{3}", "three octal digits"), Doc("Who may connect: its permission bits.")] = (
        "660"
    )
    clients: Annotated[int, Limit(1, 100), Doc("How many at once; others are turned away.")] = 8
    client_kib: Annotated[
        int, Limit(1, 65_536), Doc("A client that leaves more than this unread is disconnected, and that is told.")
    ] = 256

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.path,)


class UnixSocket:
    """A server that waits for nobody: each client gets what it reads in time.

    A client gets whole lines, beginning with the next event after it has connected.

    Args:
        options: Where and for whom.
        name: For `EventsDropped`.
        context: Hears of clients that were disconnected.

    Attributes:
        tick_s: How often `tick` is to be called.

    Raises:
        TransferError: The socket cannot be made, or another process serves it.
    """

    tick_s = 1.0

    def __init__(self, options: UnixSocketOptions, name: str, context: SinkContext) -> None:
        self._options = options
        self._name = name
        self._report = context.report
        self._clients: dict[socket.socket, bytearray] = {}
        self._path = Path(options.path)
        self._server: socket.socket | None = _listening(self._path, int(options.mode, 8))
        self._inode = os.stat(self._path).st_ino

    def take(self, event: Event) -> None:
        line = json_line(event)
        if not line or self._server is None:
            return
        self._accept()
        for client, unsent in [*self._clients.items()]:
            unsent += line.encode() + b"\n"
            self._send(client, unsent)

    def tick(self) -> None:
        """Let in who waits, and send on."""
        self._accept()
        for client, unsent in [*self._clients.items()]:
            self._send(client, unsent)

    def close(self) -> None:
        """Disconnect all, and remove the socket if it is still ours."""
        server, self._server = self._server, None
        if server is None:
            return
        for client in [*self._clients]:
            self._drop(client)
        server.close()
        with contextlib.suppress(OSError):
            if os.lstat(self._path).st_ino == self._inode:
                self._path.unlink()

    def _accept(self) -> None:
        assert self._server is not None
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                client, _ = self._server.accept()
                if len(self._clients) >= self._options.clients:
                    client.close()
                    continue
                client.setblocking(False)
                self._clients[client] = bytearray()

    def _send(self, client: socket.socket, unsent: bytearray) -> None:
        if _is_gone(client):
            self._drop(client)
            return
        try:
            while unsent:
                del unsent[: client.send(unsent)]
        except BlockingIOError:
            if len(unsent) > self._options.client_kib * 1024:
                self._report(EventsDropped(f"{self._name}: a client that was too slow", unsent.count(b"\n")))
                self._drop(client)
        except OSError:  # gone meanwhile
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        client.close()


def _is_gone(client: socket.socket) -> bool:
    """Whether it has closed both directions; one that only says no more may still read."""
    looked = select.poll()
    looked.register(client, 0)
    return bool(looked.poll(0))


def _listening(path: Path, mode: int) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_way(path)
        server.setblocking(False)
        server.bind(os.fspath(path))
        os.chmod(path, mode)  # nobody can connect before it listens
        server.listen(_BACKLOG)
    except OSError as error:
        server.close()
        raise TransferError(f"socket {path} cannot be made: {error.strerror or error}") from error
    return server


def _make_way(path: Path) -> None:
    """Remove a socket that a killed process has left.

    Raises:
        OSError: Somebody serves it, or it is something else.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, f"there is {kind_of(mode)} of this name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process serves it")


def open_socket(options: UnixSocketOptions, name: str, context: SinkContext) -> UnixSocket:
    """A sink of a daemon."""
    return UnixSocket(options, name, context)


def check_socket(options: UnixSocketOptions, name: str) -> None:
    """Say before the start what no later try would mend.

    Raises:
        UsageError: The path is too long, or its folder does not exist.
    """
    path = Path(options.path)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UsageError(f"output {name}: path {path} has more than {_LONGEST_PATH} bytes, the most of a socket")
    if not path.parent.is_dir():
        raise UsageError(f"output {name}: path {path}: there is no folder {path.parent}; make it first")


KIND = SinkKind("socket", UnixSocketOptions, open_socket, check_socket)
