"""Begin, look over or show the configuration of `ecotta serve`, one TOML file.

ACTION is one of
  init        write a file to begin with: every field with what it is for; without FILE to standard output
  check       look it over as `ecotta serve` would before it starts: fields, secrets, bundle, cameras, outputs
  show        print what holds, with the environment over the file, and where each value comes from; secrets are masked
  test-alert  send the alert of each rule once, or of RULE, by apprise and webhooks, and say what came of it; other
              outputs are the daemon's own, which may be running

Environment variables win over the file: ECOTTA_SERVE__HTTP__PORT=9000, or for a camera or an output by its name
ECOTTA_SERVE__CAMERA__FRONT_DOOR__SOURCE=/dev/video1. A text may come from elsewhere: "${NAME}" from the environment,
"file:/run/secrets/name" from a file. Variables that the environment does not have are taken from the file beside FILE
with the suffix .env, where there is one: by `check` and `show`, by `ecotta serve`, and by the service.

examples:
  ecotta config init door.toml --bundle net.ecotta --camera /dev/video0
  ecotta config init door.toml --bundle net.ecotta --camera 'front-door=rtsp://${USER}:${PASSWORD}@10.0.0.7/live'
  ecotta config init                                     to standard output
  ecotta config check door.toml
  ecotta config check door.toml --json                   for a program
  ecotta config show door.toml
  ecotta config test-alert door.toml visitor

exit codes: as `ecotta --help`; 78 where there is a fault, with all faults that were found on stderr; 69 where all that
`check` misses is a package that a camera needs; 74 where `test-alert` could not send a message.
"""

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.messages import mask, show, tell

if TYPE_CHECKING:
    from ecotta_rt.daemon.alert_trial import Tried
    from ecotta_rt.daemon.configuration.config import Config, Reading

__all__ = ["NAME", "add_arguments", "run"]

NAME = "config"

_BUNDLE = "/etc/ecotta/net.ecotta"
_CAMERA = "/dev/video0"
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_NAMED = re.compile(f"({_NAME.pattern})=(.*)", re.ASCII | re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", metavar="ACTION", choices=[*_ACTIONS], help=f"one of {', '.join(_ACTIONS)}")
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="the configuration, a TOML file")
    parser.add_argument("rule", metavar="RULE", nargs="?", help="for test-alert: the name of one rule (default: all)")
    add_json(parser)
    add = parser.add_argument_group("for init").add_argument
    add("--bundle", metavar="BUNDLE", help=f"an exported network (.ecotta) (default {_BUNDLE})")
    add(
        "--camera",
        metavar="[NAME=]SOURCE",
        action="append",
        help=f"a camera and its name; may be given more than once (default camera={_CAMERA})",
    )
    add("--state", metavar="FOLDER", help="where what is learned is kept, such as /var/lib/ecotta")
    add("--force", action="store_true", help="replace FILE")


def run(args: argparse.Namespace) -> int:
    """Do what is asked."""
    _refuse_misplaced(args)
    _ACTIONS[args.action](args)
    return 0


def _refuse_misplaced(args: argparse.Namespace) -> None:
    from ecotta_rt.errors import UsageError

    if args.rule is not None and args.action != "test-alert":
        raise UsageError(f"config {args.action} {args.rule}: leave it out; it is for test-alert")
    if args.action == "init":
        misplaced = ["--json"] if args.json is not None else []
    else:
        misplaced = [f"--{name}" for name in ("bundle", "camera", "state", "force") if getattr(args, name)]
        if args.file is None:
            raise UsageError(f"config {args.action}: name the file of the configuration")
    if misplaced:
        raise UsageError(f"config {args.action} {misplaced[0]}: leave it out; it is for another action")


def _init(args: argparse.Namespace) -> None:
    from ecotta_rt.daemon.configuration.config_text import first_text
    from ecotta_rt.errors import UsageError
    from ecotta_rt.files.output import check_output, write_output

    cameras = _cameras(args.camera or [f"camera={_CAMERA}"])
    text = first_text(args.bundle or _BUNDLE, cameras, args.state)
    if args.file is None:
        print(text, end="")
        return
    check_output("FILE", args.file)
    if args.file.exists() and args.file.stat().st_size and not args.force:
        raise UsageError(f"{args.file} is there already; --force replaces it")
    write_output(args.file, text.encode())
    if args.bundle and not os.path.exists(args.bundle):
        tell("ecotta config", f"there is no {args.bundle} yet; `ecotta prepare` makes one")
    tell("ecotta config", f"wrote {args.file}; look it over with: ecotta config check {args.file}")
    if any(mask(source) != source and "${" not in source for source in cameras.values()):
        tell("ecotta config", f"{args.file} holds a password that all may read; write ${{NAME}} in its place")


def _cameras(given: list[str]) -> dict[str, str]:
    from ecotta_rt.errors import UsageError

    cameras: dict[str, str] = {}
    for at, text in enumerate(given):
        named = _NAMED.fullmatch(text)
        name, source = named.groups() if named else ("camera" if not at else f"camera-{at + 1}", text)
        if not source or name in cameras:
            raise UsageError(f"--camera {mask(text)}: expected NAME=SOURCE, each name once")
        if _NAME.fullmatch(text) and not os.path.exists(text):
            raise UsageError(f"--camera {text}: expected NAME=SOURCE, as {text}={_CAMERA}; there is no source {text!r}")
        cameras[name] = source
    return cameras


def _check(args: argparse.Namespace) -> None:
    from ecotta_rt.bundle import read_bundle
    from ecotta_rt.daemon.configuration.config_check import faults_of
    from ecotta_rt.daemon.configuration.config_reading import require_none
    from ecotta_rt.daemon.needs_check import missing_packages, slow_faults
    from ecotta_rt.errors import Unavailable

    check_json(args.json, args.file)
    reading = _read(args.file)
    require_none(faults_of(reading))
    require_none(list(slow_faults(reading)))
    config = reading.config
    if missing := list(missing_packages(config)):
        raise Unavailable("\n  ".join(missing))
    manifest = read_bundle(config.network.bundle).manifest
    facts = _facts(config)
    facts["network"] |= {"classes": len(manifest.classes), "network": manifest.model}
    write_json(args.json, facts)
    if args.json != STDOUT:
        show(_summary(config, facts))


def _read(path: Path) -> "Reading":
    from ecotta_rt.daemon.configuration.config_reading import read
    from ecotta_rt.daemon.configuration.environment_file import environment_of, hint_of
    from ecotta_rt.errors import ConfigurationError

    try:
        return read(path, environment_of(path, os.environ))
    except ConfigurationError as error:
        raise ConfigurationError(hint_of(path, error)) from error


def _facts(config: "Config") -> dict[str, Any]:
    http = config.http
    return {
        "file": config.path,
        "network": {"bundle": config.network.bundle},
        "cameras": [{"name": camera.name, "source": mask(camera.source)} for camera in config.cameras],
        "sinks": [{"name": sink.name, "kind": sink.kind} for sink in config.sinks],
        "state": str(config.state_folder),
        "http": f"http://{http.host}:{http.port}" if http.enabled else None,
    }


def _summary(config: "Config", facts: dict[str, Any]) -> str:
    network = facts["network"]
    lines = [
        f"{config.path} is fine:",
        f"  network  {network['bundle']}: {network['network']}, {network['classes']} classes",
        *(f"  camera   {camera['name']}: {camera['source']}" for camera in facts["cameras"]),
        *(f"  sink     {sink['name']}: {sink['kind']}" for sink in facts["sinks"]),
        f"  state    {facts['state']}, each {config.state.every_s:g} s, {config.state.generations} generations",
        f"  http     {facts['http'] or 'off'}",
    ]
    if not config.sinks:
        lines.append("There is no [[sink]], so answers go nowhere but to the page and the metrics.")
    return "\n".join(lines)


def _show(args: argparse.Namespace) -> None:
    from ecotta_rt.daemon.configuration.config_shown import as_json, as_text, shown

    check_json(args.json, args.file)
    reading = _read(args.file)
    text = args.file.read_text(encoding="utf-8")
    write_json(args.json, as_json(shown(reading, text)))
    if args.json != STDOUT:
        show(as_text(shown(reading, text)))


def _test_alert(args: argparse.Namespace) -> None:
    from dataclasses import asdict

    from ecotta_rt.daemon.alert_trial import try_alerts
    from ecotta_rt.errors import TransferError, UsageError

    check_json(args.json, args.file)
    config = _read(args.file).config
    found = []
    for tried in try_alerts(config, args.rule):
        found.append(tried)
        if args.json != STDOUT:
            show(_came(tried))
    write_json(args.json, {"messages": [asdict(tried) for tried in found]})
    failed = sum(tried.sent is False for tried in found)
    if failed:
        raise TransferError(f"{failed} of {len(found)} messages could not be sent")
    if not any(tried.sent for tried in found):
        raise UsageError(f"{args.file}: no output sends alerts to anybody; add a [[sink]] of kind apprise or webhook")


def _came(tried: "Tried") -> str:
    said = "sent" if tried.sent else f"{'not tried' if tried.sent is None else 'NOT SENT'}: {tried.why}"
    return f"{tried.rule} -> {tried.output}: {said}"


_ACTIONS = {"init": _init, "check": _check, "show": _show, "test-alert": _test_alert}
