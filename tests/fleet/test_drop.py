"""A board's state on its way to a gateway: against a real web server and a real broker on this machine."""

import contextlib
import gc
import socket
import ssl
import threading

import pytest

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.fleet.drop.address import Unsent, address_of
from ecotta_rt.fleet.drop.http import put
from ecotta_rt.fleet.drop.mqtt import publish, retained
from ecotta_rt.fleet.drop.sending import send
from ecotta_rt.machine.clock import ManualClock
from fixtures.broker import Broker, listening
from fixtures.certificates import certificates, openssl
from fixtures.web_server import web_server


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "token"
    path.write_text("t0p secret\n")
    return str(path)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


def no_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_state_is_put_with_its_token(secret):
    with web_server(201) as (url, heard):
        put(address_of(url, secret_file=secret), b"state")

    ((headers, body),) = heard.events
    assert body == b"state"
    assert headers["Authorization"] == "Bearer t0p secret"
    assert headers["Content-Type"] == "application/octet-stream"


def test_only_a_server_whose_certificate_is_known_is_given_a_state(tmp_path, secret):
    ca, certificate, key = certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    with web_server(tls=context) as (url, heard):
        put(address_of(url, ca_file=str(ca), secret_file=secret), b"state")
        with pytest.raises(Unsent, match="CERTIFICATE_VERIFY_FAILED") as refused:
            put(address_of(url, secret_file=secret), b"state")

    assert len(heard.events) == 1
    assert not refused.value.again


@pytest.mark.parametrize(("status", "again"), [(500, True), (429, True), (403, False), (413, False), (301, False)])
def test_what_a_server_refuses_for_now_may_be_tried_again(status, again):
    with web_server(status) as (url, heard), pytest.raises(Unsent, match=f"answered {status}") as refused:
        put(address_of(url), b"state")

    assert refused.value.again is again
    assert ("https://example.org/new; name that address" in str(refused.value)) == (status == 301)
    assert len(heard.events) == 1  # a redirection is not followed


def test_a_server_that_is_out_is_tried_again_with_growing_waits():
    clock, said = ManualClock(), []
    with web_server(503, 502) as (url, heard):
        assert send(address_of(url), b"state", 5, clock=clock, say=said.append, draw=lambda: 0.5) == 3

    assert clock.slept_s == [0.5, 1.0]
    assert len(heard.events) == 3
    assert ["answered 503" in said[0], "answered 502" in said[1], len(said)] == [True, True, 2]


def test_what_cannot_be_sent_ends_with_what_was_tried():
    clock = ManualClock()
    address = address_of(f"http://127.0.0.1:{no_port()}/door")

    with pytest.raises(TransferError, match=r"not sent: http://127\.0\.0\.1:\d+: .*refused.* \(tried 3 times\)"):
        send(address, b"state", 3, clock=clock, say=lambda _: None, draw=lambda: 1.0)

    assert clock.slept_s == [1.0, 2.0]


def test_what_would_be_refused_again_is_tried_once():
    clock = ManualClock()
    with web_server(403) as (url, heard), pytest.raises(TransferError, match="answered 403$"):
        send(address_of(url), b"state", 5, clock=clock, say=lambda _: None)

    assert (len(heard.events), clock.slept_s) == (1, [])


def test_a_broker_keeps_the_newest_state_of_each_board(broker):
    address = f"mqtt://127.0.0.1:{broker.port}/boards"
    for board, content in (("door", b"old"), ("yard", b"\0" * 100_000), ("door", b"new"), ("gate", b"\1" * 200)):
        publish(address_of(f"{address}/{board}/state"), content)
    heard = {}

    count = retained(address_of(f"{address}/+/state"), heard.__setitem__, quiet_s=0.3, most=10, most_bytes=150)

    assert count == 3
    assert heard == {"boards/door/state": b"new", "boards/yard/state": b"", "boards/gate/state": b""}


def test_no_more_states_are_taken_than_asked(broker):
    for number in range(20):
        publish(address_of(f"mqtt://127.0.0.1:{broker.port}/boards/{number}"), b"x")
    heard = {}

    assert (
        retained(address_of(f"mqtt://127.0.0.1:{broker.port}/#"), heard.__setitem__, quiet_s=5, most=3, most_bytes=9)
        == 3
    )
    assert len(heard) == 3


def test_what_is_not_retained_is_no_state_of_a_board(broker):
    with listening(broker.port) as (client, _):
        client.publish("boards/door", b"just now", 1).wait_for_publish(10)
        heard = {}
        assert (
            retained(
                address_of(f"mqtt://127.0.0.1:{broker.port}/boards/+"),
                heard.__setitem__,
                quiet_s=0.2,
                most=3,
                most_bytes=9,
            )
            == 0
        )


def test_a_broker_wants_its_user(tmp_path, secret):
    (tmp_path / "passwords").write_text("")
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    try:
        address = address_of(f"mqtt://127.0.0.1:{broker.port}/boards/door", user="door", secret_file=secret)
        with pytest.raises(Unsent, match="[Nn]ot authori") as refused:
            publish(address, b"state")
    finally:
        broker.stop()

    assert not refused.value.again


def refusal_of(address):
    """What is said, and whether another try may help; the error itself would keep the socket."""
    try:
        publish(address, b"state")
    except Unsent as error:
        return str(error), error.again
    raise AssertionError("it was sent")


# paho leaves the socket of a handshake that failed to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_is_spoken_to_in_secret(tmp_path):
    ca, certificate, key = certificates(tmp_path)
    broker = Broker(tmp_path, f"cafile {ca}", f"certfile {certificate}", f"keyfile {key}")
    heard = {}
    try:
        address = address_of(f"mqtts://127.0.0.1:{broker.port}/boards/door", ca_file=str(ca))
        publish(address, b"state")
        retained(address, heard.__setitem__, quiet_s=0.3, most=1, most_bytes=9)
        said, again = refusal_of(address_of(f"mqtts://127.0.0.1:{broker.port}/boards/door"))
    finally:
        broker.stop()

    gc.collect()
    assert "certificate verify failed" in said.lower().replace("_", " ")
    assert not again
    assert heard == {"boards/door": b"state"}


def test_a_broker_that_is_not_there_may_come_back():
    address = address_of(f"mqtt://127.0.0.1:{no_port()}/boards/door")

    with pytest.raises(Unsent, match="cannot be reached") as refused:
        publish(address, b"state")

    assert refused.value.again


def test_one_topic_is_written(broker):
    with pytest.raises(UsageError, match="are for those who read"):
        publish(address_of(f"mqtt://127.0.0.1:{broker.port}/boards/+"), b"state")


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("ftp://host/x", {}, "expected an address like https://HOST/PATH"),
        ("https:///x", {}, "has no host"),
        ("https://host:99999/x", {}, "ort out of range"),
        ("https://a:b@host/x", {}, "holds a user or a password"),
        ("https://host/\nx", {}, "printable ASCII"),
        ("mqtt://host", {}, "expected a topic after the host"),
        ("mqtt://host/x?y", {}, "expected a topic after the host"),
        ("http://host/x", {"ca_file": "ca.pem"}, "http is not encrypted; use https"),
        ("https://host/x", {"ca_file": "nowhere.pem"}, "nowhere.pem: no such file"),
        ("https://host/x", {"cert_file": "nowhere.pem"}, "its key go together"),
        ("https://host/x", {"user": "door"}, "a user is for MQTT"),
        ("mqtt://host/x", {"secret_file": "nowhere"}, "a password without a user"),
        ("https://host/x", {"secret_file": "nowhere"}, "nowhere cannot be read"),
        ("https://host/x", {"timeout_s": 0.0}, "give 0.1 to 3600"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(url, options, said):
    with pytest.raises(UsageError, match=said) as refused:
        address_of(url, **options)

    assert "a:b" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://192.168.1.10/x", "http://gateway/x", "mqtt://[fd00::1]/x"])
def test_a_secret_leaves_this_machine_encrypted_alone(url, secret):
    user = "door" if url.startswith("mqtt") else None

    with pytest.raises(UsageError, match="is not encrypted, and all on the way"):
        address_of(url, user=user, secret_file=secret)

    for scheme, host in (("http", "localhost"), ("http", "127.0.0.2"), ("http", "[::1]"), ("https", "gateway")):
        assert address_of(f"{scheme}://{host}/x", secret_file=secret).secret == "t0p secret"
    assert address_of(url).secret is None


def test_what_is_no_certificate_or_a_key_that_asks_is_said_before_anything_is_sent(tmp_path):
    ca, certificate, key = certificates(tmp_path)
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:word", "-out", locked)
    (tmp_path / "text.pem").write_text("no certificate")

    def refused(said, **files):
        with pytest.raises(InputFileError, match=said):
            address_of("https://host/x", **{name: str(path) for name, path in files.items()})

    refused("text.pem: expected certificates to trust", ca_file=tmp_path / "text.pem")
    refused("text.pem, .*expected a certificate and its key", cert_file=tmp_path / "text.pem", key_file=key)
    refused("ca.pem, .*expected a certificate and its key", cert_file=ca, key_file=key)
    refused("locked.key: the key is encrypted", cert_file=certificate, key_file=locked)


@contextlib.contextmanager
def slow_broker(answer):
    """The address of a broker that answers a subscription late, with one code, and then gives a message."""

    def serve():
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):  # who does not wait is gone
            connection.recv(1000)  # CONNECT
            connection.sendall(b"\x20\x02\x00\x00")
            subscribe = connection.recv(1000)
            late.wait(0.3)
            connection.sendall(b"\x90\x03" + subscribe[2:4] + bytes([answer]))
            connection.sendall(b"\x31\x06\x00\x03a/bx")
            late.wait(10)

    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed: extra `mqtt`")
    late = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"mqtt://127.0.0.1:{server.getsockname()[1]}/a/+"
        finally:
            late.set()
            thread.join()


def test_a_broker_that_is_slow_to_answer_is_waited_for():
    heard = {}
    with slow_broker(0) as url:
        assert retained(address_of(url), heard.__setitem__, quiet_s=0.1, most=9, most_bytes=9) == 1
    assert heard == {"a/b": b"x"}


def test_who_may_not_read_is_told():
    with slow_broker(0x80) as url, pytest.raises(Unsent, match="does not let this user read") as refused:
        retained(address_of(url), lambda *_: None, quiet_s=0.1, most=9, most_bytes=9)
    assert not refused.value.again


def test_a_broker_that_never_answers_is_out():
    with slow_broker(0) as url, pytest.raises(Unsent, match=r"does not say within 0\.1 s") as refused:
        retained(address_of(url, timeout_s=0.1), lambda *_: None, quiet_s=9, most=9, most_bytes=9)
    assert refused.value.again


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"x" * 5000])
def test_a_secret_is_one_line(tmp_path, content):
    (tmp_path / "token").write_bytes(content)

    with pytest.raises(InputFileError, match="on one line"):
        address_of("https://host/x", secret_file=str(tmp_path / "token"))


def test_a_secret_is_not_shown(secret):
    assert "t0p" not in repr(address_of("https://host/x", secret_file=secret))
