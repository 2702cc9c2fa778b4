"""Serve several cameras with one network, for months: answers out, the network adapts to each camera by itself.

CONFIG.toml says which network, which cameras and which outputs there are; `ecotta config init` writes one to begin
with, `ecotta config check` looks at one without starting anything, and the reference explains every field. Variables
that it names are taken from the environment, else from the file beside it with the suffix .env, where there is one.

Each camera has a state, statistics and a filter of its own, and a share of the network's time: a dead or slow one
delays no other. A camera that is lost, or not there yet, is waited for. What was learned is saved every so often and at
the end, and taken up at the next start. An output that fails or is too slow delays nothing; what it misses is counted.

SIGTERM and Ctrl-C save all states and end within 5 seconds, whatever hangs: a disk or an output is left behind, and
told; a second one ends at once. SIGHUP opens the files of the
outputs anew and reads CONFIG again: cameras and outputs that changed are replaced, the others go on untouched. One that
is refused changes nothing. The daemon ends by itself when no camera is left: a film or a folder that was played.

examples:
  ecotta serve ecotta.toml
  ecotta config check ecotta.toml                                    say what is wrong with it, and start nothing
  ECOTTA_SERVE__CAMERA__DOOR__SOURCE=/dev/video1 ecotta serve ecotta.toml
  systemctl reload ecotta                                            send SIGHUP, where it runs as a service

exit codes: as `ecotta --help`; 78 for a configuration that cannot be meant, 0 after SIGTERM, 130 after Ctrl-C, 74 where
after one of them something hung that could not be left behind otherwise.
"""

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from ecotta_rt.cli.signals import ended_by_signals
from ecotta_rt.cli.standard_streams import settle_streams
from ecotta_rt.errors import EXIT_INTERRUPTED, TransferError
from ecotta_rt.messages import tell

if TYPE_CHECKING:
    from ecotta_rt.daemon.daemon import Daemon

__all__ = ["NAME", "add_arguments", "run"]

NAME = "serve"

_ENDING = (signal.SIGINT, signal.SIGTERM)

_PRESS_S = 0.6  # that of the daemon, which is not imported before signals are heard
_LEAVE_S = 4.1  # after its STOP_S something hangs that only the end of the process will end; a busy machine is late
_SAY_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", metavar="CONFIG.toml", help="the configuration")
    parser.add_argument(
        "--trial",
        choices=("first", "always", "off"),
        default=os.environ.get("ECOTTA_TRIAL", "first"),
        help="make one step in a process of its own before the start: when the bundle is new on this machine (first), "
        "at each start, or never; ECOTTA_TRIAL sets the default",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    signals = _Signals()
    with ended_by_signals(_ENDING, signals.give_up, grace_s=0.0, again_s=_PRESS_S), signals.heard():
        _serve(args, signals)
        if signals.received:  # all is said and saved; the interpreter's own end takes a second on a small board
            settle_streams(abandoned=True)
            os._exit(signals.code)
    return 0


def _serve(args: argparse.Namespace, signals: "_Signals") -> None:
    from ecotta_rt.daemon.configuration.config import Config
    from ecotta_rt.daemon.configuration.config_reading import read_config
    from ecotta_rt.daemon.configuration.environment_file import environment_of, hint_of
    from ecotta_rt.daemon.needs_check import missing_packages
    from ecotta_rt.errors import ConfigurationError

    def read() -> Config:
        try:
            return read_config(args.config, environment_of(args.config, os.environ))
        except ConfigurationError as error:
            raise ConfigurationError(hint_of(args.config, error)) from error

    config = read()
    for missing in missing_packages(config):
        tell("ecotta serve", f"warning: {missing}")
    from ecotta_rt.daemon.daemon import Daemon
    from ecotta_rt.daemon.systemd.notify import Notifier

    daemon = Daemon(config, read_again=read, trial=args.trial, notifier=Notifier.of(os.environ))
    signals.follow(daemon)
    daemon.run()


class _Signals:
    """What signals ask for, from the first moment on: of the daemon, once there is one.

    Attributes:
        received: Those that ask for an end.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._daemon: Daemon | None = None
        self._reload = False

    @property
    def code(self) -> int:
        return EXIT_INTERRUPTED if signal.SIGINT in self.received else 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Hear them; those who did before hear them again afterwards."""
        handlers = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop, signal.SIGHUP: self._read_again}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def follow(self, daemon: "Daemon") -> None:
        """This is the daemon; what was asked before is asked of it now."""
        self._daemon = daemon
        if self._reload:
            daemon.reload()

    def give_up(self, waited_s: float) -> None:
        """Ask for the end, more and more; in the thread that watches, since handlers wait for the step in progress."""
        if waited_s >= _LEAVE_S:
            # Where nobody reads what is said, not even that may hold it up.
            saying = Thread(
                target=tell, args=("ecotta serve", "error: something hangs, and is left behind"), daemon=True
            )
            saying.start()
            saying.join(_SAY_S)
            os._exit(TransferError.exit_code)
        if self._daemon is not None and self._daemon.serving:
            self._daemon.stop()
            self._daemon.press(waited_s)

    def _stop(self, number: int, frame: object) -> None:
        self.received.append(number)
        if self._daemon is None or not self._daemon.serving:
            raise SystemExit(self.code)  # there is nothing to save, and trying a new bundle may take minutes
        self._daemon.stop()

    def _read_again(self, number: int, frame: object) -> None:
        self._reload = True
        if self._daemon is not None:
            self._daemon.reload()
