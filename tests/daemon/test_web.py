"""The door over HTTP with real sockets: limits, and what a crowd or a miser can do."""

import http.client
import json
import os
import socket
import threading
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest

from ecotta_rt.daemon.http.camera_tally import BoardCamera
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.daemon.http.web import Web
from ecotta_rt.errors import ConfigurationError, Unavailable
from ecotta_rt.machine.clock import ManualClock
from fixtures.boards import Days, answer


@pytest.fixture(scope="module")
def days():
    return Days(BoardCamera("door"))


@pytest.fixture(scope="module")
def clock():
    return ManualClock()


@pytest.fixture(scope="module")
def web(days, clock):
    with closing(Web(HttpOptions(enabled=True, port=0, page=True), days.board, clock=clock)) as web:
        yield web


def place(web: Web) -> tuple[str, int]:
    parts = urlsplit(web.address)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def get(web: Web, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection(*place(web), timeout=20)) as connection:
        connection.request(method, target, headers={key.replace("_", "-"): value for key, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()


def send(web: Web, data: bytes) -> bytes:
    """What comes back for bytes that are sent as they are."""
    with socket.create_connection(place(web), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_what_is_asked_is_answered(web, days):
    days.take(answer())

    status, headers, body = get(web, "/status.json")

    assert status == 200 and json.loads(body)["cameras"][0]["answer"]["label"] == "cat"
    assert headers["Server"] == "ecotta" and headers["X-Content-Type-Options"] == "nosniff"
    assert get(web, "/healthz", "HEAD")[::2] == (200, b"")


def test_the_page_is_part_of_the_package(web):
    status, headers, body = get(web, "/")

    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"http://" not in body.replace(b"http://www.w3.org/", b"") and b"https://" not in body


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n",
        b"POST /reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /reset HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /<script> HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_never_said_back(web, data, capfd):
    reply = send(web, data)

    assert reply.split()[1][:1] == b"4" or reply.split()[1] == b"505" or reply.split()[1] == b"501"
    assert b"nosniff" in reply and b"<script>" not in reply
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("head", [b"X: y\r\n" * 2000, b"X: " + b"y" * 30_000, b"X: " + b"y" * 200_000])
def test_a_request_that_is_too_long_is_read_to_a_limit_and_no_further(web, head, capfd):
    with socket.create_connection(place(web), timeout=20) as connection, suppress(ConnectionError):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + head)
        assert b" 200 " not in connection.recv(100)
    assert get(web, "/healthz")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_those_who_send_little_and_slowly_keep_nobody_out(web):
    """Slowloris: many connections, each with a request that never ends."""
    misers = []
    for _ in range(40):
        miser = socket.create_connection(place(web), timeout=20)
        miser.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        misers.append(miser)

    assert [get(web, "/healthz")[0] for _ in range(5)] == [200] * 5
    assert len([thread for thread in threading.enumerate() if "process_request" in thread.name]) <= 16
    assert misers[0].recv(100) == b""  # the oldest made room
    for miser in misers:
        miser.close()


def test_a_connection_has_some_seconds_in_all(web, clock):
    with socket.create_connection(place(web), timeout=20) as miser:
        miser.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert get(web, "/healthz")[0] == 200  # its thread has begun
        clock.advance_s(11.0)
        assert miser.recv(100) == b""


def test_a_crowd_that_asks_makes_the_loop_lose_no_event(web, days):
    """Events are taken while many ask: the longest wait is far below the time of a step."""
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            get(web, "/status.json")

    crowd = [threading.Thread(target=ask) for _ in range(8)]
    for one in crowd:
        one.start()
    before = days.camera()["counts"]["frames"]
    for frame in range(3000):
        days.take(answer(frame))
    done.set()
    for one in crowd:
        one.join()

    assert days.camera()["counts"]["frames"] - before == 3000


def test_a_port_that_is_taken_is_told_with_the_option(web, days):
    with pytest.raises(Unavailable, match=r"cannot be had: .*http.port names another port"):
        Web(HttpOptions(enabled=True, port=place(web)[1]), days.board)


def test_no_door_is_open_to_others_without_a_token(days):
    with pytest.raises(ConfigurationError, match="http.host"):
        Web(HttpOptions(enabled=True, host="0.0.0.0", port=0), days.board)


def test_nothing_is_left_when_it_is_closed(days):
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(3):
        web = Web(HttpOptions(enabled=True, port=0), days.board)
        miser = socket.create_connection(place(web), timeout=20)
        get(web, "/healthz")
        web.close()
        web.close()
        miser.close()

    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_it_speaks_ipv6_where_there_is_one(days):
    try:
        web = Web(HttpOptions(enabled=True, host="::1", port=0), days.board)
    except Unavailable:
        pytest.skip("no IPv6 here")
    with closing(web):
        assert get(web, "/healthz")[0] == 200
