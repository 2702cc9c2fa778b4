"""Serve several cameras with one network, for months: answers out, the network adapts to each camera by itself.

CONFIG.toml says which network, which cameras and which outputs there are; `ecotta config init` writes one to begin
with, `ecotta config check` looks at one without starting anything, and the reference explains every field.

Each camera has a state, statistics and a filter of its own, and a share of the network's time: a dead or slow one
delays no other. A camera that is lost, or not there yet, is waited for. What was learned is saved every so often and at
the end, and taken up at the next start. An output that fails or is too slow delays nothing; what it misses is counted.

SIGTERM and Ctrl-C save all states and end within 5 seconds; a second one ends at once. SIGHUP opens the files of the
outputs anew and reads CONFIG again: cameras and outputs that changed are replaced, the others go on untouched. One that
is refused changes nothing. The daemon ends by itself when no camera is left: a film or a folder that was played.

examples:
  ecotta serve ecotta.toml
  ecotta serve ecotta.toml --check                                   say what is wrong with it, and start nothing
  ECOTTA_SERVE__CAMERA__DOOR__SOURCE=/dev/video1 ecotta serve ecotta.toml
  systemctl reload ecotta                                            send SIGHUP, where it runs as a service

exit codes: as `ecotta --help`; 78 for a configuration that cannot be meant, 0 after SIGTERM, 130 after Ctrl-C.
"""

import argparse
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ecotta_rt.cli.signal_watch import signals_watched
from ecotta_rt.errors import EXIT_INTERRUPTED
from ecotta_rt.messages import show, tell

if TYPE_CHECKING:
    from ecotta_rt.daemon.daemon import Daemon

__all__ = ["NAME", "add_arguments", "run"]

NAME = "serve"

_ENDING = (signal.SIGINT, signal.SIGTERM)
_GRACE_S = 1.5
_ANSWERS_GRACE_S = 2.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", metavar="CONFIG.toml", help="the configuration")
    parser.add_argument("--check", action="store_true", help="look at the configuration, and start nothing")
    parser.add_argument(
        "--trial",
        choices=("first", "always", "off"),
        default=os.environ.get("ECOTTA_TRIAL", "first"),
        help="make one step in a process of its own before the start: when the bundle is new on this machine (first), "
        "at each start, or never; ECOTTA_TRIAL sets the default",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    from ecotta_rt.daemon.configuration.config import Config, read_config
    from ecotta_rt.daemon.needs_check import missing_packages

    def read() -> Config:
        return read_config(args.config, os.environ)

    config = read()
    for missing in missing_packages(config):
        tell("ecotta serve", f"warning: {missing}")
    if args.check:
        show(f"{args.config}: {len(config.cameras)} cameras, {len(config.sinks)} outputs, nothing wrong with it")
        return 0
    from ecotta_rt.daemon.daemon import Daemon
    from ecotta_rt.daemon.systemd.notify import Notifier

    daemon = Daemon(config, read_again=read, trial=args.trial, notifier=Notifier.of(os.environ))
    received: list[int] = []
    with _signals(daemon, received), signals_watched(_ENDING, _giving_up(daemon), _GRACE_S):
        daemon.run()
    return EXIT_INTERRUPTED if signal.SIGINT in received else 0


@contextmanager
def _signals(daemon: "Daemon", received: list[int]) -> Iterator[None]:
    """Let signals stop it, or have it read its configuration again. A second one to stop does what it always did."""

    def stop(number: int, frame: object) -> None:
        received.append(number)
        for one in _ENDING:
            signal.signal(one, before[one])
        if not daemon.serving:  # there is nothing to save, and trying a new bundle may take minutes
            raise SystemExit(EXIT_INTERRUPTED if number == signal.SIGINT else 0)
        daemon.stop()

    def reload(number: int, frame: object) -> None:
        daemon.reload()

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _giving_up(daemon: "Daemon") -> Callable[[float], None]:
    """Learning is given up first: its frames are answered all the same, in a third of the time."""
    return lambda waited_s: daemon.interrupt(answers=waited_s > _ANSWERS_GRACE_S)
