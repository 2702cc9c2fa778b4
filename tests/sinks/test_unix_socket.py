"""The Unix socket: whoever connects gets whole lines, and nobody holds up the others."""

import json
import os
import socket
import stat

import pytest

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.events import EventsDropped, SourceBack
from ecotta_rt.machine.clock import SystemClock
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.unix_socket import UnixSocket, UnixSocketOptions, check_socket
from fixtures.heard import Heard


@pytest.fixture
def told():
    return Heard()


@pytest.fixture
def serve(tmp_path, told):
    """Makes a server; closed at the end."""
    made = []

    def make(**more):
        options = UnixSocketOptions(path=str(tmp_path / "events"), **more)
        made.append(UnixSocket(options, "events", SinkContext(told, lambda: False, SystemClock())))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def connect(tmp_path):
    """Makes a client; closed at the end."""
    made = []

    def make():
        made.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        made[-1].settimeout(30)
        made[-1].connect(str(tmp_path / "events"))
        return made[-1]

    yield make
    for client in made:
        client.close()


def event(number, name="camera"):
    return SourceBack(number, name)


def lines(client):
    """All until the other end closes."""
    data = b""
    while piece := client.recv(1 << 16):
        data += piece
    return [json.loads(line) for line in data.splitlines()]


def test_each_client_gets_the_lines_from_when_it_has_connected(serve, connect, tmp_path):
    server = serve()
    server.take(event(0))
    first = connect()
    server.take(event(1))
    second = connect()
    server.take(event(2))
    server.close()
    server.take(event(3))

    assert [line["frame"] for line in lines(first)] == [1, 2]
    assert [line["frame"] for line in lines(second)] == [2]
    assert not (tmp_path / "events").exists()


def test_a_client_that_reads_nothing_is_disconnected_and_told_and_the_others_get_all(serve, connect, told):
    server = serve(client_kib=64)
    slow, quick = connect(), connect()
    count = 0
    quick.setblocking(False)
    received = b""
    while not told.events:
        server.take(event(count, "x" * 10_000))
        count += 1
        assert count < 1000
        received += quick.recv(1 << 20)
    server.close()

    (drop,) = told.events
    assert isinstance(drop, EventsDropped) and "too slow" in drop.sink and 0 < drop.count < count
    assert received.count(b"\n") == count
    assert slow.recv(10)


def test_clients_that_have_gone_make_room_and_too_many_are_turned_away(serve, connect):
    server = serve(clients=1)
    first = connect()
    server.tick()
    turned_away = connect()
    server.tick()
    assert turned_away.recv(1) == b""
    first.close()
    server.tick()
    second = connect()
    server.take(event(1))
    second.shutdown(socket.SHUT_WR)  # it says no more, and still reads
    server.take(event(2))
    server.close()

    assert [line["frame"] for line in lines(second)] == [1, 2]


def test_the_socket_has_the_mode_asked_for(serve, tmp_path):
    serve(mode="600")

    assert stat.S_IMODE(os.stat(tmp_path / "events").st_mode) == 0o600


def test_what_a_killed_process_has_left_is_replaced_and_what_serves_is_not(serve, connect, tmp_path):
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / "events"))
    left.close()
    server = serve()
    with pytest.raises(TransferError, match="another process serves it"):
        serve()
    client = connect()
    server.take(event(1))
    server.close()

    assert len(lines(client)) == 1


def test_a_file_of_that_name_is_left_alone(serve, tmp_path):
    (tmp_path / "events").write_text("mine")

    with pytest.raises(TransferError, match="there is a regular file of this name"):
        serve()
    assert (tmp_path / "events").read_text() == "mine"


def test_a_socket_that_took_our_place_is_not_removed(serve, tmp_path):
    server = serve()
    (tmp_path / "events").unlink()
    (tmp_path / "events").write_text("another's")
    server.close()

    assert (tmp_path / "events").exists()


def test_what_no_later_try_would_mend_is_said_before_the_start(tmp_path):
    check_socket(UnixSocketOptions(path=str(tmp_path / "events")), "events")
    with pytest.raises(UsageError, match="more than 107 bytes"):
        check_socket(UnixSocketOptions(path="/" + "x" * 107), "events")
    with pytest.raises(UsageError, match="there is no folder"):
        check_socket(UnixSocketOptions(path=str(tmp_path / "no" / "events")), "events")
