"""Look at what cameras have learned, and put an older state back or begin anew.

WHERE is one of
  FOLDER        the state folder of `ecotta serve`, or the folder of one camera in it
  CONFIG.toml   a configuration of `ecotta serve`
  FILE          one state, such as `ecotta run` keeps it (list, show, check and diff)
  FOLDER        of states of boards, NAME.state.safetensors, as gateways have them (the same four)

list       every generation: when, why, frames behind it, size, and whether it can be gone on from
show       what is in one: frames, distance from the source by norm, the filter, the memory of places
check      read all that is there; exit code 4 where one cannot be used
diff       how far two of them are apart, by part, relative to the larger magnitude
rollback   make an older one the newest, as a new generation; so this can be undone in the same way
adopt      make a state's file the newest, such as one merged from many boards; what was learned before is kept, too
reset      begin at the source, also as a new generation; what was learned before is kept whatever comes after it
send       send the newest one to a gateway: `ecotta state send --help`
collect    take from a broker what boards have sent: `ecotta state collect --help`

A generation is the number that `list` shows. Without one, show takes the newest valid one, diff the two newest, and
rollback the one before the newest. For diff and show it may also be a state's file, or `source` for the bundle's own;
in a folder of states of boards it is a board's name.
rollback, adopt and reset are refused while a daemon runs on the folder: stop it first.

examples:
  ecotta state list /var/lib/ecotta
  ecotta state show door.toml --camera front-door
  ecotta state list from-boards/
  ecotta state show from-boards/ door                               that of one board
  ecotta state check from-boards/ --bundle net.ecotta               also whether they are of this network
  ecotta state diff /var/lib/ecotta 41 42 --camera front-door
  ecotta state diff /var/lib/ecotta source --bundle net.ecotta      what the newest has learned
  ecotta state diff net.state.safetensors old.safetensors
  ecotta state rollback /var/lib/ecotta 41 --camera front-door
  ecotta state adopt door.toml merged.state.safetensors --camera front-door
  ecotta state reset /var/lib/ecotta --camera front-door
  ecotta state list /var/lib/ecotta --json              JSON to stdout; --json FILE writes it beside the text
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.messages import show

if TYPE_CHECKING:  # they need numpy, which --help does not
    from ecotta_rt.cli.state_location import StateLocation

__all__ = ["NAME", "SCHEMA", "SUBCOMMANDS", "add_arguments", "run"]

NAME = "state"

SUBCOMMANDS: dict[str, str] = {
    "send": "send the newest state of a camera to a gateway, by HTTP or MQTT",
    "collect": "take the states that boards have left with an MQTT broker",
}
"""Name -> its line in lists. The module is `ecotta_rt.cli.state_NAME`, with options of its own."""

SCHEMA = 1
"""Version of the JSON object."""

_ALL = 1 << 40  # generations kept: how many there are to be is for the daemon's configuration

Report = tuple[str, dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("action", choices=(*_ACTIONS, *SUBCOMMANDS), help="what to do, see above")
    add("where", metavar="WHERE", type=Path, help="a state folder, a configuration (.toml) or a state's file")
    add("which", metavar="GENERATION", nargs="*", help="which of them, see above; for adopt: the state's FILE")
    add("--camera", metavar="NAME", help="of which camera, where there are several")
    add(
        "--bundle",
        metavar="FILE",
        type=Path,
        help="the network's bundle: it tells its states from others, and how far they are from their source (default: "
        "the configuration's, or the one that the folder or file is named after)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Do it, and say what came of it."""
    from ecotta_rt.cli.state_location import state_location
    from ecotta_rt.cli.state_text import finite

    if args.action in SUBCOMMANDS:
        raise UsageError(f"name the action first: ecotta state {args.action} ...")
    check_json(args.json, args.where, *args.which)
    action, most = _ACTIONS[args.action]
    if args.action == "adopt" and len(args.which) != 1:
        raise UsageError(f"adopt takes the file of one state; {len(args.which)} are given")
    if len(args.which) > most:
        raise UsageError(f"{args.action} takes at most {most} after WHERE; {' '.join(args.which)} is too much")
    text, facts = action(state_location(args.where, args.bundle), args.camera, args.which)
    write_json(args.json, finite({"schema": SCHEMA, "action": args.action, "where": str(args.where), **facts}))
    if args.json != STDOUT:
        show(text)
    if facts.get("refused"):
        first = facts["refused"][0]["why"]
        raise InputFileError(f"{len(facts['refused'])} of {facts['checked']} states cannot be used; the first: {first}")
    return 0


def _list(location: "StateLocation", camera: str | None, which: Sequence[str]) -> Report:
    from ecotta_rt.cli.state_text import camera_facts, camera_text, file_facts, file_text, files_text

    if location.file is not None:
        facts = file_facts(location.file)
        return file_text(facts), {"file": facts}
    boards = {name: path for name, path in location.boards.items() if camera in (None, name)}
    if boards:
        files = [file_facts(path) for path in boards.values()]
        return files_text(files, boards), {"files": files}
    cameras = location.cameras if camera is None else [location.camera(camera)]
    found = [camera_facts(one) for one in cameras]
    text = "\n\n".join(map(camera_text, found)) or f"{location.where}: no states{location.hint}"
    return text, {"cameras": found}


def _show(location: "StateLocation", camera: str | None, which: Sequence[str]) -> Report:
    from ecotta_rt.cli.state_text import state_text
    from ecotta_rt.daemon.saving.state_facts import state_facts

    label, state = location.state(camera, which[0] if which else None)
    facts = {"state": label, **state_facts(state, location.source_of(state), location.classes)}
    return state_text(facts, location.why_no_source), facts


def _check(location: "StateLocation", camera: str | None, which: Sequence[str]) -> Report:
    from ecotta_rt.cli.state_text import check_text, checked_files

    cameras = [location.camera(camera)] if camera is not None else location.cameras
    kept = [one for its in cameras for one in its.all()]
    if kept:
        digests = [one.state.network_digest for one in kept if one.state is not None]
        refused = [{"path": str(one.snapshot.path), "why": one.refused} for one in kept if one.state is None]
    else:
        digests, refused = checked_files(location)
    facts = {"checked": len(digests) + len(refused), "networks": sorted({*digests}), "refused": refused}
    return check_text(facts), facts


def _diff(location: "StateLocation", camera: str | None, which: Sequence[str]) -> Report:
    from ecotta_rt.cli.state_text import differences_text
    from ecotta_rt.daemon.saving.state_facts import differences

    (first, one), (second, other) = location.pair(camera, which)
    facts = {"states": [first, second], "parts": differences(one, other)}
    return differences_text(facts), facts


def _rollback(location: "StateLocation", camera: str | None, which: Sequence[str]) -> Report:
    from ecotta_rt.daemon.saving.snapshots import Snapshots, folder_locked

    states = location.camera(camera)
    with folder_locked(states.folder.parent, "stop it first (systemctl stop ecotta)"):
        newest, kept = location.rollback_from(states, which[0] if which else None)
        assert kept.state is not None
        snapshots = Snapshots(states.folder, kept.state.network_digest, _ALL)
        new = snapshots.write(kept.state, f"rollback to {kept.snapshot}")
    facts = {
        "camera": states.camera,
        "copied": kept.snapshot.generation,
        "generation": new.generation,
        "path": str(new.path),
    }
    text = f"{states.camera}: {new} is a copy of {kept.snapshot}, and the next start goes on from it\n"
    return text + _undo(location, states.camera, newest), facts


def _adopt(location: "StateLocation", camera: str | None, which: Sequence[str]) -> Report:
    from ecotta_rt.daemon.saving.snapshots import Snapshots, folder_locked

    states = location.camera_to_be(camera)
    with folder_locked(states.folder.parent, "stop it first (systemctl stop ecotta)"):
        newest, state = location.to_adopt(states, which[0])
        snapshots = Snapshots(states.folder, state.network_digest, _ALL)
        snapshots.keep_before_reset()
        new = snapshots.write(state, f"adopted {Path(which[0]).name}")
    facts = {"camera": states.camera, "adopted": which[0], "generation": new.generation, "path": str(new.path)}
    text = f"{states.camera}: {new} is {which[0]}, and the next start goes on from it"
    if newest is None:
        return text + f"\nto undo it: ecotta state reset {location.where} --camera {states.camera}", facts
    return f"{text}; what was learned is kept\n{_undo(location, states.camera, newest)}", facts


def _reset(location: "StateLocation", camera: str | None, which: Sequence[str]) -> Report:
    from ecotta_rt.daemon.saving.snapshots import Snapshots, folder_locked

    states = location.camera(camera)
    hint = "stop it first (systemctl stop ecotta), or ask it: by MQTT or on its page, where these are switched on"
    with folder_locked(states.folder.parent, hint):
        newest = states.newest()
        assert newest.state is not None
        snapshots = Snapshots(states.folder, newest.state.network_digest, _ALL)
        snapshots.keep_before_reset()
        new = snapshots.write_source("reset")
    facts = {"camera": states.camera, "generation": new.generation, "path": str(new.path)}
    text = f"{states.camera}: the next start begins at the source ({new}); what was learned is kept\n"
    return text + _undo(location, states.camera, newest.snapshot.generation), facts


def _undo(location: "StateLocation", camera: str, generation: int) -> str:
    return f"to undo it: ecotta state rollback {location.where} {generation} --camera {camera}"


_ACTIONS: dict[str, tuple[Callable[["StateLocation", str | None, Sequence[str]], Report], int]] = {
    "list": (_list, 0),
    "show": (_show, 1),
    "check": (_check, 0),
    "diff": (_diff, 2),
    "rollback": (_rollback, 1),
    "adopt": (_adopt, 1),
    "reset": (_reset, 0),
}
"""What can be done, and how many generations it takes at most."""
