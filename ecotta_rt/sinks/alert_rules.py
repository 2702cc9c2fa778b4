"""When somebody is to be told: rules over events, and nothing but rules.

    rules = AlertRules(rules)
    rules.take(stamped)      each event     ->   alerts, as stamped events for the outputs
    rules.tick(now)          now and then   ->   what has come with time alone

Which way an alert goes is a matter of the outputs: MQTT, a webhook, a file, or `apprise_sink.py`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from ecotta_rt.events import Alert, Answer, DoubtBegan, DoubtEnded, SourceBack, SourceLost, Stamped, StreamEnded
from ecotta_rt.files.fields import Doc, Limit, OneOf
from ecotta_rt.sinks.event_fields import EVENT_NAMES, event_fields, event_name

__all__ = ["AlertRule", "AlertRules", "fault_of", "unknown_label"]

_DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class AlertRule:
    """When somebody is to be told; the event `alert` goes to the outputs that want it."""

    name: Annotated[str, Limit(most=100), Doc("What the alert calls it.", '"visitor"')]
    when: Annotated[
        Literal["seen", "lost", "doubt", "event"],
        Doc(
            "`seen`: a class is the answer; `lost`: a camera gives no frames; `doubt`: its answers may no longer be "
            "right; `event`: one of `events` happens.",
            '"seen"',
        ),
    ]
    cameras: Annotated[tuple[str, ...], Doc("Of which cameras; empty: all, each by itself.", '["door"]')] = ()
    label: Annotated[str | None, Doc("`seen`: the class.", '"cat"')] = None
    least_probability: Annotated[float, Limit(0, 1), Doc("`seen`: only answers with at least this probability.")] = 0.5
    for_s: Annotated[
        float, Limit(0, 7 * _DAY_S), Doc("Only when it has held for so many seconds; `event` happens at once.")
    ] = 0.0
    events: Annotated[
        tuple[Annotated[str, OneOf(EVENT_NAMES)], ...],
        Doc("`event`: which, by name.", '["state-not-saved", "sink-failed"]'),
    ] = ()
    recovered: Annotated[bool, Doc("Tell, too, when it holds no longer.")] = True
    pause_s: Annotated[
        float, Limit(0, 30 * _DAY_S), Doc("Seconds from one alert of a rule and camera to the next, at least.")
    ] = 300.0


def fault_of(rule: AlertRule) -> str | None:
    """What is wrong with a rule as a whole, for a message; None: nothing."""
    for when, field_name, given in (("seen", "label", rule.label is not None), ("event", "events", bool(rule.events))):
        if rule.when == when and not given:
            return f'when = "{when}" needs `{field_name}`'
        if given and rule.when != when:
            return f'`{field_name}` is for when = "{when}" alone, and this is when = "{rule.when}"'
    if "alert" in rule.events:
        return "an alert about alerts would never end"
    return None


def unknown_label(rule: AlertRule, classes: Sequence[str]) -> bool:
    """Whether a rule waits for a class that a network does not have; one whose classes have no names has them all."""
    return rule.label is not None and bool(classes) and rule.label not in classes


@dataclass
class _Spell:
    """How long something has held, and what was told of that; for one rule and one camera."""

    since_s: float | None = None
    why: str = ""
    told: bool = False  # of this spell
    next_s: float = -math.inf

    def begin(self, now_s: float, why: str) -> None:
        if self.since_s is None:
            self.since_s = now_s
            self.told = False
        self.why = why

    def is_due(self, now_s: float, rule: AlertRule) -> bool:
        """Whether it is to be told now; then it counts as told."""
        if self.since_s is None or self.told or now_s - self.since_s < rule.for_s or now_s < self.next_s:
            return False
        self.told, self.next_s = True, now_s + rule.pause_s
        return True

    def end(self, now_s: float) -> float | None:
        """Its length in seconds where its beginning was told, else None."""
        since_s, self.since_s = self.since_s, None
        return now_s - since_s if since_s is not None and self.told else None


@dataclass
class AlertRules:
    """Applies rules to the events of a process.

    Attributes:
        rules: The rules, `fault_of` each of them None.
    """

    rules: Sequence[AlertRule]
    _spells: dict[tuple[int, str | None], _Spell] = field(default_factory=dict)

    def take(self, stamped: Stamped) -> list[Stamped]:
        """What an event gives rise to: alerts with its time and camera."""
        if not self.rules or isinstance(stamped.event, Alert):
            return []
        if isinstance(stamped.event, StreamEnded):  # nobody waits for a camera that was taken out
            self._spells = {key: spell for key, spell in self._spells.items() if key[1] != stamped.camera}
        concerned = (
            (at, rule)
            for at, rule in enumerate(self.rules)
            if stamped.camera is None or not rule.cameras or stamped.camera in rule.cameras
        )
        return [
            Stamped(alert, stamped.time_s, stamped.monotonic_s, stamped.camera)
            for at, rule in concerned
            for alert in self._apply(at, rule, stamped)
        ]

    def tick(self, time_s: float, monotonic_s: float) -> list[Stamped]:
        """What has held for long enough by now, though no event says so.

        Args:
            time_s: The wall clock, as in `Stamped`.
            monotonic_s: The clock of the events' `monotonic_s`.
        """
        return [
            Stamped(Alert(rule.name, spell.why), time_s, monotonic_s, camera)
            for (at, camera), spell in self._spells.items()
            if (rule := self.rules[at]).when != "seen" and spell.is_due(monotonic_s, rule)
        ]

    def _apply(self, at: int, rule: AlertRule, stamped: Stamped) -> Iterator[Alert]:
        spell = self._spells.setdefault((at, stamped.camera), _Spell())
        now_s = stamped.monotonic_s
        if rule.when == "event":
            if event_name(stamped) in rule.events:
                spell.begin(now_s, _happened(stamped))
                if spell.is_due(now_s, rule):
                    yield Alert(rule.name, spell.why)
                spell.end(now_s)
            return
        holds = _holds(rule, stamped)
        if holds is None:
            return
        if holds:
            spell.begin(now_s, holds)
            if spell.is_due(now_s, rule):
                yield Alert(rule.name, spell.why)
        elif (lasted_s := spell.end(now_s)) is not None and rule.recovered:
            yield Alert(rule.name, f"{_over(rule)} after {lasted_s:.0f} s", over=True)


def _holds(rule: AlertRule, stamped: Stamped) -> str | None:
    """Why the rule's condition holds from this event on; empty: it does not; None: the event says nothing of it."""
    match rule.when, stamped.event:
        case "seen", Answer(label=label, probability=probability):
            seen = label == rule.label and probability >= rule.least_probability
            return f"{label} seen ({probability:.2f})" if seen else ""
        case "seen", SourceLost():
            return ""
        case "lost", SourceLost(why=why):
            return f"no frames: {why}"
        case "lost", SourceBack() | Answer():
            return ""
        case "doubt", DoubtBegan(why=why):
            return f"answers may be wrong: {why}"
        case "doubt", DoubtEnded():
            return ""
    return None


def _over(rule: AlertRule) -> str:
    return {"seen": f"{rule.label} no longer seen", "lost": "frames again", "doubt": "the signs are good again"}[
        rule.when
    ]


def _happened(stamped: Stamped) -> str:
    fields = event_fields(stamped.event)
    said = [str(fields[key]) for key in ("sink", "path", "label", "why", "refused") if fields.get(key)]
    return f"{event_name(stamped)}: {', '.join(said)}" if said else str(event_name(stamped))
