"""MQTT against a real broker: last will, discovery, commands, a broker that goes and comes back or hangs."""

import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ecotta_rt.errors import TransferError, Unavailable, UsageError
from ecotta_rt.events import (
    AdaptingSet,
    Answer,
    DoubtBegan,
    Reloaded,
    SinkBack,
    SinkFailed,
    SourceLost,
    Stamped,
)
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sinks import mqtt, mqtt_options
from ecotta_rt.sinks.camera_states import CameraStates
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.mqtt_options import MqttOptions, check_mqtt
from ecotta_rt.sinks.outlet import open_outlet
from ecotta_rt.sinks.sink import Undelivered
from fixtures.broker import Broker, listening
from fixtures.heard import Heard, wait_until

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed: extra `mqtt`")


class Owner:
    """Notes what is asked of it."""

    def __init__(self, *cameras):
        self.cameras = cameras
        self.off = set()
        self.asked, self.said = Heard(), []

    def adapting(self, camera):
        return camera not in self.off

    def set_adapting(self, camera, on):
        self.asked((camera, on))

    def reset(self, camera):
        if camera == "yard":
            raise UsageError("gone")
        self.asked((camera, "reset"))


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def owner():
    return Owner("door")


@pytest.fixture
def cameras():
    return CameraStates()


@pytest.fixture
def connect(broker, owner, cameras):
    """Connects to the broker; all connections are closed at the end, and before them `cameras` hears of all events."""
    made = []

    def make(**more):
        options = MqttOptions(host="127.0.0.1", port=broker.port, **more)
        context = SinkContext(Heard(), lambda: False, ManualClock(), (), owner, cameras, say=owner.said.append)
        sink = mqtt.open_mqtt(options, "mqtt", context)
        take = sink.take
        sink.take = lambda event: (cameras.take(event), take(event))
        made.append(sink)
        return sink

    yield make
    for sink in made:
        with contextlib.suppress(Undelivered):
            sink.close()


def stamped(event, camera="door", now_s=0.0):
    return Stamped(event, 1795915425.678 + now_s, now_s, camera)


def answer(label="cat", frame=0):
    return Answer(frame, "a.png", label, 1, 0.75, 0.5, True, "adapted", 12.5, 2)


def contents(heard, topic):
    return [content for where, content, _ in heard.events if where == topic]


def states(heard, camera="door"):
    return [json.loads(content) for content in contents(heard, f"ecotta/{camera}/state") if content]


def test_answers_events_and_state_have_topics_of_their_own(connect, broker):
    with listening(broker.port) as (_, heard):
        sink = connect()
        sink.take(stamped(answer()))
        sink.take(stamped(SourceLost(1, "camera", "unplugged")))
        sink.take(stamped(DoubtBegan(1, "entropy")))
        sink.take(stamped(Reloaded(("cameras",)), None))
        heard.wait_for(lambda events: contents(heard, "ecotta/event"))
        sink.close()
        heard.wait_for(lambda events: contents(heard, "ecotta/available")[-1:] == ["offline"])

    (said,) = map(json.loads, contents(heard, "ecotta/door/answer"))
    assert (said["time"], said["camera"], said["label"]) == ("2026-11-29T01:23:45.678Z", "door", "cat")
    assert [json.loads(each)["event"] for each in contents(heard, "ecotta/door/event")] == ["camera-lost", "doubt"]
    assert json.loads(contents(heard, "ecotta/event")[0])["event"] == "reloaded"
    assert states(heard)[0] == {"available": True, "adapting": True, "doubt": False}
    assert states(heard)[-1] == {"available": False, "adapting": True, "doubt": True}
    assert contents(heard, "ecotta/available")[0] == "online"


def test_who_connects_later_knows_what_there_is(connect, broker, owner):
    sink = connect()
    owner.off.add("door")
    sink.take(stamped(AdaptingSet(0, adapting=False)))
    wait_until(lambda: sink.tick() or not sink.held)
    with listening(broker.port) as (_, heard):
        heard.wait_for(lambda events: len(states(heard)) == 1 and contents(heard, "ecotta/available"))

    assert states(heard)[0]["adapting"] is False
    assert contents(heard, "ecotta/available") == ["online"]
    assert {retained for topic, _, retained in heard.events} == {True}


KILLED = """
import sys
from ecotta_rt.machine.clock import SystemClock
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.mqtt import open_mqtt
from ecotta_rt.sinks.mqtt_options import MqttOptions
sink = open_mqtt(MqttOptions(host="127.0.0.1", port=int(sys.argv[1])), "mqtt", SinkContext(print, bool, SystemClock()))
sys.stdin.read()
"""


def test_a_killed_daemon_leaves_its_last_will(broker):
    with listening(broker.port, "ecotta/available") as (_, heard):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(broker.port)], stdin=subprocess.PIPE)
        heard.wait_for(lambda events: events and events[-1][1] == "online")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        heard.wait_for(lambda events: events[-1][1] == "offline")


def test_home_assistant_is_told_of_each_camera_also_when_it_was_started_anew(connect, broker):
    with listening(broker.port, "homeassistant/#") as (client, heard):
        sink = connect()
        heard.wait_for(lambda events: len(events) == 6)  # so it has subscribed
        client.publish("homeassistant/status", "online")
        heard.wait_for(lambda events: len(events) == 7)
        wait_until(sink._stale.is_set)
        sink.tick()
        heard.wait_for(lambda events: len(events) == 13)

    told = {topic: json.loads(content) for topic, content, _ in heard.events if topic.endswith("config")}
    assert {topic.split("/")[1] for topic in told} == {"sensor", "binary_sensor", "switch", "button"}
    assert {topic.split("/")[2] for topic in told} == {"ecotta_door"}
    assert len({content["unique_id"] for content in told.values()}) == len(told) == 6
    assert {content["availability_topic"] for content in told.values()} == {"ecotta/available"}
    switch = told["homeassistant/switch/ecotta_door/adapting/config"]
    assert (switch["command_topic"], switch["state_topic"]) == ("ecotta/door/adapt/set", "ecotta/door/state")


def test_a_camera_that_was_taken_out_leaves_nothing_behind(connect, broker, owner):
    sink = connect()
    owner.cameras = ("yard",)
    sink.take(stamped(Reloaded(("cameras",)), None))
    sink.take(stamped(SourceLost(1, "door", "removed")))
    sink.close()
    with listening(broker.port) as (_, heard):
        heard.wait_for(lambda events: states(heard, "yard"))

    assert not [topic for topic, _, _ in heard.events if "door" in topic]


def test_a_camera_that_was_taken_out_while_nobody_was_here_leaves_nothing_behind(connect, broker, owner):
    owner.cameras = ("door", "front/yard")
    connect().close()
    owner.cameras = ("door",)
    sink = connect()
    wait_until(sink._stale.is_set)
    sink.tick()
    sink.close()
    with listening(broker.port) as (_, heard):
        heard.wait_for(lambda events: states(heard))

    assert not [topic for topic, _, _ in heard.events if "yard" in topic]
    assert len([topic for topic, _, _ in heard.events if topic.startswith("homeassistant/")]) == 6


def test_what_another_daemon_of_the_same_prefix_has_taken_away_is_said_again(connect, broker, owner):
    sink = connect()
    with listening(broker.port, "ecotta/door/state") as (client, heard):
        heard.wait_for(lambda events: states(heard))
        client.publish("ecotta/door/state", "", 1, retain=True)
        wait_until(sink._stale.is_set)
        sink.tick()
        heard.wait_for(lambda events: len(states(heard)) == 2)


def test_a_camera_that_is_lost_and_in_doubt_is_so_after_the_broker_was_away(connect, broker, cameras):
    sink = connect()
    sink.take(stamped(SourceLost(1, "camera", "unplugged")))
    broker.stop()
    cameras.take(stamped(DoubtBegan(1, "entropy")))  # whether or not it was asked for, or waits yet
    broker.start()
    connect()
    with listening(broker.port, "ecotta/door/state") as (_, heard):
        heard.wait_for(lambda events: states(heard))

    assert states(heard) == [{"available": False, "adapting": True, "doubt": True}]


def test_a_broker_that_forbids_to_hear_commands_is_told_and_without_them_all_goes_on(tmp_path, owner):
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("mosquitto has no plugin for dynamic security")
    allowed = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"defaultACLAccess": allowed, "clients": [], "groups": [], "roles": []}))
    rules.chmod(0o600)
    broker = Broker(tmp_path, f"plugin {plugin}", f"plugin_opt_config_file {rules}")
    context = SinkContext(Heard(), lambda: False, ManualClock(), (), owner)
    options = MqttOptions(host="127.0.0.1", port=broker.port)
    try:
        sink = mqtt.open_mqtt(options, "mqtt", context)
        wait_until(sink._over.is_set)
        with pytest.raises(Undelivered, match=r"does not let this user subscribe to commands; .* commands = false"):
            sink.take(stamped(answer()))
        sink.close()
        sink = mqtt.open_mqtt(replace(options, commands=False), "mqtt", context)
        sink.take(stamped(answer()))
        sink.close()
        assert sink.held == 0
    finally:
        broker.stop()


def test_commands_reach_the_owner_and_what_makes_no_sense_or_is_old_does_not(connect, broker, owner):
    owner.cameras = ("door", "yard")
    with listening(broker.port, "ecotta/available") as (client, heard):
        connect()
        heard.wait_for(lambda events: len(events) == 1)  # so it has subscribed
        client.publish("ecotta/door/reset", "PRESS", 1, retain=True)
        owner.asked.wait_for(lambda events: events == [("door", "reset")])
        connect()  # gets the retained one
        heard.wait_for(lambda events: len(events) == 2)
        for topic, content in [
            ("ecotta/door/adapt/set", "maybe"),
            ("ecotta/cellar/adapt/set", "OFF"),
            ("ecotta/yard/reset", ""),
            ("ecotta/door/adapt/set", b"\xff\0" * 1000),
            ("ecotta/door/adapt/set", "off"),
            ("ecotta/yard/adapt/set", "ON"),
        ]:
            client.publish(topic, content, 1)
        owner.asked.wait_for(lambda events: len(events) >= 5)

    said = "warning: mqtt: ecotta/door/adapt/set: expected ON or OFF, found 'maybe'; left alone"
    assert owner.said == [said] * 2, "by each connection, and not at once again"
    orders = owner.asked.events[1:]
    assert sorted(orders) == sorted([("door", False), ("yard", True)] * 2), "once of each connection"


def test_commands_can_be_left_out(connect, broker, owner):
    with listening(broker.port, "ecotta/available") as (client, heard):
        connect(commands=False)
        connect()
        heard.wait_for(lambda events: len(events) == 2)
        client.publish("ecotta/door/adapt/set", "ON", 1)
        owner.asked.wait_for(lambda events: events)

    assert owner.asked.events == [("door", True)]


def test_what_the_owner_has_switched_shows_though_its_event_is_not_asked_for(connect, broker, owner):
    sink = connect()
    with listening(broker.port, "ecotta/door/state") as (_, heard):
        owner.off.add("door")
        sink.tick()
        heard.wait_for(lambda events: states(heard) and not states(heard)[-1]["adapting"])


def test_answers_are_thinned_while_the_class_stays_and_another_class_comes_at_once(connect, broker):
    sink = connect(answers_per_s=2.0)
    with listening(broker.port, "ecotta/door/answer") as (_, heard):
        for frame in range(20):
            sink.take(stamped(answer("dog" if frame == 7 else "cat", frame), now_s=frame * 0.1))
        sink.take(stamped(answer("last", 99), now_s=2.0))
        heard.wait_for(lambda events: events and json.loads(events[-1][1])["label"] == "last")

    assert [json.loads(content)["frame"] for _, content, _ in heard.events] == [0, 5, 7, 8, 13, 18, 99]


@pytest.mark.parametrize(
    "camera", ["a/b", "#", "+", "$SYS", "line\nbreak", 'quo"te', "\x1b[2J", "caf\udce9", "x" * 300]
)
def test_a_hostile_camera_breaks_no_topic(connect, broker, owner, camera):
    owner.cameras = (camera,)
    with listening(broker.port) as (_, heard):
        sink = connect()
        sink.take(stamped(answer('"}\n{"'), camera))
        heard.wait_for(lambda events: [topic for topic, _, _ in events if topic.endswith("/answer")])

    for topic, content, _ in heard.events:
        parts = topic.split("/")
        assert topic.isascii() and topic.isprintable() and not {"#", "+"} & {*topic}
        assert len(parts) in (2, 3, 5)
        if content not in ("online", "offline"):
            json.loads(content)


def test_a_broker_that_goes_and_comes_back_gets_all_that_it_missed(broker, owner):
    clock, told = ManualClock(), Heard()
    context = SinkContext(told, lambda: False, clock, (), owner)
    options = MqttOptions(host="127.0.0.1", port=broker.port, answers_per_s=0)
    output = open_outlet("mqtt", "mqtt", options, context)
    with listening(broker.port, "ecotta/door/answer") as (_, heard):
        output.take(stamped(answer(frame=0)))
        heard.wait_for(lambda events: events)
    broker.stop()
    told.wait_for(lambda events: events)
    for frame in range(1, 7):
        output.take(stamped(answer(frame=frame)))
    broker.start()

    def come_back():
        clock.advance_s(60)
        output.reopen()

    with listening(broker.port) as (_, heard):
        wait_until(lambda: told.of(SinkBack) or come_back())
        output.close(30)
        heard.wait_for(lambda events: contents(heard, "ecotta/available")[-1:] == ["offline"])

    frames = [json.loads(each)["frame"] for each in contents(heard, "ecotta/door/answer")]
    assert frames in ([1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]), "what was not confirmed comes twice"
    assert contents(heard, "ecotta/available") == ["online", "offline"]
    assert len([topic for topic, _, _ in heard.events if topic.startswith("homeassistant/")]) == 6, "discovery too"
    failed, back = told.events
    assert isinstance(failed, SinkFailed) and "connection lost" in failed.why
    assert back == SinkBack("mqtt", 0)


def test_a_broker_that_takes_no_more_holds_up_its_own_output_only_and_what_it_has_not_confirmed_is_told(
    connect, broker
):
    sink = connect(answers_per_s=0)
    broker.freeze()
    try:
        for frame in range(10):
            sink.take(stamped(answer(frame=frame)))
        assert sink.held == 10
        with pytest.raises(Undelivered, match="did not confirm all") as refused:
            sink.close()
    finally:
        broker.thaw()

    assert len(refused.value.events) == 10
    assert not refused.value.again


def test_connections_that_end_or_fail_leave_neither_threads_nor_descriptors(broker, owner):
    context = SinkContext(Heard(), lambda: False, ManualClock(), (), owner)
    options = MqttOptions(host="127.0.0.1", port=broker.port)
    mqtt.open_mqtt(options, "mqtt", context).close()
    gc.collect()  # what other tests have left
    threads, open_files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        mqtt.open_mqtt(options, "mqtt", context).close()
    broker.stop()
    for _ in range(10):
        with pytest.raises(TransferError, match=r"cannot be reached: Connection refused"):
            mqtt.open_mqtt(options, "mqtt", context)

    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= open_files - 1, "less the broker's own"


def test_a_wrong_password_and_a_missing_certificate_are_told(tmp_path, owner):
    broker = Broker(tmp_path, "allow_anonymous false")
    context = SinkContext(Heard(), lambda: False, ManualClock(), (), owner)
    try:
        with pytest.raises(TransferError, match=rf"127.0.0.1:{broker.port}: Not authorized"):
            mqtt.open_mqtt(MqttOptions(host="127.0.0.1", port=broker.port, user="me", password="pw"), "mqtt", context)
        with pytest.raises(TransferError, match="certificates for the broker 127.0.0.1 cannot be read"):
            mqtt.open_mqtt(MqttOptions(host="127.0.0.1", tls=True, ca_file="/no/such.pem"), "mqtt", context)
    finally:
        broker.stop()


# Where the handshake fails paho leaves the socket to be closed by the collector, and that warns.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
def test_over_tls_with_user_and_password_a_broker_is_reached_and_a_stranger_is_not_trusted(tmp_path, owner):
    if shutil.which("openssl") is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs openssl and mosquitto_passwd")
    own = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "ca.pem"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    new_key = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*new_key, *own, *subject], check=True, capture_output=True)
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "users", "me", "pw"], check=True, capture_output=True)
    files = [f"certfile {tmp_path}/ca.pem", f"keyfile {tmp_path}/key.pem", f"password_file {tmp_path}/users"]
    broker = Broker(tmp_path, "allow_anonymous false", *files)
    context = SinkContext(Heard(), lambda: False, ManualClock(), (), owner)
    options = MqttOptions(host="127.0.0.1", port=broker.port, user="me", password="pw", tls=True, client_id="door-pi")
    try:
        sink = mqtt.open_mqtt(replace(options, ca_file=str(tmp_path / "ca.pem")), "mqtt", context)
        sink.take(stamped(answer()))
        sink.close()
        assert sink.held == 0
        with pytest.raises(TransferError, match="cannot be reached: .*certificate"):
            mqtt.open_mqtt(options, "mqtt", context)
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"password": "pw"}, "a password without a user"),
        ({"ca_file": "ca.pem"}, "certificates without tls"),
        ({"tls": True, "cert_file": "c.pem"}, "go together"),
        ({"tls": True, "ca_file": "/no/such.pem"}, "ca_file /no/such.pem: no such file, or none that may be read"),
        ({"host": "mqtt://127.0.0.1"}, "expected a host, found 'mqtt://127.0.0.1'; write it alone"),
        ({"host": "127.0.0.1:1883"}, "port and tls are fields of their own"),
        ({"host": "mqtt://me:hunter2@h"}, r"found 'mqtt://\*\*\*@h'"),
        ({"host": ""}, "expected a host"),
    ],
)
def test_what_no_later_try_would_mend_is_said_before_the_start(options, why, monkeypatch):
    check_mqtt(MqttOptions(host="h"), "mqtt")
    with pytest.raises(UsageError, match=why):
        check_mqtt(MqttOptions(**{"host": "h"} | options), "mqtt")
    monkeypatch.setattr(mqtt_options, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"paho is not installed; .*\[mqtt\]"):
        check_mqtt(MqttOptions(host="h"), "mqtt")


@pytest.mark.parametrize("host", ["192.168.1.10", "broker.local", "my_broker", "::1", "fe80::1%eth0"])
def test_a_host_is_a_name_or_an_address(host):
    check_mqtt(MqttOptions(host=host), "mqtt")
