r"""Take the states that boards have left with an MQTT broker, and put them into a folder: on a gateway, for a timer.

Each is written to FOLDER/NAME.state.safetensors, whole or not at all. NAME is what + or # of the topic stand for. What
is no state is told and passed over; what an earlier call has written stays. `ecotta merge FOLDER/*` merges them, and
so does the ClientApp of `ecotta_rt.flower` with that folder. Exit code 74: the broker cannot be reached.

examples:
  ecotta state collect /srv/boards --from mqtts://broker/boards/+/state --user gateway \
      --secret-file /etc/ecotta/mqtt.password
  ecotta state collect boards/ --from mqtt://127.0.0.1/boards/+/state --json
"""

import argparse
from pathlib import Path
from typing import Any

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.cli.state_send import add_connection, address_in
from ecotta_rt.messages import show, tell

__all__ = ["NAME", "SCHEMA", "add_arguments", "run"]

NAME = "collect"

SCHEMA = 1
"""Version of the JSON object."""

_MOST_BOARDS = 10_000
_MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="where to; made where it is not there")
    add("--from", dest="origin", metavar="ADDRESS", required=True, help="mqtts://HOST/TOPIC, or mqtt://; with + or #")
    add_connection(parser)
    add(
        "--quiet",
        metavar="S",
        type=float,
        default=5.0,
        help="where nothing comes for so many seconds, that was all (5)",
    )
    add("--most", metavar="N", type=int, default=_MOST_BOARDS, help="states that are taken, at most (10000)")
    add("--most-mib", metavar="N", type=int, default=64, help="a longer state is passed over (64)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Take them, and say how many there were."""
    from ecotta_rt.errors import UsageError
    from ecotta_rt.fleet.drop.mqtt import retained

    check_json(args.json)
    if not (0.01 <= args.quiet <= 3600 and 1 <= args.most <= 1_000_000 and 1 <= args.most_mib <= 256):
        raise UsageError("--quiet takes 0.01 to 3600 s, --most 1 to 1000000, --most-mib 1 to 256")
    address = address_in(args, args.origin)
    if address.is_http:
        raise UsageError(f"{args.origin}: a web server puts states into its folder itself; collect asks an MQTT broker")
    collected = _Collected(args.folder, address.path)
    most_bytes = args.most_mib * _MIB
    retained(address, collected.take, quiet_s=args.quiet, most=args.most, most_bytes=most_bytes)
    write_json(args.json, {"schema": SCHEMA, "folder": str(args.folder), **collected.facts()})
    if args.json != STDOUT:
        passed_over = f"; {len(collected.refused)} passed over" if collected.refused else ""
        show(f"{len(collected.taken)} states are in {args.folder}{passed_over}")
    return 0


class _Collected:
    """States, as they come in."""

    def __init__(self, folder: Path, topics: str) -> None:
        self._folder, self._topics = folder, topics
        self.taken: list[str] = []
        self.refused: dict[str, str] = {}

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"taken": sorted(self.taken), "passed_over": self.refused}

    def take(self, topic: str, content: bytes) -> None:
        """Write one, or say why not."""
        from ecotta_rt.errors import InputFileError
        from ecotta_rt.files.atomic import write_atomic
        from ecotta_rt.fleet.drop.mqtt import board_of
        from ecotta_rt.fleet.folder import state_path
        from ecotta_rt.state import AdaptState

        try:
            if not content:
                raise InputFileError(f"{topic}: empty, or longer than a state may be")
            AdaptState.from_bytes(content, topic)
        except InputFileError as error:
            self.refused[topic] = str(error)
            tell("ecotta state collect", f"warning: passed over: {error}")
            return
        name = board_of(topic, self._topics)
        write_atomic(state_path(self._folder, name), content)
        self.taken.append(name)
