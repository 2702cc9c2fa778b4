"""Checks of what is installed: Python, the C library, packages and their versions.

Source: onnxruntime's wheels for Linux are 64-bit, for CPython 3.11 and newer, tagged manylinux_2_28; the crashes of
1.21.0 on ARMv8.0 are issues #23957, #24112 and #24512 of microsoft/onnxruntime, mended by its pull request #23978.
"""

import os
import re
import struct
from dataclasses import dataclass
from importlib import metadata

from ecotta_rt.machine.doctor.finding import Finding, ok, problem, warning

__all__ = [
    "PACKAGES",
    "Package",
    "check_architecture",
    "check_c_library",
    "check_package",
    "check_python",
    "installed_version",
    "our_c_library",
    "pointer_bits",
]

_LEAST_PYTHON = (3, 11)
_LEAST_GLIBC = (2, 28)
_ARCHITECTURES = {"aarch64", "arm64", "x86_64", "amd64"}
_32_BIT_ARM = ("armv6", "armv7", "armv8l")


@dataclass(frozen=True)
class Package:
    """A base dependency.

    Attributes:
        name: As pip calls it.
        least: Oldest version that will do, the one in setup.cfg.
        tested: Versions that our tests have passed with, the newest last.
        because: What is wrong with those older than `least`.
    """

    name: str
    least: str
    tested: tuple[str, ...]
    because: str = ""


PACKAGES = (
    Package("numpy", "1.26", ("2.4.6",)),
    Package(
        "onnxruntime",
        "1.22",
        ("1.31.1",),
        because="1.21.0 dies of an illegal instruction on ARMv8.0 boards such as the Raspberry Pi 3 and 4",
    ),
    Package("psutil", "5.9", ("7.2.2",)),
    Package("safetensors", "0.4.3", ("0.8.0",)),
)
"""The allow-list. A test compares it with setup.cfg and constraints.txt."""


def pointer_bits() -> int:
    """32 or 64: of this Python, whatever the kernel is."""
    return struct.calcsize("P") * 8


def our_c_library() -> str:
    """For instance `glibc 2.36`; empty where it is not the GNU one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError, AttributeError):  # musl and other systems do not know the name
        return ""


def installed_version(name: str) -> str | None:
    """What pip has installed, read without importing it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_python(version: tuple[int, ...], bits: int) -> Finding:
    """Whether wheels exist for this Python.

    Args:
        version: As in `sys.version_info`.
        bits: Of a pointer.
    """
    shown = f"Python {'.'.join(map(str, version[:3]))}, {bits}-bit"
    if bits < 64:
        return problem("python", shown, "onnxruntime has no 32-bit wheels: install a 64-bit system (arm64)")
    if version[:2] < _LEAST_PYTHON:
        return problem("python", shown, "install Python 3.11 or newer, or use the container of Dockerfile.arm64")
    return ok("python", shown)


def check_architecture(machine: str, bits: int) -> Finding:
    """Whether wheels exist for this processor.

    Args:
        machine: As in `platform.machine()`: the kernel's word.
        bits: Of a pointer.
    """
    if machine.startswith(_32_BIT_ARM):
        return problem(
            "architecture",
            f"{machine}, a 32-bit Arm system",
            "onnxruntime has wheels for 64-bit Arm only: install the 64-bit system if the board can run it "
            "(Raspberry Pi 3 and newer, Zero 2 W)",
        )
    if machine.lower() not in _ARCHITECTURES:
        return warning(
            "architecture",
            f"{machine or 'unknown'}: not one that we have run on",
            "expected aarch64 or x86_64; see whether pip finds an onnxruntime wheel",
        )
    if bits < 64:
        return problem(
            "architecture",
            f"a 64-bit kernel ({machine}) with a 32-bit system on it",
            "install the 64-bit system: a 32-bit Python cannot load 64-bit wheels",
        )
    return ok("architecture", machine)


def check_c_library(name: str) -> Finding:
    """Whether the C library is new enough for the wheels.

    Args:
        name: As `our_c_library` says.
    """
    words = name.split()
    if len(words) != 2 or words[0] != "glibc":
        return warning(
            "C library",
            "not the GNU one",
            "the Linux wheels of onnxruntime need glibc 2.28; on Alpine use a Debian container (Dockerfile.arm64)",
        )
    if _numbers(words[1]) < _LEAST_GLIBC:
        return problem(
            "C library",
            f"{name}, older than the 2.28 that onnxruntime's wheels need",
            "use a newer system (Debian 10, Ubuntu 20.04 or later) or the container of Dockerfile.arm64",
        )
    return ok("C library", name)


def check_package(package: Package, version: str | None) -> Finding:
    """Whether a package is there, and in a version that we know.

    Args:
        package: What is wanted.
        version: What is installed; None for nothing.
    """
    about, newest = package.name, package.tested[-1]
    install = f"pip install '{package.name}=={newest}'"
    if version is None:
        return problem(about, "not installed", install)
    if _numbers(version) < _numbers(package.least):
        why = f": {package.because}" if package.because else ""
        return problem(about, f"{version}, older than {package.least}{why}", install)
    if version not in package.tested:
        known = ", ".join(package.tested)
        return warning(about, f"{version}, which we have not tested; tested: {known}", f"if it misbehaves: {install}")
    return ok(about, version)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version; `1.22.0rc1` counts as 1.22.0."""
    numbers = re.match(r"\d+(?:\.\d+)*", version, re.ASCII)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()
