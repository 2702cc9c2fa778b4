"""Whether what a configuration names is there, looked at before anything starts."""

from collections.abc import Callable, Collection, Iterator, Sequence, Set
from ipaddress import ip_address
from os.path import exists, isfile  # those of pathlib raise where a name is too long or nobody may look
from pathlib import Path

from ecotta_rt.daemon.configuration.config import Config, Reading
from ecotta_rt.daemon.configuration.output_check import output_faults
from ecotta_rt.daemon.configuration.source_check import source_faults
from ecotta_rt.daemon.http.http_options import http_fault
from ecotta_rt.errors import EcottaError
from ecotta_rt.files.fields import FieldPath, nearest
from ecotta_rt.machine.device import load_device
from ecotta_rt.sinks.alert_rules import unknown_label

__all__ = ["faults_of"]

Faults = Iterator[tuple[FieldPath, str]]

_FEW = 10
_TABLES = ("network", "camera", "state", "sink", "alert", "http")


def faults_of(reading: Reading, made: Collection[Path] = (), whole: Collection[str] = _TABLES) -> list[EcottaError]:
    """Everything that would keep the daemon from starting, as far as it can be found without starting.

    Args:
        reading: The configuration.
        made: Folders in which others will be there when it starts; an output there is not looked at.
        whole: The tables that could be read; nothing that needs another one is looked at.
    """
    return [reading.document.error(path, problem) for path, problem in _faults(reading, made, {*whole})]


def _faults(reading: Reading, made: Collection[Path], whole: Set[str]) -> Faults:
    config = reading.config
    if "network" in whole:
        yield from _bundle(config.network.bundle)
        device = config.network.device
        if device is not None:
            yield from _tried(("network", "device"), lambda: load_device(device))
    if "camera" in whole:
        yield from source_faults(config.cameras)
    if {"network", "camera", "state", "sink"} <= whole:
        yield from output_faults(reading, made)
    yield from _camera_names(reading, whole)
    if {"network", "alert"} <= whole:
        yield from _labels(config)
    if "http" in whole:
        yield from _host(config.http.host)
        if (fault := http_fault(config.http)) is not None:
            yield ("http", fault[0]), fault[1]


def _bundle(bundle: str) -> Faults:
    if not isfile(bundle):
        there = "this is no file" if exists(bundle) else "no such file, or none that may be read"
        yield ("network", "bundle"), f"{bundle}: {there}; expected a bundle (.ecotta), as ecotta prepare makes it"


def _camera_names(reading: Reading, whole: Set[str]) -> Faults:
    """Of cameras that outputs and alerts are for; a camera with a fault is there all the same."""
    config = reading.config
    entries = reading.document.values.get("camera")
    written = [entry.get("name") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    names = [name for name in written if isinstance(name, str)]
    sinks = config.sinks if "sink" in whole and names else ()
    alerts = config.alert_rules if "alert" in whole and names else ()
    wanted: list[tuple[FieldPath, tuple[str, ...]]] = [
        *((("sink", at, "cameras"), output.options.cameras) for at, output in enumerate(sinks)),
        *((("alert", at, "cameras"), rule.cameras) for at, rule in enumerate(alerts)),
    ]
    for path, cameras in wanted:
        for name in cameras:
            if name not in names:
                yield path, f"there is no camera {name!a}; {nearest(name, names)}there are: {', '.join(names)}"


def _labels(config: Config) -> Faults:
    """Of classes that alerts wait for; the bundle is asked for its classes only where there are such."""
    if not any(rule.label for rule in config.alert_rules) or not isfile(config.network.bundle):
        return
    from ecotta_rt.bundle import read_bundle

    try:
        classes = read_bundle(config.network.bundle, verify=False).manifest.classes
    except EcottaError as error:
        yield ("network", "bundle"), str(error)
        return
    for at, rule in enumerate(config.alert_rules):
        if rule.label is not None and unknown_label(rule, classes):
            problem = f"the network has no class {rule.label!a}; {nearest(rule.label, classes)}{_few(classes)}"
            yield ("alert", at, "label"), problem


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"it has {', '.join(names[:_FEW])}{more}"


def _host(host: str) -> Faults:
    """A host's name is looked up when it is needed; what looks like an address must be one."""
    if ":" in host or host.replace(".", "").isdigit():
        try:
            ip_address(host)
        except ValueError:
            yield ("http", "host"), f"{host} is no address; write for example 127.0.0.1, ::1 or 0.0.0.0"


def _tried(path: FieldPath, call: Callable[[], object]) -> Faults:
    try:
        call()
    except EcottaError as error:
        yield path, str(error)
    except OSError as error:
        yield path, f"it cannot be read: {error.strerror}"
