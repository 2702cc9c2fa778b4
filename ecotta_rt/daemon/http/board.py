"""What a daemon has come to, for whoever asks: /metrics, /healthz, the live page, `ecotta top`.

    board = Board(version)
    board.show([BoardCamera("door")])        at the start, and when the configuration is read again
    board.describe(BoardFacts("net.ecotta"))    when the network is loaded
    board.beat()                                each turn of the work loop
    board.take(stamped)                         each event
    board.snapshot()                            from any thread, at any time

What it holds is bounded: the last 200 events, and 300 points of two seconds or more a camera. Nothing here waits: a
reader makes a copy in some hundred microseconds, and the loop waits no longer than that.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from ecotta_rt._version import __version__
from ecotta_rt.daemon.http.camera_tally import BoardCamera, CameraTally
from ecotta_rt.daemon.http.told import told
from ecotta_rt.events import (
    BatchAnswered,
    Event,
    EventsDropped,
    GuardStep,
    Reloaded,
    SinkBack,
    SinkFailed,
    Stamped,
    StateNotSaved,
)
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Level

__all__ = ["Board", "BoardFacts"]

SCHEMA = 1
_EVENTS = 200
_VITALS_S = 5.0
_MOST_SINKS = 64
_MOST_REFUSED = 20
_REPEATED = ("refused", "camera-lost", "events-dropped", "state-saved", "state-not-saved")


@dataclass(frozen=True)
class BoardFacts:
    """What does not change while a network runs.

    Attributes:
        network: Its name, for people.
        digest: Of its bundle.
        classes: How many.
        limit_bytes: What the process may have; None: nobody has said.
        gate_nats: Frames with less entropy are certain enough to learn from; None: not known.
        device: The profile it keeps to; "": none.
    """

    network: str
    digest: str = ""
    classes: int = 0
    limit_bytes: int | None = None
    gate_nats: float | None = None
    device: str = ""


class Board:
    """Takes the events of a daemon, from one thread or several, and tells from any other what they came to.

    Args:
        clock: Dates the frames.
        wall_s: Seconds since 1970.
        read: Reads memory and temperature, such as a `VitalsReader`; asked when somebody asks here, at most every 5
            seconds. None: nobody tells.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        wall_s: Callable[[], float] = time.time,
        read: Callable[[], Vitals] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._wall_s = wall_s
        self._read = read
        self._lock = Lock()
        self._cameras: dict[str, CameraTally] = {}
        self._started_s, self._started_wall_s = self._clock.now_s(), wall_s()
        self._beat_s = self._started_s
        self._beats = 0
        self._facts: BoardFacts | None = None
        self._level = Level.FULL
        self._step: dict[str, Any] | None = None
        self._vitals: Vitals | None = None
        self._vitals_s = -math.inf
        self._sinks: dict[str, dict[str, Any]] = {}
        self._missed: Callable[[], Iterable[tuple[str, int]]] = tuple
        self._counts: Counter[str] = Counter()
        self._shown: dict[str, int] = {}  # of `missed`
        self._told = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)

    # Writing

    def show(self, cameras: Iterable[BoardCamera]) -> None:
        """These are the cameras from now on; one that was there before keeps its counts."""
        now_s = self._clock.now_s()
        with self._lock:
            before, self._cameras = self._cameras, {}
            for camera in cameras:
                tally = before.get(camera.name) or CameraTally(camera, now_s)
                tally.camera, tally.adapting = camera, camera.adapting
                self._cameras[camera.name] = tally

    def describe(self, facts: BoardFacts) -> None:
        """The network is loaded."""
        with self._lock:
            self._facts = facts

    def count_missed(self, missed: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """Ask this, from any thread, what outputs that fail have lost so far and no event has told, by name."""
        self._missed = missed

    def beat(self) -> None:
        """The work loop moves; to be called by it, and by nobody else."""
        self._beat_s = self._clock.now_s()
        self._beats += 1

    def set_dropped(self, camera: str, by_reason: dict[str, int]) -> None:
        """So many frames of a camera were dropped so far, by reason, such as `newer`; those of the guard left out."""
        with self._lock:
            if camera in self._cameras:
                self._cameras[camera].set_dropped(by_reason)

    def take(self, stamped: Stamped) -> None:
        event, now_s = stamped.event, self._clock.now_s()
        with self._lock:
            tally = self._cameras.get(stamped.camera or "")
            if tally is not None:
                gate_nats = None if self._facts is None else self._facts.gate_nats
                tally.take(event, stamped.time_s, now_s, gate_nats)
            self._take(event, stamped)
            said = told(event)
            if said is not None:
                self._tell(stamped, *said)

    def _take(self, event: Event, stamped: Stamped) -> None:
        match event:
            case BatchAnswered():
                self._level = event.level
            case GuardStep():
                self._level = event.level
                self._counts["guard_steps"] += event.before != event.level
                measured = {key: value for key, value in vars(event).items() if key not in ("before", "level")}
                self._step = {**measured, "from": str(event.before), "to": str(event.level), "time_s": stamped.time_s}
            case SinkFailed():
                self._sink(event.sink)["failed"] = event.why
                self._sink(event.sink)["failures"] += 1
            case SinkBack():
                self._sink(event.sink)["failed"] = None
                self._sink(event.sink)["missed"] += event.missed
            case EventsDropped():
                self._sink(event.sink)["missed" if event.why else "dropped"] += event.count
            case Reloaded():
                self._counts["reloads_refused" if event.why else "reloads"] += 1
            case StateNotSaved():
                self._counts["states_not_saved"] += 1

    def _sink(self, name: str) -> dict[str, Any]:
        if name not in self._sinks and len(self._sinks) >= _MOST_SINKS:
            name = "others"
        return self._sinks.setdefault(name, {"name": name, "failed": None, "failures": 0, "missed": 0, "dropped": 0})

    def _tell(self, stamped: Stamped, kind: str, text: str) -> None:
        """Add to the list of events; one that only repeats what its camera told last takes that one's place.

        Frames that were refused repeat what was told where name and reason are the same.
        """
        own = [event for event in self._events if event["camera"] == stamped.camera]
        times = 1
        if own and own[-1]["kind"] == kind and kind in _REPEATED and (kind != "refused" or own[-1]["text"] == text):
            self._events.remove(own[-1])
            times += own[-1]["times"]
        elif kind == "refused" and len(refused := [event for event in own if event["kind"] == kind]) >= _MOST_REFUSED:
            self._events.remove(refused[0])  # a folder of torn files is not to push out all else
        self._told += 1
        self._events.append(
            {
                "number": self._told,
                "time_s": round(stamped.time_s, 3),
                "monotonic_s": round(stamped.monotonic_s, 3),
                "camera": stamped.camera,
                "kind": kind,
                "text": text,
                "times": times,
            }
        )

    # Reading

    def snapshot(self, since_s: float = -math.inf, after: int = 0) -> dict[str, Any]:
        """Everything, made of JSON's kinds, and of nothing that changes later.

        Args:
            since_s: Of the points only those that may have changed since then, on the monotonic clock.
            after: Of the events only those with a higher number.
        """
        vitals = self._read_vitals()
        missing = dict(self._missed())
        with self._lock:
            now_s, wall_s = self._clock.now_s(), self._wall_s()
            facts = self._facts
            knows_gate = facts is not None and facts.gate_nats is not None
            return {
                "schema": SCHEMA,
                "ecotta_rt": __version__,
                "time_s": round(wall_s, 3),
                "monotonic_s": round(now_s, 3),
                "started_time_s": round(self._started_wall_s, 3),
                "up_s": round(now_s - self._started_s, 3),
                "network": None if facts is None else asdict(facts),
                "loop": {"beats": self._beats, "last_beat_s": round(now_s - self._beat_s, 3)},
                "guard": {"level": str(self._level), "number": int(self._level), "step": self._step},
                "machine": _machine(vitals, facts),
                "cameras": [one.snapshot(now_s, since_s, knows_gate) for one in self._cameras.values()],
                "sinks": [self._with_missed(sink, missing) for sink in self._sinks.values()],
                "counts": {
                    name: self._counts[name]
                    for name in ("guard_steps", "reloads", "reloads_refused", "states_not_saved")
                },
                "events": [dict(event) for event in self._events if event["number"] > after],
            }

    def _with_missed(self, sink: dict[str, Any], missing: Mapping[str, int]) -> dict[str, Any]:
        """With what it misses while it fails. What was shown once is never less: a counter does not go back."""
        lost = sink["missed"] + missing.get(sink["name"], 0)
        self._shown[sink["name"]] = max(lost, self._shown.get(sink["name"], 0))
        return sink | {"missed": self._shown[sink["name"]]}

    def in_a_line(self) -> str:
        """For people who look at the service: frames answered, and which cameras give none, and why."""
        with self._lock:
            now_s, tallies = self._clock.now_s(), [*self._cameras.values()]
            frames = sum(tally.frames for tally in tallies)
            states = [(tally.camera.name, tally.state(now_s)[0]) for tally in tallies]
        missing = [f"{name} is {state}" for name, state in states if state not in ("live", "waiting")]
        return "; ".join([f"{len(states)} cameras, {frames} frames answered", *missing])

    def _read_vitals(self) -> Vitals:
        """At most every 5 seconds: to count a process's memory takes the kernel some milliseconds."""
        now_s = self._clock.now_s()
        with self._lock:
            due = self._read is not None and now_s - self._vitals_s >= _VITALS_S
            if due:
                self._vitals_s = now_s  # others read on in the meantime
        if due and self._read is not None:
            vitals = self._read()
            with self._lock:
                self._vitals = vitals
        return self._vitals or Vitals()


def _machine(vitals: Vitals, facts: BoardFacts | None) -> dict[str, Any]:
    return {
        "pss_bytes": vitals.pss_bytes,
        "limit_bytes": None if facts is None else facts.limit_bytes,
        "available_bytes": vitals.available_bytes,
        "temperature_c": vitals.temperature_c,
        "throttled": vitals.throttled,
    }
