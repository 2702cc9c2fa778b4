"""Which broker, and what it is told."""

from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Annotated

from ecotta_rt.errors import UsageError
from ecotta_rt.extras import missing_package
from ecotta_rt.files.fields import Doc, Limit, Matches
from ecotta_rt.messages import mask
from ecotta_rt.sinks.kinds import SinkOptions
from ecotta_rt.sinks.named_files import check_files

__all__ = ["MqttOptions", "check_mqtt"]

_TOPIC = Matches(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", "letters, digits, _ . - and / between them")


@dataclass(frozen=True, kw_only=True)
class MqttOptions(SinkOptions):
    """A broker of MQTT 3.1.1."""

    host: Annotated[str, Limit(most=253), Doc("Where the broker is.", '"192.168.1.10"')]
    port: Annotated[int | None, Limit(1, 65_535), Doc("Without it: 1883, with TLS 8883.", "1883")] = None
    user: Annotated[str | None, Doc("Its user.", '"ecotta"')] = None
    password: Annotated[str | None, Doc("And password.", '"file:/run/secrets/mqtt"', secret=True)] = None
    tls: Annotated[bool, Doc("Whether the connection is encrypted.")] = False
    ca_file: Annotated[str | None, Doc("Certificates to trust instead of the system's.", '"/etc/ecotta/ca.pem"')] = None
    cert_file: Annotated[str | None, Doc("Our own certificate.", '"/etc/ecotta/client.pem"')] = None
    key_file: Annotated[str | None, Doc("And its key.", '"/etc/ecotta/client.key"')] = None
    client_id: Annotated[
        str | None, Limit(most=128), Doc("Without it the broker gives one. No two clients may share one.", '"door-pi"')
    ] = None
    prefix: Annotated[str, Limit(most=200), _TOPIC, Doc("What all topics begin with; of each daemon another.")] = (
        "ecotta"
    )
    qos: Annotated[int, Limit(0, 2), Doc("0: sent once; 1: until the broker has it; 2: and exactly once.")] = 1
    keepalive_s: Annotated[int, Limit(5, 3600), Doc("Seconds after which a broker that is gone shows.")] = 30
    answers_per_s: Annotated[
        float,
        Limit(0, 1000),
        Doc("Answers a second of a camera, while the class stays; another class at once. 0: all."),
    ] = 1.0
    commands: Annotated[bool, Doc("Whether `adapt/set` and `reset` are obeyed.")] = True
    discovery: Annotated[bool, Doc("Whether Home Assistant is told of each camera.")] = True
    discovery_prefix: Annotated[str, Limit(most=200), _TOPIC, Doc("Where it listens for that.")] = "homeassistant"


def check_mqtt(options: MqttOptions, name: str) -> None:
    """Say before the start what no later try would mend.

    Raises:
        Unavailable: paho-mqtt is not installed.
        UsageError: `host` is no host, options that do not go together, or a file that is missing.
    """
    if find_spec("paho") is None:
        error = missing_package(ModuleNotFoundError(name="paho"))
        assert error is not None
        raise error
    _check_host(options.host, name)
    if options.password is not None and options.user is None:
        raise UsageError(f"output {name}: a password without a user; give both")
    if not options.tls and (options.ca_file or options.cert_file):
        raise UsageError(f"output {name}: certificates without tls = true")
    if (options.cert_file is None) != (options.key_file is None):
        raise UsageError(f"output {name}: cert_file and key_file go together")
    check_files(options, name)


def _check_host(host: str, name: str) -> None:
    """Many write an address with scheme or port, which would be looked up as a name for ever."""
    if not host or "://" in host or any(c in "/@" or c.isspace() for c in host) or not _is_address(host):
        advice = "write it alone, as 192.168.1.10; port and tls are fields of their own"
        raise UsageError(f"output {name}: expected a host, found {mask(host)!a}; {advice}")


def _is_address(host: str) -> bool:
    """Whether what is no name is an address of IPv6."""
    try:
        return ":" not in host or bool(ip_address(host))
    except ValueError:
        return False
