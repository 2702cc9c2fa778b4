"""Alerts that are sent to be tried: does a message reach anybody?"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecotta_rt.errors import EcottaError, UsageError
from ecotta_rt.events import Alert, Event, SinkFailed, Stamped
from ecotta_rt.machine.clock import SystemClock
from ecotta_rt.sinks.alert_rules import AlertRule
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.kinds import sink_kind

if TYPE_CHECKING:
    from ecotta_rt.daemon.configuration.config import Config, Output

__all__ = ["Tried", "try_alerts"]

_SAID = "this is a test, nothing has happened"


@dataclass(frozen=True)
class Tried:
    """What came of one message.

    Attributes:
        rule: Whose alert it is.
        output: Where it was to go.
        kind: Of the output.
        sent: Whether the output took it; None: it was not tried.
        why: What went wrong, or why it was not tried.
    """

    rule: str
    output: str
    kind: str
    sent: bool | None
    why: str = ""


def try_alerts(config: "Config", rule: str | None = None) -> Iterator[Tried]:
    """Send the alert of each rule once, to all outputs that would get it.

    Outputs that are the daemon's own are left alone: it may be running, and have their file, socket or connection.

    Args:
        config: With rules and outputs.
        rule: The name of one rule; None: all of them.

    Yields:
        What came of each message, as soon as it is known.

    Raises:
        UsageError: There is no such rule, or none at all.
    """
    if not config.alert_rules:
        raise UsageError(f"{config.path}: there is no [[alert]] to try")
    rules = [one for one in config.alert_rules if rule in (None, one.name)]
    if not rules:
        names = ", ".join(one.name for one in config.alert_rules)
        raise UsageError(f"{config.path}: there is no alert {rule!a}; there are: {names}")
    for one in rules:
        for output in config.sinks:
            camera = _camera(config, one, output)
            if camera is not None and "alert" in (output.options.events or ("alert",)):
                yield _tried(one, output, camera)


def _camera(config: "Config", rule: AlertRule, output: "Output") -> str | None:
    """The first camera whose alert by this rule goes to this output; None: there is none."""
    wanted = [names for names in (rule.cameras, output.options.cameras) if names]
    return next((one.name for one in config.cameras if all(one.name in names for names in wanted)), None)


def _tried(rule: AlertRule, output: "Output", camera: str) -> Tried:
    kind = sink_kind(output.kind)
    if not kind.reaches_people:
        return Tried(rule.name, output.name, output.kind, None, "it is the daemon's own, which may be running")
    told: list[Event] = []
    context = SinkContext(told.append, lambda: False, SystemClock())
    stamped = Stamped(Alert(rule.name, _SAID), time.time(), context.clock.now_s(), camera)
    try:
        sink = kind.opens(output.options, output.name, context)
        try:
            sink.take(stamped)
        finally:
            sink.close()
    except (EcottaError, OSError) as error:
        return Tried(rule.name, output.name, output.kind, False, str(error))
    failed = [event.why for event in told if isinstance(event, SinkFailed)]
    return Tried(rule.name, output.name, output.kind, not failed, "; ".join(failed))
