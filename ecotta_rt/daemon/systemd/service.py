"""From a configuration to a service: read it as the service will, and find what would keep it from running."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from ecotta_rt.bundle import read_bundle
from ecotta_rt.daemon.configuration import config_check
from ecotta_rt.daemon.configuration.config import Config, Output, Reading
from ecotta_rt.daemon.configuration.config_reading import read, require_none
from ecotta_rt.daemon.configuration.environment_file import environment_file, file_variables
from ecotta_rt.daemon.configuration.secret_values import FILE
from ecotta_rt.daemon.systemd.unit import Service
from ecotta_rt.daemon.systemd.unit_needs import DIRECTORIES, folders, memory_need
from ecotta_rt.errors import ConfigurationError
from ecotta_rt.files.fields import FieldPath
from ecotta_rt.plan.figures import with_figures

__all__ = ["service_of", "troubles"]

_HOMES = ("/home/", "/root/", "/run/user/")
_PRIVATE = (Path("/tmp"), Path("/var/tmp"))  # a service has its own
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


def service_of(path: Path, name: str, program: str, *, user: bool = False) -> Service:
    """Read a configuration as a service of it will, and look whether what it names is there.

    Args:
        path: The configuration.
        name: Of the unit.
        program: The command `ecotta`.
        user: For a user's own manager.

    Raises:
        ConfigurationError: It cannot be meant, or not of a service.
        BudgetExceeded: It does not fit the device, or its own limit.
        InputFileError, UsageError, TransferError: The bundle or the file cannot be used.
    """
    path = Path(os.path.abspath(path))
    _require_printable(str(path), program)
    given = environment_file(path)
    variables = file_variables(given) if given.exists() else {}
    try:
        reading = read(path, variables)
        faults = config_check.faults_of(reading, [*DIRECTORIES.values()])
        require_none([*faults, *_relative(reading)])
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}\nA service gets its environment variables from {given}") from error
    config = reading.config
    manifest = with_figures(read_bundle(config.network.bundle, verify=False))
    return Service(
        name=name,
        config=config,
        path=str(path),
        program=program,
        memory=memory_need(config, manifest),
        credentials=_credentials(reading),
        environment=str(given) if variables else None,
        user=user,
        home=any(str(file).startswith(_HOMES) for file in _read_by(config, path, program)),
    )


def troubles(service: Service) -> Iterator[str]:
    """What will keep the service from running as it is, a sentence each, as far as it can be seen from here."""
    if service.user:
        return
    for file in _read_by(service.config, Path(service.path), service.program):
        shut = _shut(file)
        if shut is not None:
            advice = "the service has a user of its own; let all read it, or keep it in /opt or /etc"
            yield f"{file} cannot be read by others: look at {shut}. {advice[0].upper()}{advice[1:]}"
    for folder in folders(service.config, service.name).others:
        yield (
            f"{folder}: the service may write in a folder below /var/lib, /var/log or /run; for another one give it a "
            f"user, with `systemctl edit {service.name}`: DynamicUser=no, User=..."
        )
    if service.environment is not None and os.stat(service.environment).st_mode & 0o077:
        yield f"{service.environment} can be read by others; chmod 600 {service.environment}"


def _read_by(config: Config, path: Path, program: str) -> Iterator[Path]:
    """Files and folders that the service reads by itself."""
    yield from (Path(program), path, Path(os.path.abspath(config.network.bundle)))
    if config.network.device is not None and config.network.device.endswith(".toml"):
        yield Path(os.path.abspath(config.network.device))
    for output in config.sinks:
        yield from (Path(path) for name, path in _paths_of(output) if name.endswith("_file"))
    for camera in config.cameras:
        file = _path_in(camera.source)
        if file is not None and os.path.isabs(file) and not file.startswith("/dev/"):
            yield Path(file)


def _shut(path: Path) -> Path | None:
    """The file, or the folder above it, that keeps others out."""
    for temporary in _PRIVATE:
        if path.is_relative_to(temporary):
            return temporary
    for each in (*reversed(path.parents), path):
        try:
            mode = os.stat(each).st_mode
        except OSError:
            return each
        if not mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
            return each
    return None


def _require_printable(*words: str) -> None:
    """A unit is read line by line."""
    for word in words:
        if not word.isprintable():
            raise ConfigurationError(f"{word!a} cannot stand in a unit; give it a name of printable characters")


def _relative(reading: Reading) -> Iterator[ConfigurationError]:
    """Paths that mean another file in the service, whose working directory is /."""
    config = reading.config
    named: list[tuple[FieldPath, str | None]] = [
        (("network", "bundle"), config.network.bundle),
        (("state", "folder"), config.state.folder),
        *((("camera", at, "source"), _path_in(camera.source)) for at, camera in enumerate(config.cameras)),
        *((("sink", at, name), path) for at, output in enumerate(config.sinks) for name, path in _paths_of(output)),
    ]
    for place, text in named:
        if text is not None and not os.path.isabs(text):
            problem = f"{text} is a relative path, and a service runs in /; write {os.path.abspath(text)}"
            yield ConfigurationError(str(reading.document.error(place, problem)))


def _path_in(source: str) -> str | None:
    """The path of a source that has one."""
    kind, mark, rest = source.partition(":")
    if mark and kind in ("watch", "replay"):
        return re.split("[:?]", rest, maxsplit=1)[0]
    return source if os.path.exists(source) else None


def _paths_of(output: Output) -> Iterator[tuple[str, str]]:
    """Fields of an output that name files."""
    for field in fields(output.options):
        value = getattr(output.options, field.name)
        if isinstance(value, str) and (field.name in ("file", "path") or field.name.endswith("_file")):
            yield field.name, value


def _credentials(reading: Reading) -> dict[str, str]:
    """The secrets that come from files: the name of the credential -> the file; none where systemd has to know."""
    found: dict[str, str] = {}
    for place, secret in reading.secret.items():
        if not secret.written.startswith(FILE):
            continue
        file = secret.written.removeprefix(FILE)
        name, path = os.path.basename(file), os.path.abspath(file) if "/" in file else ""
        if not _CREDENTIAL.fullmatch(name):
            problem = f"a credential cannot be called {name!a}; give the file a name of letters, digits, ., - and _"
            raise reading.document.error(place, problem)
        if found.setdefault(name, path) != path:
            problem = f"two secret files are called {name!a}; credentials have that name, so give one another"
            raise reading.document.error(place, problem)
    return found
