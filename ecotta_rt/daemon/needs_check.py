"""What a look at a configuration may take seconds for: packages that cameras need, addresses that outputs know."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ecotta_rt.errors import EcottaError, Unavailable
from ecotta_rt.plugs import plug_for
from ecotta_rt.sinks.kinds import sink_kind
from ecotta_rt.sources.opening import PLUGS
from ecotta_rt.sources.source import SourcePlug

if TYPE_CHECKING:
    from ecotta_rt.daemon.configuration.config import Config, Reading

__all__ = ["missing_packages", "slow_faults"]


def missing_packages(config: "Config") -> Iterator[str]:
    """Cameras whose source needs a package that is not installed: a sentence each, with how to install it."""
    for camera in config.cameras:
        try:
            plug = plug_for(camera.source, PLUGS, SourcePlug, "ecotta_rt.sources")
            if plug is not None:
                plug.needs(camera.source)
        except Unavailable as error:
            yield f"camera {camera.name!a}: {error}"


def slow_faults(reading: "Reading") -> Iterator[EcottaError]:
    """What is wrong with outputs and takes seconds to find."""
    for at, output in enumerate(reading.config.sinks):
        try:
            sink_kind(output.kind).asks(output.options, output.name)
        except EcottaError as error:
            yield reading.document.error(("sink", at), str(error))
