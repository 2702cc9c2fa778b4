"""Whether outputs can be what a configuration says: files of their own, and none that the daemon needs."""

from collections.abc import Collection, Iterator, Mapping
from os.path import realpath
from pathlib import Path

from ecotta_rt.daemon.configuration.config import Output, Reading
from ecotta_rt.errors import EcottaError
from ecotta_rt.files.fields import FieldPath
from ecotta_rt.sinks.kinds import STANDARD_OUTPUT, sink_kind

__all__ = ["output_faults"]


def output_faults(reading: Reading, made: Collection[Path]) -> Iterator[tuple[FieldPath, str]]:
    """What is wrong with the outputs, by place.

    Args:
        reading: The configuration.
        made: Folders in which others will be there when it starts; an output there is not looked at.
    """
    taken = _needed(reading)
    for at, output in enumerate(reading.config.sinks):
        whose = f"output {output.name!a}"
        target, *aside = [_target(path) for path in output.options.writes] or [whose]
        wanted = dict.fromkeys(aside, f"{whose}, put aside") | {target: whose}
        clashes = sorted(wanted.keys() & taken.keys())
        taken |= {name: its for name, its in wanted.items() if name not in clashes}
        if clashes:
            problem = f"would write to {clashes[0]}, which is that of {taken[clashes[0]]}; name another file"
            yield ("sink", at), f"{output.name!a} {problem}"
            continue
        if Path(target).is_relative_to(realpath(reading.config.state_folder)):
            yield ("sink", at), f"{target} is in the folder of the states, {reading.config.state_folder}; name another"
        elif not any(Path(target).is_relative_to(folder) for folder in made):
            yield from _own_check(output, ("sink", at))


def _own_check(output: Output, path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    try:
        sink_kind(output.kind).checks(output.options, output.name)
    except EcottaError as error:
        yield path, str(error)
    except OSError as error:
        yield path, f"{output.name!a} cannot be written: {error.strerror}"


def _needed(reading: Reading) -> dict[str, str]:
    """Files that no output may touch, links followed, and whose they are."""
    config = reading.config
    needed: Mapping[str, str] = {
        config.path: "the configuration",
        config.network.bundle: "the bundle",
        **({config.network.device: "the device's profile"} if config.network.device else {}),
        **{camera.source: f"camera {camera.name!a}" for camera in config.cameras if "://" not in camera.source},
        **{secret.file: "a secret" for secret in reading.secret.values() if secret.file},
    }
    return {realpath(path): whose for path, whose in needed.items()}


def _target(path: str) -> str:
    return "standard output" if path == STANDARD_OUTPUT else realpath(path)
