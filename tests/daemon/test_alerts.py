"""Rules within a daemon: what gives rise to an alert is told first, and then the alert, to everybody."""

import pytest

from ecotta_rt.daemon.alerts import Alerts
from ecotta_rt.daemon.outbox import Outbox
from ecotta_rt.events import Alert, SourceBack, SourceLost, StreamEnded
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sinks.alert_rules import AlertRule

AWAY = AlertRule(name="away", when="lost", for_s=60)
LOST, BACK = SourceLost(3, "rtsp://10.0.0.7", "gone"), SourceBack(4, "rtsp://10.0.0.7", 90.0)


class Heard(list):
    def take(self, stamped):
        self.append(stamped)


@pytest.fixture
def clock():
    return ManualClock(1000.0)


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def outbox(clock, heard):
    return Outbox(clock, lambda: clock.now_s() + 1e9)


@pytest.fixture
def alerts(outbox, clock, heard):
    alerts = Alerts(outbox, clock)
    alerts.follow([AWAY])
    outbox.hand_to([heard, alerts])
    return alerts


def test_an_alert_follows_what_gave_rise_to_it_and_has_its_time(alerts, outbox, heard):
    alerts.follow([AlertRule(name="away", when="lost")])
    outbox.tell(LOST, "door", at_s=998.0)

    lost, alert = heard
    assert (lost.event, alert.event) == (LOST, Alert("away", "no frames: gone"))
    assert (alert.camera, alert.monotonic_s, alert.time_s) == ("door", 998.0, 1e9 + 998.0)


def test_nobody_waits_for_a_camera_that_was_taken_out(alerts, outbox, clock, heard):
    outbox.tell(LOST, "door")
    outbox.tell(StreamEnded(0, "taken out of the configuration"), "door")
    clock.advance_s(61)
    alerts.tick()

    assert not [one for one in heard if isinstance(one.event, Alert)]


def test_what_lasts_is_told_when_it_has_lasted(alerts, outbox, clock, heard):
    outbox.tell(LOST, "door")
    clock.advance_s(59)
    alerts.tick()
    assert [one.event for one in heard] == [LOST]

    clock.advance_s(1)
    alerts.tick()
    outbox.tell(BACK, "door")

    assert [one.event for one in heard[1:]] == [
        Alert("away", "no frames: gone"),
        BACK,
        Alert("away", "frames again after 60 s", over=True),
    ]


def test_rules_that_are_read_again_and_are_the_same_forget_nothing(alerts, outbox, clock, heard):
    outbox.tell(LOST, "door")
    clock.advance_s(60)
    alerts.follow([AlertRule(name="away", when="lost", for_s=60)])
    alerts.tick()

    assert heard[-1].event == Alert("away", "no frames: gone")


def test_without_rules_nothing_is_said(alerts, outbox, clock, heard):
    alerts.follow([])
    outbox.tell(LOST, "door")
    clock.advance_s(100)
    alerts.tick()

    assert [one.event for one in heard] == [LOST]
