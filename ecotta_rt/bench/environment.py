"""What a measurement was made on: processor, cores, versions, commit."""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ecotta_rt.machine.this_machine import cpu_name, usable_cores

__all__ = ["Environment", "read_environment"]

_PACKAGES = ("ecotta_rt", "torch", "numpy", "scipy", "onnxruntime", "safetensors")
_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Environment:
    """The machine and the software of a run.

    Attributes:
        cpu: The processor's own name.
        cores: Cores that this process may use.
        threads: Threads that each measured process was given.
        versions: Package name -> version; `python` and the kernel (`system`) among them.
        commit: Commit of the checkout that ran, with `+changes` where it had been edited; None outside a checkout.
    """

    cpu: str
    cores: int
    threads: int
    versions: Mapping[str, str]
    commit: str | None


def read_environment(threads: int) -> Environment:
    """Describe this machine and checkout; imports none of the packages whose versions it reads."""
    return Environment(cpu_name(), usable_cores(), threads, _versions(), _commit(_PACKAGE_FOLDER))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "system": f"{platform.system()} {platform.release()}"}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _commit(package_folder: Path) -> str | None:
    checkout = package_folder.parent
    # Installed inside somebody else's checkout, git would name that project's commit: only our own top level counts.
    if not (checkout / ".git").exists():
        return None
    commit = _git(checkout, "rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+changes" if _git(checkout, "status", "--porcelain", "--", package_folder.name) else commit


def _git(folder: Path, *arguments: str) -> str | None:
    command = ("git", "-C", str(folder), *arguments)
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
