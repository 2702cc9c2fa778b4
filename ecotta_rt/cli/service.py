"""Run `ecotta serve` as a systemd service: write a unit from its configuration, or take it away.

ACTION is one of
  install     write the unit, enable it and start it; or write it anew after CONFIG was changed, and restart it
  uninstall   stop it and remove the unit; configuration and what was learned stay
  show        print the unit and do nothing

The unit allows what the configuration needs and nothing else: V4L2 devices only for such cameras, the network only for
cameras and outputs that use it, folders below /var/lib, /var/log, /var/cache and /run by their names. It has a user of
its own (DynamicUser), a memory limit from the plan for the bundle and the device, and a watchdog that is fed by the
loop that works. It is called ecotta-NAME after CONFIG (ecotta.toml: ecotta).

Files that texts of CONFIG come from ("file:/etc/ecotta/token") are read by systemd and handed to the service, so they
may be root's alone. Environment variables come from a file beside CONFIG with the suffix .env, mode 0600. The
configuration is read as the service will read it, and a fault ends this with 78.

examples:
  ecotta service show /etc/ecotta/door.toml
  sudo ecotta service install /etc/ecotta/door.toml
  journalctl --unit ecotta-door --follow
  sudo ecotta service uninstall /etc/ecotta/door.toml
  ecotta service install --user ~/door.toml              for your own user, without root
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.messages import tell

if TYPE_CHECKING:
    from ecotta_rt.errors import TransferError

__all__ = ["NAME", "SYSTEM_UNITS", "add_arguments", "run"]

NAME = "service"

SYSTEM_UNITS = Path("/etc/systemd/system")
"""Where units of this machine's owner are."""

_NO_BUS = (
    "Each user has a systemd of its own from a login on: log in as that user by SSH or at the machine, not by sudo or "
    "su, and keep it after logging out with: sudo loginctl enable-linger USER"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = ("install", "uninstall", "show")
    parser.add_argument("action", metavar="ACTION", choices=actions, help="install, uninstall or show")
    parser.add_argument("config", metavar="CONFIG", type=Path, help="the configuration of the daemon, a TOML file")
    add = parser.add_argument
    add("--name", help="of the service (default: ecotta-NAME after CONFIG)")
    add("--user", action="store_true", help="a service of your own user; most of what shuts a service in is root's")
    add("--program", metavar="FILE", help="the command ecotta as the service shall find it (default: this one)")
    add("--no-start", action="store_true", help="write the unit, and leave starting to you")
    add("--force", action="store_true", help="replace a unit that we have not made, and do not mind what looks wrong")


def run(args: argparse.Namespace) -> int:
    """Do what is asked."""
    name = _name(args)
    if args.action == "uninstall":
        _uninstall(args, name)
        return 0
    from ecotta_rt.daemon.systemd.service import service_of, troubles
    from ecotta_rt.daemon.systemd.unit import unit_text
    from ecotta_rt.errors import UsageError

    service = service_of(args.config, name, _program(args.program), user=args.user)
    found = list(troubles(service))
    for trouble in found:
        tell("ecotta service", f"warning: {trouble}")
    if args.action == "show":
        print(unit_text(service), end="")
        return 0
    if found and not args.force:
        raise UsageError("nothing was installed, since the service could not run; --force does it nevertheless")
    _install(args, name, unit_text(service))
    return 0


def _name(args: argparse.Namespace) -> str:
    from ecotta_rt.errors import UsageError

    stem = args.config.stem
    name = args.name or (stem if stem.startswith("ecotta") else f"ecotta-{stem}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name, re.ASCII):
        raise UsageError(f"{name!r} is no name of a service: give letters, digits, - and _ with --name")
    return name


def _program(given: str | None) -> str:
    """The command that the service runs: the one beside our interpreter, in its virtual environment."""
    from ecotta_rt.errors import UsageError

    program = given or str(Path(sys.executable).with_name("ecotta"))
    if given is None and not os.access(program, os.X_OK):
        raise UsageError(f"there is no command {program}; name it with --program")
    return os.path.abspath(program)


def _folder(user: bool) -> Path:
    if not user:
        return SYSTEM_UNITS
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "systemd" / "user"


def _install(args: argparse.Namespace, name: str, text: str) -> None:
    from ecotta_rt.files.atomic import write_atomic

    path = _folder(args.user) / f"{name}.service"
    if not args.force:
        _refuse_others(path)
    _require_systemd()
    if args.user:
        _require_manager(f"nothing was written to {path}")
    write_atomic(path, text.encode())
    path.chmod(0o644)
    tell("ecotta service", f"wrote {path}")
    _systemctl(args.user, "daemon-reload")
    scope = " --user" if args.user else ""
    if args.no_start:
        tell("ecotta service", f"start it with: systemctl{scope} enable --now {name}")
        return
    _systemctl(args.user, "enable", name)
    _systemctl(args.user, "restart", name)
    tell("ecotta service", f"started; its answers: journalctl{scope} --unit {name} --follow")


def _uninstall(args: argparse.Namespace, name: str) -> None:
    from ecotta_rt.errors import UsageError

    path = _folder(args.user) / f"{name}.service"
    if not path.exists():
        raise UsageError(f"there is no {path}; with --name give the service's name, with --user look at your own")
    if not args.force:
        _refuse_others(path)
    _require_systemd()
    left = _tried(args.user, "disable", "--now", name)
    if left is not None and not args.user:
        raise left
    _remove(path)
    if left is None:
        _systemctl(args.user, "daemon-reload")
    else:
        (path.parent / "default.target.wants" / path.name).unlink(missing_ok=True)
        tell("ecotta service", f"warning: {left}; if it runs, it was not stopped. {_NO_BUS}")
    tell("ecotta service", f"removed {path}; {args.config} and what was learned are where they were")


def _refuse_others(path: Path) -> None:
    from ecotta_rt.daemon.systemd.unit import MARK
    from ecotta_rt.errors import UsageError

    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise UsageError(f"{path} was not made by this command; give --name, or --force")


def _remove(path: Path) -> None:
    from ecotta_rt.errors import TransferError

    try:
        path.unlink()
    except OSError as error:
        raise TransferError(f"{path} cannot be removed: {error.strerror}; use sudo") from error


def _require_systemd() -> None:
    from ecotta_rt.errors import Unavailable

    if shutil.which("systemctl") is None:
        raise Unavailable("there is no systemctl: this machine has no systemd; `ecotta service show` prints the unit")


def _require_manager(outcome: str) -> None:
    """Say before anything is written that no manager of this user's answers."""
    from ecotta_rt.errors import Unavailable

    if (error := _tried(True, "show-environment")) is not None:
        raise Unavailable(f"{outcome}: {error}. {_NO_BUS}")


def _tried(user: bool, *words: str) -> "TransferError | None":
    from ecotta_rt.errors import TransferError

    try:
        _systemctl(user, *words)
    except TransferError as error:
        return error
    return None


def _systemctl(user: bool, *words: str) -> None:
    from ecotta_rt.errors import TransferError

    command = ["systemctl", *(["--user"] if user else []), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TransferError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")
