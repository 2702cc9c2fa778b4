"""A state by MQTT: a retained message, which a broker keeps, and gives to a gateway whenever that asks."""

import contextlib
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.extras import missing_package
from ecotta_rt.fleet.drop.address import Address, Unsent
from ecotta_rt.fleet.drop.tls import is_lasting, tls_context
from ecotta_rt.messages import printable

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["MOST_MESSAGE_BYTES", "board_of", "publish", "retained"]

MOST_MESSAGE_BYTES = 256 << 20
"""What MQTT can carry in one message."""

_KEEPALIVE_S = 30
_MOST_WAITING = 8
_WILD = ("+", "#")


def publish(address: Address, content: bytes) -> None:
    """Leave it with the broker under its topic, in the place of what was there, and wait until the broker has it.

    Args:
        address: Of a broker, with the topic as its path.
        content: Of the state's file.

    Raises:
        Unavailable: paho-mqtt is not installed.
        UsageError: The topic has wildcards.
        Unsent: The broker cannot be reached, does not want us, or does not take it.
    """
    if any(wild in address.path for wild in _WILD):
        raise UsageError(f"topic {address.path}: + and # are for those who read; name one topic")
    if len(content) > MOST_MESSAGE_BYTES:
        raise Unsent(f"{len(content)} bytes, more than MQTT carries in one message; use HTTP", again=False)
    with _connected(address) as (client, over):
        sent = client.publish(address.path, content, 1, retain=True)
        try:
            sent.wait_for_publish(address.timeout_s)
            delivered = sent.is_published()
        except (RuntimeError, ValueError):
            delivered = False
        if not delivered:
            lost = "the connection was lost" if over.is_set() else f"not taken within {address.timeout_s:g} s"
            raise Unsent(f"{address}: {lost}; does it allow such long messages, and this user to write?", again=True)


def retained(
    address: Address, hear: Callable[[str, bytes], None], *, quiet_s: float, most: int, most_bytes: int
) -> int:
    """Hand out the messages that a broker keeps, one after the other, until no more come.

    Args:
        address: Of a broker, with a topic as its path; + and # stand for levels of it.
        hear: Is given topic and content.
        quiet_s: Where nothing comes for so long, once the broker has said that we may read, that was all.
        most: Messages that are taken.
        most_bytes: A longer one is passed over, with no content.

    Returns:
        How many there were.

    Raises:
        Unavailable: paho-mqtt is not installed.
        Unsent: The broker cannot be reached, or does not want us.
    """
    # A message, or whether we may read. paho waits: they are not all in memory at once.
    waiting: Queue[tuple[str, bytes] | bool] = Queue(_MOST_WAITING)
    count, answered = 0, False

    def take(client: "Client", userdata: Any, message: Any) -> None:
        if message.retain:
            waiting.put((message.topic, message.payload if len(message.payload) <= most_bytes else b""))

    def note(client: "Client", userdata: Any, number: int, codes: Any, properties: Any) -> None:
        waiting.put(not any(code.is_failure for code in codes))

    with _connected(address) as (client, over):
        client.on_message, client.on_subscribe = take, note
        client.subscribe(address.path, 1)
        try:
            while count < most:
                try:  # until the broker has answered nothing can be said to have come to an end
                    found = waiting.get(timeout=quiet_s if answered else address.timeout_s)
                except Empty:
                    if answered:
                        break
                    raise Unsent(
                        f"{address} does not say within {address.timeout_s:g} s who may read", again=True
                    ) from None
                if found is False:
                    raise Unsent(f"{address}: it does not let this user read {address.path}", again=False)
                if found is True:
                    answered = True
                    continue
                count += 1
                hear(*found)
        finally:
            client.on_message = client.on_subscribe = None
            with contextlib.suppress(Empty):
                while True:
                    waiting.get_nowait()
        if over.is_set():
            raise Unsent(f"{address}: the connection was lost after {count} messages", again=True)
    return count


@contextlib.contextmanager
def _connected(address: Address) -> Iterator[tuple["Client", Flag]]:
    """A connection for the length of the block, and a flag that it is over."""
    client, answered, over = _client(address), Flag(), Flag()
    why: list[str] = []

    def note_connection(client: "Client", userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            why.append(str(code))
            over.set()
        answered.set()

    def note_end(client: "Client", userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        why.append(str(code))
        over.set()
        answered.set()

    client.on_connect, client.on_disconnect = note_connection, note_end
    try:
        client.connect(address.host, address.port, _KEEPALIVE_S)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unsent(printable(f"{address} cannot be reached: {reason}"), again=not is_lasting(error)) from error
    client.loop_start()
    try:
        if not answered.wait(address.timeout_s):
            raise Unsent(f"{address} does not answer within {address.timeout_s:g} s", again=True)
        if over.is_set():
            raise Unsent(printable(f"{address}: {why[0]}"), again="authori" not in why[0].lower())
        yield client, over
    finally:
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()


def _client(address: Address) -> "Client":
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ModuleNotFoundError as error:
        raise missing_package(error) or Unavailable(str(error)) from error
    client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
    client.connect_timeout = min(address.timeout_s, 10.0)
    if address.user is not None:
        client.username_pw_set(address.user, address.secret)
    if address.is_secure:
        client.tls_set_context(tls_context(address.ca_file, address.cert_file, address.key_file))
    return client


def board_of(topic: str, topics: str) -> str:
    """What + and # stand for in a topic, or its last level where there are none.

    >>> board_of("boards/door/state", "boards/+/state"), board_of("boards/a/b", "boards/#"), board_of("a/b", "a/b")
    ('door', 'a/b', 'b')
    """
    levels, wanted = topic.split("/"), topics.split("/")
    found = [level for level, want in zip(levels, wanted, strict=False) if want == "+"]
    found += levels[len(wanted) - 1 :] if wanted[-1] == "#" else []
    return "/".join(found) or levels[-1]
