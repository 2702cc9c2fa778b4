"""Events to an MQTT broker, with commands back and discovery for Home Assistant.

The connection is opened by `open_mqtt` and lost for good: the outlet before it opens another one, with its own waits.
"""

import json
import math
import socket
from collections import deque
from contextlib import suppress
from dataclasses import asdict, replace
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from ecotta_rt.errors import EcottaError, TransferError, UsageError
from ecotta_rt.events import Answer, Event, Reloaded, Stamped
from ecotta_rt.extras import missing_package
from ecotta_rt.files.fields import shown
from ecotta_rt.messages import printable
from ecotta_rt.sinks.camera_states import CameraState
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.event_fields import bare
from ecotta_rt.sinks.json_lines import json_line
from ecotta_rt.sinks.kinds import SinkKind
from ecotta_rt.sinks.mqtt_options import MqttOptions, check_mqtt
from ecotta_rt.sinks.mqtt_topics import Pace, Topics, discovery
from ecotta_rt.sinks.sink import Undelivered

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo

__all__ = ["KIND", "Mqtt", "open_mqtt"]

_CONNECT_S = 5.0
_MOST_PENDING = 64  # events on their way to the broker; one that takes no more holds up this output, and none else
_MOST_LEFT = 64  # cameras of an earlier run that are forgotten at once
_WORD_EVERY_S = 10.0  # of orders that make no sense
_LAST_S = 1.0  # for what is on its way at the end


class Mqtt:
    """One connection to a broker.

    Args:
        options: Which broker, and what is said.
        context: Whom commands go to.

    Attributes:
        tick_s: How often `tick` is to be called.

    Raises:
        TransferError: The broker cannot be reached, or does not want us.
    """

    tick_s = 1.0

    def __init__(self, options: MqttOptions, context: SinkContext) -> None:
        self._options = options
        self._control, self._states = context.control, context.states
        self._say_aloud, self._clock, self._next_word_s = context.say, context.clock, -math.inf
        self._topics = Topics(options.prefix)
        self._answered, self._over, self._stale = Flag(), Flag(), Flag()
        self._why = ""  # the connection is over
        self._closed = False
        self._on_its_way: deque[tuple[MQTTMessageInfo, Event]] = deque()
        self._said: dict[str, CameraState] = {}
        self._left: deque[str] = deque(maxlen=_MOST_LEFT)
        self._paces: dict[str, Pace] = {}
        self._client = _client(options)
        self._client.on_connect = self._note_connection
        self._client.on_disconnect = self._note_end
        self._client.on_subscribe = self._note_subscription
        self._client.on_message = self._hear
        try:
            self._connect()
        except BaseException:
            self._leave()
            raise
        self._announce()

    @property
    def held(self) -> int:
        """Events that are on their way to the broker."""
        return len(self._on_its_way)

    def take(self, event: Event) -> None:
        """Raises `Undelivered`: the connection is lost."""
        if self._closed:
            return
        camera = event.camera if isinstance(event, Stamped) else None
        self._wait_for_room(event)
        if isinstance(bare(event), Reloaded) or self._stale.is_set():
            self._announce()
        if camera is not None and camera in self._shown():
            self._update(camera)
        if self._is_said(event, camera):
            self._say(event, camera)

    def tick(self) -> None:
        """Say again what Home Assistant has forgotten, and what has changed; raises as `take`."""
        self._require_connection()
        if self._stale.is_set():
            self._announce()
        for camera in self._shown():
            self._update(camera)

    def close(self) -> None:
        """Say that we go, and wait a second for what is on its way; raises `Undelivered` for what is left."""
        if self._closed:
            return
        self._closed = True
        if not self._over.is_set():
            self._wait_for(self._publish(self._topics.available, "offline", retain=True), _LAST_S)
            self._client.disconnect()
            self._over.wait(_LAST_S)
        self._leave()
        self._forget_delivered()
        left, self._on_its_way = [event for _, event in self._on_its_way], deque()
        if left:
            raise Undelivered("the broker did not confirm all before the end", left, again=False)

    # What is said

    def _announce(self) -> None:
        """All that is retained: that we are here, what there is, and how it is; and no more what is not."""
        self._stale.clear()
        there = self._there()
        gone = {*self._said, *self._states.cameras, *(self._left.popleft() for _ in range(len(self._left)))} - {*there}
        for camera in gone:
            self._said.pop(camera, None)
            self._paces.pop(camera, None)
            self._publish(self._topics.state(camera), "", retain=True)
            self._discover(camera, there=False)
        for camera in self._shown():
            self._discover(camera)
            self._update(camera, again=True)
        self._publish(self._topics.available, "online", retain=True)

    def _discover(self, camera: str, *, there: bool = True) -> None:
        """Tell Home Assistant of a camera, or that it is no more."""
        if self._options.discovery:
            for topic, content in discovery(self._topics, camera, self._options.discovery_prefix):
                self._publish(topic, json.dumps(content) if there else "", retain=True)

    def _update(self, camera: str, *, again: bool = False) -> None:
        """Retain a camera's state where it is another than before."""
        state = self._states.of(camera)
        state = replace(state, adapting=self._adapts(camera, otherwise=state.adapting))
        if again or state != self._said.get(camera):
            self._said[camera] = state
            self._publish(self._topics.state(camera), json.dumps(asdict(state)), retain=True)

    def _is_said(self, event: Event, camera: str | None) -> bool:
        answer = bare(event)
        if not isinstance(answer, Answer) or camera is None or not isinstance(event, Stamped):
            return True
        pace = self._paces.setdefault(camera, Pace(self._options.answers_per_s))
        return pace.lets_through(answer, event.monotonic_s)

    def _say(self, event: Event, camera: str | None) -> None:
        line = json_line(event)
        if line:
            is_answer = camera is not None and isinstance(bare(event), Answer)
            topic = self._topics.answer(camera) if is_answer and camera else self._topics.event(camera)
            self._on_its_way.append((self._publish(topic, line), event))

    def _publish(self, topic: str, content: str, *, retain: bool = False) -> "MQTTMessageInfo":
        return self._client.publish(topic, content, self._options.qos, retain)

    # What is asked

    def _hear(self, client: "Client", userdata: Any, message: "MQTTMessage") -> None:
        """In a thread of paho's. An order that makes no sense is told, and left alone: anybody may send one."""
        content = message.payload[:32].decode(errors="replace").strip()
        if message.topic == self._status_topic:
            if content == "online":
                self._stale.set()
        elif (camera := self._topics.camera_of_state(message.topic)) is not None:
            if message.retain and content and camera not in self._there():  # an earlier run had it
                self._left.append(camera)
                self._stale.set()
            elif not content and camera in self._shown():  # another daemon has this prefix, and not this camera
                self._stale.set()
        elif not message.retain:  # a retained reset would be obeyed at every connection
            with suppress(EcottaError):
                self._order(message.topic, content)

    def _order(self, topic: str, content: str) -> None:
        assert self._control is not None
        for camera in self._shown():
            if topic == self._topics.reset(camera):
                self._control.reset(camera)
            elif topic == self._topics.adapt(camera):
                if content.upper() in ("ON", "OFF"):
                    self._control.set_adapting(camera, content.upper() == "ON")
                else:
                    self._leave_alone(topic, content)

    def _leave_alone(self, topic: str, content: str) -> None:
        """Say so, but seldom: who sends rubbish sends much of it."""
        now_s = self._clock.now_s()
        if now_s >= self._next_word_s:
            self._next_word_s = now_s + _WORD_EVERY_S
            self._say_aloud(f"warning: mqtt: {topic}: expected ON or OFF, found {shown(content)}; left alone")

    @property
    def _status_topic(self) -> str:
        return f"{self._options.discovery_prefix}/status"

    def _there(self) -> tuple[str, ...]:
        return self._states.cameras if self._control is None else self._control.cameras

    def _shown(self) -> tuple[str, ...]:
        wanted = self._options.cameras
        return tuple(camera for camera in self._there() if not wanted or camera in wanted)

    def _adapts(self, camera: str, otherwise: bool) -> bool:
        try:
            return otherwise if self._control is None else self._control.adapting(camera)
        except UsageError:  # taken out meanwhile
            return otherwise

    # The connection

    def _connect(self) -> None:
        options = self._options
        port = options.port or (8883 if options.tls else 1883)
        try:
            self._client.connect(options.host, port, options.keepalive_s)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise TransferError(f"broker {options.host}:{port} cannot be reached: {why}") from error
        self._client.loop_start()
        if not self._answered.wait(_CONNECT_S):
            raise TransferError(f"broker {options.host}:{port} does not answer within {_CONNECT_S:g} s")
        if self._over.is_set():
            raise TransferError(f"broker {options.host}:{port}: {self._why}")
        if options.discovery:
            self._client.subscribe(self._status_topic, 0)
        if self._control is not None:
            self._client.subscribe(self._topics.all_states, 0)
            if options.commands:
                self._client.subscribe([(f"{options.prefix}/+/adapt/set", 1), (f"{options.prefix}/+/reset", 1)])

    def _note_subscription(self, client: "Client", userdata: Any, number: int, codes: Any, properties: Any) -> None:
        """Only commands are two at once. What else we listen to is no loss where the broker forbids it."""
        if len(codes) > 1 and any(code.is_failure for code in codes):
            self._end("it does not let this user subscribe to commands; allow it there, or set commands = false")

    def _note_connection(self, client: "Client", userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._end(str(code))
        self._answered.set()

    def _note_end(self, client: "Client", userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        self._end(f"connection lost ({code})")

    def _end(self, why: str) -> None:
        self._why = self._why or printable(why)
        self._over.set()
        self._answered.set()

    def _require_connection(self, event: Event | None = None) -> None:
        self._forget_delivered()
        if self._over.is_set():
            held = [each for _, each in self._on_its_way] + ([] if event is None else [event])
            self._on_its_way.clear()
            raise Undelivered(f"broker {self._options.host}: {self._why}", held, again=True)

    def _wait_for_room(self, event: Event) -> None:
        self._require_connection(event)
        while len(self._on_its_way) >= _MOST_PENDING:
            self._wait_for(self._on_its_way[0][0], self.tick_s)
            self._require_connection(event)

    def _forget_delivered(self) -> None:
        while self._on_its_way and _is_delivered(self._on_its_way[0][0]):
            self._on_its_way.popleft()

    def _wait_for(self, message: "MQTTMessageInfo", most_s: float) -> None:
        try:
            message.wait_for_publish(most_s)
        except (RuntimeError, ValueError):  # not even sent: it stays among those on their way
            self._over.wait(most_s)

    def _leave(self) -> None:
        connection: Any = self._client.socket()
        if connection is not None:  # or a broker that takes no more would keep the thread for as long
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()
        self._client.on_connect = self._client.on_disconnect = None
        self._client.on_subscribe = self._client.on_message = None


def _client(options: MqttOptions) -> "Client":
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from error
    client = Client(CallbackAPIVersion.VERSION2, options.client_id or "", reconnect_on_failure=False)
    client.connect_timeout = _CONNECT_S
    client.will_set(Topics(options.prefix).available, "offline", qos=1, retain=True)
    if options.user is not None:
        client.username_pw_set(options.user, options.password)
    if options.tls:
        try:
            client.tls_set(options.ca_file, options.cert_file, options.key_file)
        except (OSError, ValueError) as error:
            raise TransferError(f"certificates for the broker {options.host} cannot be read: {error}") from error
    return client


def _is_delivered(message: "MQTTMessageInfo") -> bool:
    try:
        return message.is_published()
    except (RuntimeError, ValueError):
        return False


def open_mqtt(options: MqttOptions, name: str, context: SinkContext) -> Mqtt:
    """A sink of a daemon."""
    return Mqtt(options, context)


KIND = SinkKind("mqtt", MqttOptions, open_mqtt, check_mqtt)
