"""What a configuration of `ecotta serve` holds, once it was read: values, and nothing that reads or checks them.

Each table of the file is a frozen dataclass, in `tables.py` or, for an output, beside the output's code. What a field
is for stands in its `Doc`; the page of the reference and the file of `ecotta config init` are made from it, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ecotta_rt.daemon.configuration.secret_values import Secret
from ecotta_rt.daemon.configuration.tables import (
    STATE_SUFFIX,
    CameraOptions,
    LogOptions,
    NetworkOptions,
    SignsOptions,
    StateOptions,
)
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.files.fields import Document, FieldPath
from ecotta_rt.sinks.alert_rules import AlertRule
from ecotta_rt.sinks.kinds import SinkOptions

__all__ = ["TABLES", "Config", "Output", "Reading"]

TABLES: dict[str, type] = {
    "network": NetworkOptions,
    "state": StateOptions,
    "http": HttpOptions,
    "signs": SignsOptions,
    "log": LogOptions,
}
"""Those that are there once."""


@dataclass(frozen=True)
class Output:
    """An output that is asked for.

    Attributes:
        kind: Its kind, such as `json-lines`.
        name: Its name in messages and metrics.
        options: Of the dataclass that the kind has.
    """

    kind: str
    name: str
    options: SinkOptions


@dataclass(frozen=True)
class Config:
    """All of a configuration.

    Attributes:
        path: The file it was read from, for messages.
    """

    network: NetworkOptions
    cameras: tuple[CameraOptions, ...]
    state: StateOptions = field(default_factory=StateOptions)
    sinks: tuple[Output, ...] = ()
    alert_rules: tuple[AlertRule, ...] = ()
    http: HttpOptions = field(default_factory=HttpOptions)
    signs: SignsOptions = field(default_factory=SignsOptions)
    log: LogOptions = field(default_factory=LogOptions)
    path: str = ""

    @property
    def state_folder(self) -> Path:
        return Path(self.state.folder or Path(self.network.bundle).with_suffix(STATE_SUFFIX))


@dataclass(frozen=True)
class Reading:
    """A configuration that was read, and where its values come from.

    Attributes:
        config: What holds.
        document: The fields that somebody gave, secrets among them; makes errors that name a place.
        overridden: The environment variable by place.
        secret: The texts that came from elsewhere, by place.
    """

    config: Config
    document: Document
    overridden: Mapping[FieldPath, str]
    secret: Mapping[FieldPath, Secret]
