r"""Send the newest state of a camera to a gateway, where states of many boards are merged: once, for a timer.

WHERE is a state folder, the folder of one camera in it, a configuration (.toml) or a state's file, as for
`ecotta state`. What is sent is a state as a file has it, without the filter and the memory of places; no picture is
in it. The daemon goes on meanwhile.

--to is one of
  https://HOST/PATH     PUT to a web server that takes files (or http://)
  mqtts://HOST/TOPIC    a retained message of a broker (or mqtt://); extra `mqtt`

Where the other side is out it is tried again, after up to 1, 2, 4 seconds and so on. Exit code 74: it was not sent.

examples:
  ecotta state send /var/lib/ecotta --camera front-door --to https://gateway/boards/door.state.safetensors \
      --secret-file /etc/ecotta/gateway.token --ca-file /etc/ecotta/gateway-ca.pem
  ecotta state send door.toml --to mqtts://broker/boards/door/state --user door --secret-file /etc/ecotta/mqtt.password
  ecotta state send net.state.safetensors --to http://192.168.1.10:8080/boards/door.state.safetensors --tries 1
"""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.messages import show, tell

if TYPE_CHECKING:  # --help needs none of it
    from ecotta_rt.fleet.drop.address import Address

__all__ = ["NAME", "SCHEMA", "add_arguments", "add_connection", "address_in", "run"]

NAME = "send"

SCHEMA = 1
"""Version of the JSON object."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("where", metavar="WHERE", type=Path, help="a state folder, a configuration (.toml) or a state's file")
    add("--camera", metavar="NAME", help="of which camera, where there are several")
    add("--to", metavar="ADDRESS", required=True, help="where to, see above")
    add_connection(parser)
    add("--tries", metavar="N", type=int, default=5, help="how often it is tried, up to 20 (5)")
    add_json(parser)


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Declare who we are for the other side, and what we trust; `collect` has the same."""
    add = parser.add_argument
    add("--user", metavar="NAME", help="of the broker")
    add("--secret-file", metavar="FILE", help="its only line is the token of the web server, or the user's password")
    add("--ca-file", metavar="FILE", help="certificates to trust instead of the system's")
    add("--cert-file", metavar="FILE", help="our own certificate")
    add("--key-file", metavar="FILE", help="and its key")
    add("--timeout", metavar="S", type=float, default=30.0, help="seconds for the other side to answer (30)")


def address_in(args: argparse.Namespace, url: str) -> "Address":
    """The address that is meant; raises as `address_of`."""
    from ecotta_rt.fleet.drop.address import address_of

    return address_of(
        url,
        user=args.user,
        secret_file=args.secret_file,
        ca_file=args.ca_file,
        cert_file=args.cert_file,
        key_file=args.key_file,
        timeout_s=args.timeout,
    )


def run(args: argparse.Namespace) -> int:
    """Send it, and say so."""
    from ecotta_rt.cli.state_location import state_location
    from ecotta_rt.errors import UsageError
    from ecotta_rt.fleet.drop.sending import MOST_TRIES, send
    from ecotta_rt.fleet.shared import shared
    from ecotta_rt.machine.clock import SystemClock

    check_json(args.json, args.where)
    if not 1 <= args.tries <= MOST_TRIES:
        raise UsageError(f"--tries {args.tries}: give 1 to {MOST_TRIES}")
    address = address_in(args, args.to)
    location = state_location(args.where, None)
    of_file = location.file is not None and args.camera is None
    label, state = location.state(None, None) if of_file else location.camera(args.camera).learned()
    content = shared(state).to_bytes()
    tries = send(address, content, args.tries, clock=SystemClock(), say=partial(tell, "ecotta state send"))
    facts = {"state": label, "to": str(address), "bytes": len(content), "tries": tries}
    write_json(args.json, {"schema": SCHEMA, **facts})
    if args.json != STDOUT:
        show(f"{label}: {len(content):,} bytes sent to {address}")
    return 0
