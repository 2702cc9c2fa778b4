"""Tell systemd how the service is: ready, alive, reloading, stopping. One datagram each; elsewhere nothing happens.

    notifier = Notifier.of(os.environ, clock)
    notifier.ready("2 cameras")     # when the network is loaded
    notifier.alive()                # from the work loop, at each turn; sent when it is due
    notifier.status(board.in_a_line)
    notifier.stopping()

The protocol is that of sd_notify(3) and sd_watchdog_enabled(3). Nothing here raises: a service does not end because
nobody hears it.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Mapping

from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.messages import printable

__all__ = ["Notifier"]

_LONGEST_STATUS = 500  # characters
_STATUS_S = 10.0
_WAIT_S = 0.2  # for a manager that does not read; a turn of the work loop may take no longer


class Notifier:
    """Tells the service manager.

    Args:
        address: Of its socket, `@` first where it is abstract; None: there is no manager.
        watchdog_s: After so long without a sign it takes the service for dead; None: it does not watch.
        clock: Of the machine: the manager compares its time with its own.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.settimeout(_WAIT_S)
        self.every_s = None if watchdog_s is None or self._socket is None else watchdog_s / 2
        """How often `alive` sends a sign; a work loop must come to it at least twice as often. None: nobody watches."""
        self._signed_s = self._told_s = -float("inf")
        self._told = ""

    @classmethod
    def of(cls, environ: Mapping[str, str], clock: Clock | None = None) -> "Notifier":
        """As a service manager asks for in the environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.

        Args:
            environ: The environment.
            clock: See `Notifier`.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        usable = address.startswith(("/", "@")) and len(address) > 1  # others are for virtual machines
        return cls(address if usable else None, _watchdog_s(environ), clock)

    def ready(self, status: str = "") -> None:
        """The service has started, or has reloaded."""
        self._send("READY=1", *_status(status))

    def status(self, said: Callable[[], str]) -> None:
        """How it is, in a line that `systemctl status` shows; looked for every ten seconds, and sent when it changes.

        Args:
            said: Gives the line.
        """
        now_s = self._clock.now_s()
        if self._socket is not None and now_s - self._told_s >= _STATUS_S:
            self._told_s = now_s
            before, self._told = self._told, said()
            if self._told != before:
                self._send(*_status(self._told))

    def alive(self) -> None:
        """The work goes on. Sent when half the time is over after which the service would be taken for dead."""
        now_s = self._clock.now_s()
        if self.every_s is not None and now_s - self._signed_s >= self.every_s:
            self._signed_s = now_s
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is read anew; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.now_s() * 1e6)}")

    def stopping(self, status: str = "") -> None:
        """The service ends."""
        self._send("STOPPING=1", *_status(status))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is not None and self._address is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={printable(text)[:_LONGEST_STATUS]}",) if text else ()


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """The watchdog's time, where it watches this process and no other."""
    try:
        if int(environ.get("WATCHDOG_PID") or os.getpid()) != os.getpid():
            return None
        return int(environ["WATCHDOG_USEC"]) / 1e6 or None
    except (KeyError, ValueError):
        return None
