"""What the daemon tells people on standard error: a line for people, or for a program a JSON object a line.

Standard error may be a pipe that nobody empties. While the daemon runs its lines are written by a thread of their own,
so that neither a frame nor the end waits for a reader; those that there is no room for are dropped, and counted in the
next line that is written.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Full, Queue
from threading import Thread
from typing import Literal

from ecotta_rt.daemon.configuration.tables import LogOptions
from ecotta_rt.daemon.http.told import told
from ecotta_rt.events import Stamped
from ecotta_rt.messages import draw, printable, tell
from ecotta_rt.sinks.event_fields import iso_time

__all__ = ["Log", "Severity"]

Severity = Literal["debug", "info", "warning", "error"]

_MOST_WAITING = 1000
_FULL_S, _END_S = 0.1, 1.0  # for a reader that takes nothing, and for one that is slow

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
        self._waiting: Queue[Callable[[], None] | None] | None = None  # None: lines are written at once
        self._dropped = 0
        self._unsaved: set[str | None] = set()  # cameras

    @contextmanager
    def unhurried(self, left_s: Callable[[], float] = lambda: _END_S) -> Iterator[None]:
        """In here a thread writes the lines; at the end those that nobody reads are left behind.

        Args:
            left_s: Seconds that are left to end in, when it has come to that.
        """
        waiting = self._waiting = Queue(_MOST_WAITING)
        thread = Thread(target=self._write_all, args=(waiting,), name="log", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with suppress(Full):
                waiting.put(None, timeout=_FULL_S)
            thread.join(max(_FULL_S, min(left_s(), _END_S)))
            if not thread.is_alive():
                self._waiting = None

    def say(self, text: str) -> None:
        """Tell something in a line; one that begins with `warning: ` is one."""
        self._write("warning" if text.startswith(_WARNING) else "info", text.removeprefix(_WARNING), {})

    def take(self, stamped: Stamped) -> None:
        said = told(stamped.event, in_lines=self.options.format == "text")
        if said is None:
            return
        kind, text = said
        fields = {"event": kind} | ({} if stamped.camera is None else {"camera": stamped.camera})
        severity = _SEVERITIES.get(kind, "info")
        if kind == "state-not-saved":
            self._unsaved.add(stamped.camera)
        elif kind == "state-saved" and stamped.camera in self._unsaved:
            self._unsaved.discard(stamped.camera)
            severity, text = "info", f"saved again: {text}"
        self._write(severity, text, fields)

    def _write(self, severity: Severity, text: str, fields: dict[str, str]) -> None:
        if _ORDER.index(severity) < _ORDER.index(self.options.level):
            return
        if self.options.format == "json":
            line = {"time": iso_time(self._wall_s()), "level": severity, **fields, "message": printable(text)}
            self._hand_over(lambda: draw(json.dumps(line) + "\n"))
            return
        before = _WARNING if severity == "warning" else ""
        of = f"{fields['camera']}: " if "camera" in fields else ""
        self._hand_over(lambda: tell(self._program, f"{before}{of}{text}"))

    def _hand_over(self, write: Callable[[], None]) -> None:
        waiting = self._waiting
        if waiting is None:
            write()
            return
        try:
            waiting.put_nowait(write)
        except Full:
            self._dropped += 1

    def _write_all(self, waiting: "Queue[Callable[[], None] | None]") -> None:
        while (write := waiting.get()) is not None:
            write()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                tell(self._program, f"warning: {dropped} lines were dropped: nobody read standard error")
