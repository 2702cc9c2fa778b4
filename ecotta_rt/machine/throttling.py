"""Whether a Raspberry Pi already slows itself down.

Source: raspberrypi.com/documentation, "vcgencmd get_throttled", for the bits:

    0x1  under-voltage now          0x10000  under-voltage since boot
    0x2  frequency capped now       0x20000  ... and so on: what was is no reason to do less now
    0x4  throttled now
    0x8  soft temperature limit now
"""

from pathlib import Path

from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.machine.proc import text

__all__ = ["THROTTLED_NOW", "Firmware"]

THROTTLED_NOW = 0xF
"""The bits that tell of the present."""

_GET_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_LONGEST_S = 1.0


class Firmware:
    """Asks a Raspberry Pi's firmware whether it throttles, rarely: each question starts a process.

    `vcgencmd` comes first, since reading the kernel's file clears the bits of what was, for everybody else too.

    Args:
        command: The program, by name or path.
        file: The kernel's file, for a system without the program.
        every_s: Seconds between two questions; in between the last answer counts.
        clock: Tells when the time has come.
    """

    def __init__(
        self,
        command: str = "vcgencmd",
        file: Path = _GET_THROTTLED,
        every_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._command = _found(command)
        self._file = file
        self._every_s = every_s
        self._clock = clock or SystemClock()
        self._asked_s: float | None = None
        self._answer: int | None = None

    def throttled(self) -> int | None:
        """The bits above; None where there is nobody to ask."""
        now_s = self._clock.now_s()
        if self._asked_s is None or now_s - self._asked_s >= self._every_s:
            self._asked_s = now_s
            self._answer = self._ask()
        return self._answer

    def _ask(self) -> int | None:
        command = self._command  # which another thread may give up meanwhile
        if command is not None:
            answer = _bits(_output(command).partition("=")[2])
            if answer is not None:
                return answer
            self._command = None  # not in the group `video`, or in a container: it will not come later
        return _bits(text(self._file))


def _found(command: str) -> str | None:
    import shutil

    return shutil.which(command)


def _output(command: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            [command, "get_throttled"], capture_output=True, text=True, errors="replace", timeout=_LONGEST_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _bits(written: str) -> int | None:
    """Of `0x50000`, or of `50000`: both are hexadecimal."""
    try:
        return int(written.strip(), 16)
    except ValueError:
        return None
