import os
import socket

import pytest

from ecotta_rt.daemon.systemd.notify import Notifier
from ecotta_rt.machine.clock import ManualClock


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket, with a name in a folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.setblocking(False)
        yield bound


def heard(manager):
    """All datagrams that are there."""
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def notifier(manager):
    clock = ManualClock(100.0)
    made = Notifier.of({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000000"}, clock)
    made.clock = clock
    yield made
    made.close()


def test_the_manager_hears_of_the_start_and_the_end(manager, notifier):
    notifier.ready("2 cameras")
    notifier.status(lambda: "rtsp://door:hunter2@10.0.0.7 is away\nREADY=0")
    notifier.stopping()

    ready, status, stopping = heard(manager)
    assert ready == "READY=1\nSTATUS=2 cameras"
    assert status == "STATUS=rtsp://***@10.0.0.7 is away\\nREADY=0"
    assert stopping == "STOPPING=1"


def test_how_it_is_goes_to_the_manager_when_it_has_changed_and_not_too_often(manager, notifier):
    said, asked = ["one", "one", "two"], []
    for _ in range(3):
        for _ in range(10):
            notifier.status(lambda: asked.append(said[len(asked)]) or asked[-1])
            notifier.clock.advance_s(1.0)

    assert asked == said, "every ten seconds"
    assert heard(manager) == ["STATUS=one", "STATUS=two"]


def test_where_there_is_no_manager_nobody_is_asked():
    Notifier(None).status(lambda: 1 / 0)


def test_a_reload_has_its_time_in_microseconds_of_the_machines_clock(manager, notifier):
    notifier.reloading()
    notifier.ready()

    assert heard(manager) == ["RELOADING=1\nMONOTONIC_USEC=100000000", "READY=1"]


def test_a_sign_of_life_is_sent_when_half_the_watchdogs_time_is_over(manager, notifier):
    for _ in range(50):  # turns of a work loop, a second each
        notifier.alive()
        notifier.clock.advance_s(1.0)

    assert notifier.every_s == 10.0
    assert heard(manager) == ["WATCHDOG=1"] * 5


def test_an_abstract_socket_is_one_too():
    name = f"ecotta-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(f"\0{name}")
        bound.setblocking(False)
        notifier = Notifier.of({"NOTIFY_SOCKET": f"@{name}"})
        notifier.ready()
        notifier.close()

        assert heard(bound) == ["READY=1"]


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "x"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
)
def test_no_sign_is_sent_where_nobody_watches_this_process(manager, environ):
    notifier = Notifier.of({"NOTIFY_SOCKET": manager.getsockname(), **environ})
    notifier.alive()
    notifier.close()

    assert notifier.every_s is None
    assert heard(manager) == []


@pytest.mark.parametrize("address", [None, "", "@", "vsock:2:1234", "/no/such/socket"])
def test_nothing_happens_where_there_is_no_manager(address):
    notifier = Notifier.of({"NOTIFY_SOCKET": address} if address is not None else {"WATCHDOG_USEC": "1"})
    notifier.ready("x")
    notifier.alive()
    notifier.reloading()
    notifier.stopping()
    notifier.close()
    notifier.close()
    notifier.ready("after the end")


def test_a_manager_that_does_not_read_holds_nobody_up(manager, notifier):
    notifier._socket.settimeout(0.0)
    for _ in range(1000):  # far more than the kernel keeps for a reader
        notifier.ready("x" * 400)

    assert 0 < len(heard(manager)) < 1000
