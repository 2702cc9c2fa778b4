"""Checks of what is around the process: temperature, cameras, and the folder it keeps its state in.

Source: kernel documentation, userspace-api/media/v4l/open.rst; Raspberry Pi documentation, "Frequency management and
thermal control" (80 °C).
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ecotta_rt.machine.doctor.finding import Finding, ok, problem, warning
from ecotta_rt.machine.proc import first_line

__all__ = ["Camera", "cameras", "check_cameras", "check_state_folder", "check_temperature"]

_HOT_CELSIUS = 80
_ROOM_BYTES = 16 << 20  # a state is a few MiB, and the old one lies beside the new one for a moment


@dataclass(frozen=True)
class Camera:
    """A video device.

    Attributes:
        path: The device file.
        name: What its driver calls it; empty where it does not say.
        usable: Whether this user may read and write it: a camera has to be told the size of its frames.
    """

    path: Path
    name: str
    usable: bool


def check_temperature(celsius: float | None) -> Finding:
    """Whether the board is about to slow down."""
    if celsius is None:
        return ok("temperature", "no sensor tells")
    says = f"{celsius:.0f} °C in the hottest zone"
    if celsius >= _HOT_CELSIUS:
        return warning(
            "temperature", says, "a Raspberry Pi slows down from 80 °C on: cool it, or adapt on fewer frames"
        )
    return ok("temperature", says)


def cameras(dev: Path, sys: Path) -> tuple[Camera, ...]:
    """Every /dev/videoN, by number."""
    found = [path for path in dev.glob("video*") if path.name.removeprefix("video").isdecimal()]
    return tuple(
        Camera(path, first_line(sys / "class" / "video4linux" / path.name / "name"), os.access(path, os.R_OK | os.W_OK))
        for path in sorted(found, key=lambda path: int(path.name.removeprefix("video")))
    )


def check_cameras(found: tuple[Camera, ...]) -> Finding:
    """Whether there are any, and whether this user may use them."""
    if not found:
        return ok("cameras", "no /dev/video*: pictures, films and RTSP streams need none")
    closed = [camera for camera in found if not camera.usable]
    shown = ", ".join(f"{camera.path} ({camera.name or 'no name'})" for camera in closed or found)
    if closed:
        advice = "sudo usermod -aG video $USER, and log in again; in a container: --device and --group-add video"
        return warning("cameras", f"this user may not read and write {shown}", advice)
    return ok("cameras", shown)


def check_state_folder(folder: Path) -> Finding:
    """Whether a state can be saved there: found out by writing a nameless file."""
    about = "state folder"
    if not folder.is_dir():
        return problem(about, f"{folder} is no folder", "make it, or name another with --state")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
        space = os.statvfs(folder)
    except OSError as error:
        why = error.strerror or error
        advice = "give this user the right to write there, mount a volume on it, or name another with --state"
        return problem(about, f"{folder} cannot be written: {why}", advice)
    free_bytes = space.f_bavail * space.f_frsize
    says = f"{folder} can be written, {free_bytes >> 20} MiB free"
    if free_bytes < _ROOM_BYTES:
        return warning(about, says, "make room: what was learned could not be saved whole")
    return ok(about, says)
