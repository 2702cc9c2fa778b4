"""Whether what a configuration names is there, looked at before anything starts."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from ipaddress import ip_address
from os.path import realpath
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from ecotta_rt.daemon.http_options import http_fault
from ecotta_rt.errors import EcottaError
from ecotta_rt.files.fields import Document, Path, nearest
from ecotta_rt.machine.device import load_device
from ecotta_rt.messages import mask
from ecotta_rt.plugs import plug_for
from ecotta_rt.sinks.alert_rules import unknown_label
from ecotta_rt.sinks.kinds import sink_kind
from ecotta_rt.sources.opening import PLUGS
from ecotta_rt.sources.source import SourcePlug

if TYPE_CHECKING:
    from ecotta_rt.daemon.config import Config, Output

__all__ = ["faults_of"]

Faults = Iterator[tuple[Path, str]]

_FEW = 10
_ONE_READER = re.compile("stdin:|picamera:[0-9]*", re.ASCII)
_SCHEMES = ("rtsp", "rtsps", "http", "https")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s:\[\]@]+)(?::([0-9]{1,5}))?", re.ASCII)


def faults_of(config: "Config", document: Document, made: Collection[FilePath] = ()) -> list[EcottaError]:
    """Everything that would keep the daemon from starting, as far as it can be found without starting.

    Args:
        config: What holds.
        document: Where it was given.
        made: Folders in which others will be there when it starts; an output there is not looked at.
    """
    return [document.error(path, problem) for path, problem in _faults(config, made)]


def _faults(config: "Config", made: Collection[FilePath]) -> Faults:
    yield from _bundle(config.network.bundle)
    device = config.network.device
    if device is not None:
        yield from _tried(("network", "device"), lambda: load_device(device))
    for at, camera in enumerate(config.cameras):
        yield from _source(camera.source, ("camera", at, "source"))
        yield from _address(camera.source, ("camera", at, "source"))
    yield from _doubled_devices(config)
    yield from _outputs(config, made)
    yield from _camera_names(config)
    yield from _labels(config)
    yield from _host(config.http.host)
    if (fault := http_fault(config.http)) is not None:
        yield ("http", fault[0]), fault[1]


def _bundle(bundle: str) -> Faults:
    if not FilePath(bundle).is_file():
        there = "this is no file" if FilePath(bundle).exists() else "no such file"
        yield ("network", "bundle"), f"{bundle}: {there}; expected a bundle (.ecotta), as ecotta prepare makes it"


def _source(source: str, path: Path) -> Faults:
    try:
        plug = plug_for(source, PLUGS, SourcePlug, "ecotta_rt.sources")
    except EcottaError as error:
        yield path, str(error)
        return
    if plug is None:
        known = ", ".join(plug.shown for plug in reversed(PLUGS))
        yield path, f"expected one of {known}, found {mask(source)}; there is no such file or folder, if it is one"
        return
    yield from _tried(path, lambda: plug.checks(source))


def _address(source: str, path: Path) -> Faults:
    """A camera that is away is waited for, and one whose address nobody can parse would be for ever."""
    scheme, _, rest = source.partition("://")
    if scheme.lower() not in _SCHEMES:
        return
    host = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    parsed = _HOST.fullmatch(host)
    if parsed is None or not 0 < int(parsed[1] or 1) < 1 << 16:
        hint = "within a user or password write / as %2F, : as %3A and @ as %40"
        yield path, f"expected {scheme}://HOST or {scheme}://HOST:PORT before the path, found {mask(source)}; {hint}"


def _doubled_devices(config: "Config") -> Faults:
    """Two readers of one device, or of standard input, keep each other out."""
    seen: dict[str, str] = {}
    for at, camera in enumerate(config.cameras):
        device = _device(camera.source)
        other = camera.name if device is None else seen.setdefault(device, camera.name)
        if other != camera.name:
            yield ("camera", at, "source"), f"{camera.source} is the device of camera {other!r}; each needs its own"


def _device(source: str) -> str | None:
    """What only one can read; None: others may read the source, too."""
    bare = source.partition("?")[0]
    if bare.startswith("/dev/"):
        return realpath(bare)
    return {"-": "stdin:", "picamera:0": "picamera:"}.get(bare, bare if _ONE_READER.fullmatch(bare) else None)


def _outputs(config: "Config", made: Collection[FilePath]) -> Faults:
    seen: dict[str, str] = {}
    for at, output in enumerate(config.sinks):
        target = _target(output)
        other = seen.setdefault(target, output.name)
        if other != output.name:
            yield ("sink", at), f"{output.name!a} writes where {other!a} does ({target}); name another file"
        if not any(FilePath(target).is_relative_to(folder) for folder in made):
            yield from _tried(("sink", at), partial(sink_kind(output.kind).checks, output.options, output.name))


def _camera_names(config: "Config") -> Faults:
    """Of cameras that outputs and alerts are for."""
    names = [camera.name for camera in config.cameras]
    wanted: list[tuple[Path, tuple[str, ...]]] = [
        *((("sink", at, "cameras"), output.options.cameras) for at, output in enumerate(config.sinks)),
        *((("alert", at, "cameras"), rule.cameras) for at, rule in enumerate(config.alerts)),
    ]
    for path, cameras in wanted:
        for name in cameras:
            if name not in names:
                yield path, f"there is no camera {name!a}; {nearest(name, names)}there are: {', '.join(names)}"


def _labels(config: "Config") -> Faults:
    """Of classes that alerts wait for; the bundle is asked for its classes only where there are such."""
    if not any(rule.label for rule in config.alerts) or not FilePath(config.network.bundle).is_file():
        return
    from ecotta_rt.bundle import read_bundle

    try:
        classes = read_bundle(config.network.bundle, verify=False).manifest.classes
    except EcottaError as error:
        yield ("network", "bundle"), str(error)
        return
    for at, rule in enumerate(config.alerts):
        if rule.label is not None and unknown_label(rule, classes):
            problem = f"the network has no class {rule.label!a}; {nearest(rule.label, classes)}{_few(classes)}"
            yield ("alert", at, "label"), problem


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"it has {', '.join(names[:_FEW])}{more}"


def _target(output: "Output") -> str:
    """What an output has for itself: a file, or standard output; else nothing that another could have."""
    for field in ("file", "path", "socket"):
        if path := getattr(output.options, field, None):
            return realpath(str(path))
    return "standard output" if hasattr(output.options, "file") else f"the output {output.name}"


def _host(host: str) -> Faults:
    """A host's name is looked up when it is needed; what looks like an address must be one."""
    if ":" in host or host.replace(".", "").isdigit():
        try:
            ip_address(host)
        except ValueError:
            yield ("http", "host"), f"{host} is no address; write for example 127.0.0.1, ::1 or 0.0.0.0"


def _tried(path: Path, call: Callable[[], object]) -> Faults:
    try:
        call()
    except EcottaError as error:
        yield path, str(error)
