"""List the boards and phones we know, or show one with the sources of its figures.

examples:
  ecotta devices
  ecotta devices raspberry-pi-zero-2w
  ecotta devices this-machine
  ecotta devices my-board.toml          a profile of your own; its fields: devices/README.md
  ecotta devices --json                 all of them, as JSON
"""

import argparse
import json
from collections.abc import Sequence

from ecotta_rt.machine.device import SCHEMA, DeviceProfile, device_ids, load_device
from ecotta_rt.messages import in_columns, show

__all__ = ["NAME", "add_arguments", "run"]

NAME = "devices"

_MIB = 2**20
_COLUMNS = ("id", "host", "RAM", "visible", "available", "limit", "cores", "isa")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("device", nargs="?", metavar="ID", help="a device id, or the path of a profile ending in .toml")
    parser.add_argument("--json", action="store_true", help="print JSON: figures with their marks and sources")


def run(args: argparse.Namespace) -> int:
    """Print one device, or all of them."""
    profiles = [load_device(device) for device in ([args.device] if args.device else device_ids())]
    if args.json:
        print(json.dumps({"schema": SCHEMA, "devices": [profile.as_json() for profile in profiles]}, indent=2))
    elif args.device:
        show(_one(profiles[0]))
    else:
        show(_table(profiles))
    return 0


def _table(profiles: Sequence[DeviceProfile]) -> str:
    table = in_columns([_COLUMNS, *(_row(profile) for profile in profiles)])
    legend = "Memory in MiB (2^20 bytes); - where nobody has measured it. ecotta devices ID shows the sources."
    return f"{table}\n\n{legend}"


def _row(profile: DeviceProfile) -> tuple[str, ...]:
    memory = (profile.ram_bytes, profile.visible_bytes, profile.available_bytes, profile.default_limit_bytes)
    sizes = ("-" if size is None else f"{size / _MIB:.0f}" for size in memory)
    return (profile.id, profile.host, *sizes, str(profile.cores), " ".join(profile.isa))


def _one(profile: DeviceProfile) -> str:
    lines = [f"{profile.name} ({profile.id}), host {profile.host}", ""]
    for key, evidence in profile.evidence.items():
        lines += [f"  {key:<20} {_shown(key, getattr(profile, key))}", f"  {'':<20} {evidence.mark}: {evidence.source}"]
    notes = [f"  {note}" for note in profile.notes]
    return "\n".join([*lines, "", *notes] if notes else lines)


def _shown(key: str, value: int | str | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "-"
    if isinstance(value, int) and key.endswith("_bytes"):
        return f"{value / _MIB:.1f} MiB ({value:,} bytes)"
    return str(value)
