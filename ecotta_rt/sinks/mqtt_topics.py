"""What is said over MQTT, and under which topics; nothing here knows a broker.

PREFIX/available            online, offline (the last will); retained
PREFIX/event                events of the whole process
PREFIX/CAMERA/answer        answers
PREFIX/CAMERA/event         other events of a camera
PREFIX/CAMERA/state         available, adapting, doubt; retained
PREFIX/CAMERA/adapt/set     a command: ON, OFF
PREFIX/CAMERA/reset         a command
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from ecotta_rt._version import __version__
from ecotta_rt.events import Answer

__all__ = ["Pace", "Topics", "discovery", "slug"]


@dataclass(frozen=True)
class Topics:
    """Names of topics; a camera's name is escaped as in an address, so that it can be no level and no wildcard.

    Attributes:
        prefix: What all begin with.

    >>> Topics("ecotta").answer("front/+door")
    'ecotta/front%2F%2Bdoor/answer'
    """

    prefix: str

    @property
    def available(self) -> str:
        return f"{self.prefix}/available"

    def event(self, camera: str | None) -> str:
        return f"{self.prefix}/event" if camera is None else f"{self._of(camera)}/event"

    def answer(self, camera: str) -> str:
        return f"{self._of(camera)}/answer"

    def state(self, camera: str) -> str:
        return f"{self._of(camera)}/state"

    def adapt(self, camera: str) -> str:
        return f"{self._of(camera)}/adapt/set"

    def reset(self, camera: str) -> str:
        return f"{self._of(camera)}/reset"

    @property
    def all_states(self) -> str:
        """Of all cameras, as a subscription."""
        return f"{self.prefix}/+/state"

    def camera_of_state(self, topic: str) -> str | None:
        """Whose state is there; None: of no camera that we could have had.

        >>> Topics("ecotta").camera_of_state("ecotta/front%2Fdoor/state")
        'front/door'
        """
        camera = unquote(topic.removeprefix(f"{self.prefix}/").removesuffix("/state"), errors="surrogatepass")
        return camera if topic == self.state(camera) else None

    def _of(self, camera: str) -> str:
        return f"{self.prefix}/{quote(camera, safe='', errors='surrogatepass')}"


class Pace:
    """Lets an answer through when it is another class than the last, or when the last was long enough ago.

    Args:
        most_per_s: How many a second, of a class that stays; 0: all.
    """

    def __init__(self, most_per_s: float) -> None:
        self._least_s = 1 / most_per_s if most_per_s else 0.0
        self._label: str | None = None
        self._said_s = 0.0

    def lets_through(self, answer: Answer, now_s: float) -> bool:
        """Whether this answer is to be said, `now_s` by the clock of the events."""
        if answer.label == self._label and now_s - self._said_s < self._least_s:
            return False
        self._label, self._said_s = answer.label, now_s
        return True


def slug(text: str) -> str:
    """A name for an identifier: letters, digits, _ and -; one that had to be changed stays unlike all others.

    >>> slug("front-door"), slug("front door")
    ('front-door', 'front_door-727999')
    """
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"


def discovery(topics: Topics, camera: str, root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Topic and content of what makes Home Assistant show a camera as a device.

    After https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, with one topic an entity, which every version
    understands.

    Args:
        topics: Where the camera's values are.
        camera: Its name.
        root: Home Assistant's prefix for discovery.
    """
    node = slug(f"{topics.prefix}_{camera}")
    common = {
        "availability_topic": topics.available,
        "device": {
            "identifiers": [node],
            "name": camera,
            "manufacturer": "ecotta_rt",
            "model": "adapting classifier",
            "sw_version": __version__,
        },
        "origin": {"name": "ecotta_rt", "sw_version": __version__},
    }
    for kind, name, own in _entities(topics, camera):
        identifier = f"{node}_{slug(name)}"
        yield f"{root}/{kind}/{node}/{slug(name)}/config", {"name": name, "unique_id": identifier, **own, **common}


def _entities(topics: Topics, camera: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    answer, state = topics.answer(camera), topics.state(camera)
    yield (
        "sensor",
        "class",
        # Home Assistant takes no state of more than 255 characters.
        {"state_topic": answer, "value_template": "{{ value_json.label[:255] }}", "json_attributes_topic": answer},
    )
    yield (
        "sensor",
        "probability",
        {
            "state_topic": answer,
            "value_template": "{{ (value_json.probability | float(0) * 100) | round(1) }}",
            "unit_of_measurement": "%",
            "state_class": "measurement",
        },
    )
    for name, field, kind in (("frames", "available", "connectivity"), ("doubt", "doubt", "problem")):
        yield "binary_sensor", name, {"state_topic": state, "value_template": _on(field), "device_class": kind}
    yield (
        "switch",
        "adapting",
        {
            "state_topic": state,
            "value_template": _on("adapting"),
            "command_topic": topics.adapt(camera),
            "entity_category": "config",
        },
    )
    yield "button", "reset", {"command_topic": topics.reset(camera), "entity_category": "config"}


def _on(field: str) -> str:
    return f"{{{{ 'ON' if value_json.{field} else 'OFF' }}}}"
