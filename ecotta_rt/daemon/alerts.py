"""The owner's rules, applied to all that a daemon tells; what they give rise to is told like the rest."""

from collections.abc import Sequence
from threading import Lock

from ecotta_rt.daemon.outbox import Outbox
from ecotta_rt.events import Stamped
from ecotta_rt.machine.clock import Clock
from ecotta_rt.sinks.alert_rules import AlertRule, AlertRules

__all__ = ["Alerts"]


class Alerts:
    """Takes stamped events from any thread, and tells of alerts.

    Args:
        outbox: Where they go.
        clock: The one that dates frames.
    """

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._lock = Lock()
        self._rules = AlertRules(())

    def follow(self, rules: Sequence[AlertRule]) -> None:
        """Have these rules; where they are as they were, what has held since some time goes on."""
        if tuple(rules) != tuple(self._rules.rules):
            self._rules = AlertRules(tuple(rules))

    def take(self, event: Stamped, /) -> None:
        """Look at an event."""
        with self._lock:
            found = self._rules.take(event)
        self._tell(found)

    def tick(self) -> None:
        """Look at what has held for long enough by now."""
        with self._lock:
            found = self._rules.tick(0.0, self._clock.now_s())
        self._tell(found)

    def _tell(self, found: Sequence[Stamped]) -> None:
        # Outside the lock, since they come back to `take` as every event does.
        for alert in found:
            self._outbox.tell(alert.event, alert.camera, alert.monotonic_s)
