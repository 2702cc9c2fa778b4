"""Reads the configuration of `ecotta serve`: one TOML file, the environment over it, secrets from elsewhere.

    read_config("door.toml", os.environ)   ->   Config

Relative paths are taken from the working directory, as those on a command line.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ecotta_rt.daemon.configuration import config_check, overrides
from ecotta_rt.daemon.configuration.config import TABLES, Config, Output, Reading
from ecotta_rt.daemon.configuration.config_version import take_version
from ecotta_rt.daemon.configuration.secret_values import Secret, substitute
from ecotta_rt.daemon.configuration.tables import CameraOptions
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.errors import ConfigurationError, EcottaError
from ecotta_rt.files.fields import Document, FieldPath, nearest, shown, without_value
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.files.stored_zip import ARCHIVE_MARK
from ecotta_rt.files.toml_text import read_toml
from ecotta_rt.sinks.alert_rules import AlertRule, fault_of
from ecotta_rt.sinks.kinds import KINDS, sink_kind

__all__ = ["Locations", "read", "read_config", "read_locations", "require_none"]

_LISTS = ("camera", "sink", "alert")
_LOCATED = ("network", "state", "http")
_TOKEN = ("http", "token")
_MOST_ENTRIES = 64
_LEAST_SECRET = 4  # characters
_LONGEST = 60  # characters of a stranger's name in a message

T = TypeVar("T")


@dataclass(frozen=True)
class Locations:
    """Where a daemon keeps what it learns, and where it can be asked: for commands that look at it from outside.

    Attributes:
        bundle: Of its network.
        state_folder: Of its states.
        cameras: Their names.
        http: Its door; without a token where that cannot be had here.
        why_no_token: Why it cannot be had.
    """

    bundle: str
    state_folder: Path
    cameras: tuple[str, ...]
    http: HttpOptions
    why_no_token: str = ""


def read_config(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Config:
    """Read a configuration, and look whether what it names is there.

    Args:
        path: A TOML file.
        environ: The environment: overrides, secrets, and the folders that systemd gives.

    Raises:
        ConfigurationError: It cannot be meant; the message names every fault that was found, with file and line.
        TransferError: The file cannot be read.
    """
    reading, faults, whole = _read(path, environ)
    require_none([*faults, *config_check.faults_of(reading, whole=whole)])
    return reading.config


def read(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Reading:
    """As `read_config`, without a look at what it names."""
    reading, faults, _ = _read(path, environ)
    require_none(faults)
    return reading


def _read(path: str | os.PathLike[str], environ: Mapping[str, str]) -> tuple[Reading, list[EcottaError], set[str]]:
    """What was read, what is wrong with it, and the tables without a fault: of the others nothing can be used."""
    written = _written_in(path)
    overridden, wrong = overrides.override(written.values, environ, _tables(written.values))
    secret, unresolved = substitute(written.values, environ)
    document = _told(written, overridden, secret)
    faults = [*map(ConfigurationError, wrong), *(document.error(*fault) for fault in unresolved)]
    collector = _Collector(document, faults)
    config = collector.config(environ, os.fspath(path))
    whole = collector.whole - {str(place[0]) for place, _ in unresolved}
    return Reading(config, document, overridden, secret), faults, whole


def read_locations(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Locations:
    """Read the part of a configuration that tells where things are, though other secrets of it cannot be had here.

    Raises:
        ConfigurationError: That part cannot be meant.
        TransferError: The file cannot be read.
    """
    written = _written_in(path)
    overridden, wrong = overrides.override(written.values, environ, _tables(written.values))
    secret, unresolved = substitute(written.values, environ)
    names = [entry["name"] for _, entry in _written(written.values, "camera") if "name" in entry]
    values = {name: written.values[name] for name in _LOCATED if name in written.values}
    values["camera"] = [{"name": name, "source": "-"} for name in names]
    missing = dict(unresolved).get(_TOKEN, "")
    if missing:
        values["http"].pop("token")
    written.values = values
    document = _told(written, overridden, {place: found for place, found in secret.items() if place[0] in _LOCATED})
    needed = [fault for fault in unresolved if fault[0][0] in _LOCATED and fault[0] != _TOKEN]
    faults = [*map(ConfigurationError, wrong), *(document.error(*fault) for fault in needed)]
    config = _Collector(document, faults).config(environ, os.fspath(path))
    require_none(faults)
    cameras = tuple(camera.name for camera in config.cameras)
    return Locations(config.network.bundle, config.state_folder, cameras, config.http, missing)


def _written_in(path: str | os.PathLike[str]) -> Document:
    """What is in the file, brought up to this version."""
    if not os.path.lexists(path):  # to start again would not mend it, and systemd would try for ever
        raise ConfigurationError(f"{os.fspath(path)}: there is no such file; `ecotta config init` writes one")
    if _is_bundle(path):
        raise ConfigurationError(
            f"{os.fspath(path)}: a bundle, where a configuration is expected; `ecotta config init FILE.toml --bundle` "
            "writes one for it"
        )
    written = read_toml(path)
    take_version(written)
    return written


def _is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether it begins as archives do; what cannot be opened is told by those who read it."""
    try:
        with open_regular(path) as file:
            return file.read(len(ARCHIVE_MARK)) == ARCHIVE_MARK
    except OSError:
        return False


def require_none(faults: Sequence[EcottaError]) -> None:
    """Raise what was found, all of it in one message.

    Raises:
        ConfigurationError: There are faults.
    """
    if len(faults) == 1:
        raise ConfigurationError(str(faults[0]))
    if faults:
        raise ConfigurationError(f"{len(faults)} faults\n" + "\n".join(f"  {fault}" for fault in faults))


def _told(written: Document, overridden: Mapping[FieldPath, str], secret: Mapping[FieldPath, Secret]) -> Document:
    """The document with errors that name the variable a value came from, and do not show what is secret."""

    def describe(path: FieldPath, problem: str) -> EcottaError:
        for place in secret:
            if place[: len(path)] == path or path[: len(place)] == place:
                problem = _hidden(without_value(problem), str(_value_at(written.values, place)))
        for place, variable in overridden.items():
            if path[: len(place)] == place:
                return ConfigurationError(f"environment variable {variable}: {problem}")
        return written.error(path, problem)

    return Document(written.values, describe)


def _hidden(problem: str, secret: str) -> str:
    # A secret of few characters is in every message, and nowhere but behind `found`.
    return problem.replace(secret, "***") if len(secret) >= _LEAST_SECRET else problem


def _value_at(values: Any, path: FieldPath) -> Any:
    for key in path:
        values = values[key]
    return values


def _tables(values: Mapping[str, Any]) -> Iterator[overrides.Table]:
    """Where an environment variable may set a field."""
    for name, kind in TABLES.items():
        yield overrides.Table((name,), (name,), kind)
    for name, kind in (("camera", CameraOptions), ("alert", AlertRule)):
        for at, entry in _written(values, name):
            if isinstance(entry.get("name"), str):
                yield overrides.Table((name, entry["name"]), (name, at), kind)
    for at, entry in _written(values, "sink"):
        named = str(entry.get("kind"))
        if named in KINDS:
            yield overrides.Table(("sink", str(entry.get("name", named))), ("sink", at), sink_kind(named).options)


def _written(values: Mapping[str, Any], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    entries = values.get(name)
    if isinstance(entries, list):
        yield from ((at, entry) for at, entry in enumerate(entries) if isinstance(entry, dict))


class _Collector:
    """Reads table by table, and goes on after a fault.

    Args:
        document: What was given.
        faults: Where faults go.

    Attributes:
        whole: Tables that were read without a fault.
    """

    def __init__(self, document: Document, faults: list[EcottaError]) -> None:
        self._document = document
        self._faults = faults
        self.whole: set[str] = set()

    def config(self, environ: Mapping[str, str], path: str) -> Config:
        """All of it; of no use where there were faults."""
        known = (*TABLES, *_LISTS)
        for name in self._document.values:
            if name not in known:
                self._fault((name[:_LONGEST],), f"unknown table; {nearest(name, known)}known: {', '.join(known)}")
        single: dict[str, Any] = {name: self._attempt(self._single, name) for name in TABLES}
        self.whole |= {name for name, made in single.items() if made is not None}
        cameras = tuple(self._each("camera", self._camera))
        if not self._document.values.get("camera"):
            self._fault((), "no camera; write a table [[camera]] with name and source")
        sinks, rules = tuple(self._each("sink", self._sink)), tuple(self._each("alert", self._alert))
        if single["state"] is not None and single["state"].folder is None:
            folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
            single["state"] = replace(single["state"], folder=folder or None)
        return Config(cameras=cameras, sinks=sinks, alert_rules=rules, path=path, **single)

    def _single(self, name: str) -> Any:
        if isinstance(self._document.values.setdefault(name, {}), list):
            raise self._document.error((name,), f"there is one of it; write [{name}], with single brackets")
        return self._document.part(name).read_all(TABLES[name], self._faults)

    def _each(self, name: str, read_one: Callable[[Document, set[str]], T | None]) -> Iterator[T]:
        entries = self._document.values.get(name, [])
        if type(entries) is not list:
            self._fault((name,), f"there may be several; write [[{name}]], with double brackets")
            return
        if len(entries) > _MOST_ENTRIES:
            self._fault((name,), f"{len(entries)} of them, more than {_MOST_ENTRIES}")
            return
        names: set[str] = set()
        self.whole.add(name)
        for at in range(len(entries)):
            made = self._attempt(self._one, name, at, read_one, names)
            if made is not None:
                yield made
            else:
                self.whole.discard(name)

    def _one(self, name: str, at: int, read_one: Callable[[Document, set[str]], T], names: set[str]) -> T:
        return read_one(self._document.part(name, at), names)

    def _camera(self, table: Document, names: set[str]) -> CameraOptions | None:
        camera = table.read_all(CameraOptions, self._faults)
        name = table.values.get("name")
        if isinstance(name, str):
            # Those that differ in case, or in - and _, are one name in variables and topics.
            _require_new(table, name, names, overrides.word(name))
        return camera

    def _sink(self, table: Document, names: set[str]) -> Output | None:
        kind = table.take("kind", str)
        if kind not in KINDS:
            hint = nearest(kind, KINDS)
            raise table.error(("kind",), f"expected one of {', '.join(KINDS)}, found {shown(kind)}; {hint}".strip("; "))
        options = table.read_all(sink_kind(kind).options, self._faults)
        name = table.values.get("name", kind)
        if isinstance(name, str):
            _require_new(table, name, names, name)
        return None if options is None else Output(kind, options.name or kind, options)

    def _alert(self, table: Document, names: set[str]) -> AlertRule | None:
        rule = table.read_all(AlertRule, self._faults)
        name = table.values.get("name")
        if isinstance(name, str):
            _require_new(table, name, names, name)
        if rule is None:
            return None
        fault = fault_of(rule)
        if fault is not None:
            raise table.error((), fault)
        return rule

    def _attempt(self, read_one: Callable[..., T], *args: Any) -> T | None:
        try:
            return read_one(*args)
        except EcottaError as error:
            self._faults.append(error)
            return None

    def _fault(self, path: FieldPath, problem: str) -> None:
        self._faults.append(self._document.error(path, problem))


def _require_new(table: Document, name: str, names: set[str], shown_as: str) -> None:
    if shown_as in names:
        raise table.error(("name",), f"{name[:_LONGEST]!a} is there already; give each a name of its own")
    names.add(shown_as)
