"""The systemd unit of a daemon, made from its configuration: what it may do is what the configuration needs.

Directives and their meaning: systemd.service(5), systemd.exec(5), systemd.resource-control(5). Written for systemd 252
(Debian 12, Raspberry Pi OS "bookworm") and later.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ecotta_rt.daemon.configuration.config import Config
from ecotta_rt.daemon.systemd.unit_needs import DIRECTORIES, Folders, MemoryNeed, folders, reach, video_devices
from ecotta_rt.errors import ConfigurationError, InputFileError

__all__ = ["MARK", "Service", "unit_text"]

MARK = "# Made by `ecotta service "
"""How a unit of ours begins; others are not replaced."""

WATCHDOG_S = 60
_STOP_S = 20  # it takes 5; an answer of a slow board may take longer
_START_S = 360  # a bundle that is new is tried first, which takes 300 at most
_USELESS = (InputFileError, ConfigurationError)

_HARDENING = """\
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
RemoveIPC=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0027"""


@dataclass(frozen=True)
class Service:
    """A daemon as a service.

    Attributes:
        name: Of the unit, without suffix.
        config: What it does.
        path: The configuration's file, absolute.
        program: The command `ecotta`, absolute.
        memory: The kernel's limit.
        credentials: Files that the service may not read itself, by name; an empty path: systemd knows where.
        environment: A file of environment variables, absolute; None: it needs none.
        user: A unit of a user's own manager, in which most of what shuts a service in cannot be had.
        home: Whether something that it reads is in somebody's home folder.
    """

    name: str
    config: Config
    path: str
    program: str
    memory: MemoryNeed
    credentials: Mapping[str, str]
    environment: str | None = None
    user: bool = False
    home: bool = False


def unit_text(service: Service) -> str:
    """The unit file."""
    where = folders(service.config, service.name)
    parts = [
        _head(service),
        _unit(service),
        ["[Service]", *_life(service), *_memory(service.memory), *_folders(where, service), *_secrets(service)],
        [] if service.user else [*_user(service), *_devices(service.config), *_network(service.config)],
        ["NoNewPrivileges=yes", "UMask=0027"] if service.user else _hardening(service),
        ["", "[Install]", f"WantedBy={'default.target' if service.user else 'multi-user.target'}"],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(service: Service) -> list[str]:
    scope = " --user" if service.user else ""
    return [
        f"{MARK}install{scope} {service.path}`; do it again when that file says something else.",
        f"# What you add by `systemctl{scope} edit {service.name}` stays.",
    ]


def _unit(service: Service) -> list[str]:
    cameras = ", ".join(camera.name for camera in service.config.cameras)
    lines = ["[Unit]", f"Description=Cameras that one adapting network answers: {cameras}"]
    if reach(service.config) == "all" and not service.user:
        lines += ["After=network-online.target", "Wants=network-online.target"]
    again = "# Started again for as long as it takes; what would not mend itself ends it, see below."
    return [*lines, again, "StartLimitIntervalSec=0", ""]


def _life(service: Service) -> list[str]:
    codes = " ".join(str(kind.exit_code) for kind in _USELESS)
    return [
        "# Ready when the network is loaded; then it tells that it is alive from the loop that works.",
        "Type=notify",
        "NotifyAccess=main",
        f"WatchdogSec={WATCHDOG_S}",
        f"ExecStart={_word(service.program)} serve {_word(service.path)}",
        "# SIGHUP: the configuration is read anew, and files of outputs are opened anew.",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "RestartSec=10",
        "# A bad file, the configuration: starting again would not mend it.",
        f"RestartPreventExitStatus={codes}",
        f"TimeoutStartSec={_START_S}",
        "# SIGTERM: what was learned is saved, within 5 seconds.",
        f"TimeoutStopSec={_STOP_S}",
        "",
    ]


def _memory(memory: MemoryNeed) -> list[str]:
    """The guard looks at this limit, too, and does with less before the kernel kills."""
    return [
        *(f"# {line}" for line in memory.why),
        f"MemoryMax={memory.limit_bytes >> 20}M",
        "MemorySwapMax=0",
        "",
    ]


def _folders(where: Folders, service: Service) -> list[str]:
    lines = []
    for kind, names in where.own.items():
        lines.append(f"{kind}={' '.join(map(_quoted, names))}")
    if where.others and not service.user:
        lines.append(f"ReadWritePaths={' '.join(map(_quoted, where.others))}")
    cache = "%C" if service.user else str(DIRECTORIES["CacheDirectory"])
    return [*lines, f"Environment=XDG_CACHE_HOME={cache}/{service.name}", ""]


def _secrets(service: Service) -> list[str]:
    lines = []
    if service.environment is not None:
        lines += ["# Passwords and tokens; mode 0600.", f"EnvironmentFile={_escaped(service.environment)}"]
    if service.credentials and not service.user:
        lines.append("# Secrets, read by systemd and handed over in memory.")
        for name, path in service.credentials.items():
            lines.append(f"LoadCredential={name}{f':{_escaped(path)}' if path else ''}")
    return [*lines, ""] if lines else []


def _user(service: Service) -> list[str]:
    return ["# A user of its own that exists only while the service runs.", "DynamicUser=yes"]


def _devices(config: Config) -> list[str]:
    devices = video_devices(config)
    if not devices:
        return ["PrivateDevices=yes", "PrivateUsers=yes"]
    allowed = [f"DeviceAllow={kind} rw" for kind in devices]
    return ["# Its cameras, and no other device.", "DevicePolicy=closed", *allowed, "SupplementaryGroups=video"]


def _network(config: Config) -> list[str]:
    far = reach(config)
    families = ["AF_UNIX"] if far == "none" else ["AF_UNIX", "AF_INET", "AF_INET6"]
    if any(camera.source.startswith("picamera:") for camera in config.cameras):
        families.append("AF_NETLINK")  # libcamera hears of devices by it
    lines = [f"RestrictAddressFamilies={' '.join(families)}"]
    if far == "none":
        lines.append("PrivateNetwork=yes")
    if far == "local":
        lines += ["IPAddressDeny=any", "IPAddressAllow=localhost"]
    return lines


def _hardening(service: Service) -> list[str]:
    return _HARDENING.format(home="read-only" if service.home else "yes").splitlines()


def _word(text: str) -> str:
    """A word of a command line, in which systemd looks for variables."""
    return _quoted(text).replace("$", "$$")


def _quoted(text: str) -> str:
    """An entry of a list."""
    escaped = _escaped(text)
    return f'"{escaped}"' if any(c in escaped for c in " \t'\";\\") else escaped


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
