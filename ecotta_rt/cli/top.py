"""Show a running daemon in a terminal: cameras, answers, signs of error, memory, events; for those who came by ssh.

It asks the daemon over HTTP, once a second, so the daemon's configuration needs [http] with enabled = true.
CONFIG.toml, the file that the daemon was started with, says where and with which token, which may be in the .env file
of its service; where only root may read that, use sudo. Without it the usual address is asked, with the token of the
environment variable ECOTTA_TOKEN, if there is one.

Columns: answers a second, latency from capture to answer, entropy of the network's own answers, share of frames certain
enough to learn from, share of answers that the signs expect to be wrong, batches learned from, frames dropped
but for those that `most_fps` leaves out. What does not fit is left out. `q` or Ctrl-C ends it.

examples:
  ecotta top
  ecotta top /etc/ecotta/door.toml
  ecotta top --url http://192.168.1.20:8642          with ECOTTA_TOKEN set
  ecotta top --once                                  print it once, and end
  ecotta top --json                                  all that the daemon tells, for a program

exit codes: as `ecotta --help`; 69 where no daemon answers.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from ecotta_rt.cli.daemon_status import status_of
from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.cli.top_screen import Paint, screen
from ecotta_rt.messages import show

if TYPE_CHECKING:
    pass

__all__ = ["NAME", "add_arguments", "run"]

NAME = "top"

_WIDTH, _HEIGHT = 120, 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("config", metavar="CONFIG.toml", nargs="?", help="the configuration that the daemon was started with")
    add("--url", metavar="URL", help="where the daemon is (default: as CONFIG.toml says, or http://127.0.0.1:8642)")
    add("--once", action="store_true", help="print it once, and end; so it is where standard output is no terminal")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show it until somebody has seen enough."""
    check_json(args.json, args.config)
    ask = status_of(args.config, args.url)
    status = ask()
    if args.json is not None:
        write_json(args.json, status)
    if args.json == STDOUT:
        return 0
    if args.once or args.json is not None or not (sys.stdout.isatty() and sys.stdin.isatty()):
        show("\n".join(screen(status, _WIDTH, _HEIGHT, Paint(blocks=_has_blocks()))))
        return 0
    from ecotta_rt.cli.top_terminal import repaint

    repaint(ask, Paint("NO_COLOR" not in os.environ, _has_blocks()))
    return 0


def _has_blocks() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()
