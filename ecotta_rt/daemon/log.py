"""What the daemon tells people on standard error: a line for people, or for a program a JSON object a line."""

import json
import time
from collections.abc import Callable
from typing import Literal

from ecotta_rt.daemon.configuration.tables import Log as LogOptions
from ecotta_rt.daemon.http.told import told
from ecotta_rt.events import Stamped
from ecotta_rt.messages import draw, printable, tell
from ecotta_rt.sinks.event_fields import iso_time

__all__ = ["Log", "Severity"]

Severity = Literal["debug", "info", "warning", "error"]

_ORDER: tuple[Severity, ...] = ("debug", "info", "warning", "error")
_WARNING = "warning: "
_SEVERITIES: dict[str, Severity] = {
    **dict.fromkeys(("camera-lost", "doubt", "state-not-saved", "state-returned"), "warning"),
    **dict.fromkeys(("guard", "sink-failed", "events-dropped"), "warning"),
    **dict.fromkeys(("refused", "state-saved"), "debug"),
}


class Log:
    """Takes what there is to say, and events, from any thread; it raises nothing.

    Args:
        options: The least that is said, and how.
        program: Who says it, in lines for people.
        wall_s: Seconds since 1970, UTC.
    """

    def __init__(
        self, options: LogOptions, program: str = "ecotta serve", wall_s: Callable[[], float] = time.time
    ) -> None:
        self.options = options
        self._program = program
        self._wall_s = wall_s

    def say(self, text: str) -> None:
        """Tell something in a line; one that begins with `warning: ` is one."""
        self._write("warning" if text.startswith(_WARNING) else "info", text.removeprefix(_WARNING), {})

    def take(self, stamped: Stamped) -> None:
        said = told(stamped.event)
        if said is None:
            return
        kind, text = said
        fields = {"event": kind} | ({} if stamped.camera is None else {"camera": stamped.camera})
        self._write(_SEVERITIES.get(kind, "info"), text, fields)

    def _write(self, severity: Severity, text: str, fields: dict[str, str]) -> None:
        if _ORDER.index(severity) < _ORDER.index(self.options.level):
            return
        if self.options.format == "json":
            line = {"time": iso_time(self._wall_s()), "level": severity, **fields, "message": printable(text)}
            draw(json.dumps(line) + "\n")
            return
        before = _WARNING if severity == "warning" else ""
        of = f"{fields['camera']}: " if "camera" in fields else ""
        tell(self._program, f"{before}{of}{text}")
