"""Alerts through apprise, in a process of its own."""

import io
import json
import sys

import pytest

from ecotta_rt.errors import TransferError, Unavailable, UsageError
from ecotta_rt.events import Alert, BatchAnswered, SinkFailed, Stamped
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Level
from ecotta_rt.sinks import apprise_sink
from ecotta_rt.sinks.apprise_sink import AppriseOptions, AppriseSink, ask_apprise, check_apprise, open_apprise
from ecotta_rt.sinks.context import SinkContext
from fixtures.web_server import web_server

ALERT = Stamped(Alert("visitor", "cat\x1b[2J seen (0.93)"), 1795915425.678, 1.0, "door")
OPTIONS = AppriseOptions(urls=("json://localhost/",))


def program(code):
    return (sys.executable, "-I", "-c", code)


def test_an_alert_reaches_a_service_by_the_real_apprise():
    pytest.importorskip("apprise")
    with web_server() as (url, heard):
        address = url.replace("http", "json").partition("?")[0]
        sink = AppriseSink(AppriseOptions(urls=(address,), title="at home"))
        sink.take(ALERT)
        sink.close()
        sink.take(ALERT)

    ((_, body),) = heard.events
    message = json.loads(body)
    assert message["title"] == "at home"
    assert message["message"] == r"door, visitor: cat\x1b[2J seen (0.93) (2026-11-29T01:23:45.678Z)"


def test_other_events_are_told_by_their_fields_and_some_not_at_all(tmp_path):
    path = tmp_path / "message"
    sink = AppriseSink(OPTIONS, program(f"import sys; open({str(path)!r}, 'w').write(sys.stdin.read())"))
    sink.take(BatchAnswered(1, 0, Level.FULL, offered=False, adapted=False, why="off"))
    assert not path.exists()
    sink.take(SinkFailed("mqtt", "the broker is out"))

    message = json.loads(path.read_text())
    assert message["body"] == "sink-failed: event: sink-failed, sink: mqtt, why: the broker is out"
    assert message["urls"] == ["json://localhost/"]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; sys.exit('log\\nmailto://me:pw@host refused')", r"not sent: mailto://\*\*\*@host refused"),
        ("raise SystemExit(3)", "not sent: exit code 3"),
    ],
)
def test_a_message_that_is_not_sent_is_told_without_passwords(code, why):
    with pytest.raises(TransferError, match=why):
        AppriseSink(OPTIONS, program(code)).take(ALERT)


def test_a_service_that_hangs_is_ended_and_a_missing_program_is_told():
    slow = AppriseOptions(urls=("json://localhost/",), timeout_s=0.1)

    with pytest.raises(TransferError, match=r"not sent within 0.1 s"):
        AppriseSink(slow, program("import time; time.sleep(60)")).take(ALERT)
    with pytest.raises(TransferError, match="no process for a message: No such file"):
        AppriseSink(OPTIONS, ("/no/such/program",)).take(ALERT)


def test_addresses_that_apprise_does_not_know_are_told_by_number(monkeypatch, capsys):
    apprise = pytest.importorskip("apprise")
    added = []
    monkeypatch.setattr(apprise.Apprise, "add", lambda self, url: added.append(url) or False)
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"urls": ["a://", "b://"], "title": "t", "body": "b"}'))

    assert apprise_sink.main() == 1
    assert added == ["a://", "b://"]
    assert "apprise does not know address 1 and 2 of urls" in capsys.readouterr().err


def test_what_no_later_try_would_mend_is_said_before_the_start(monkeypatch):
    with pytest.raises(UsageError, match="address 2 of urls is none"):
        check_apprise(AppriseOptions(urls=("json://x", "me")), "alerts")
    monkeypatch.setattr(apprise_sink, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"apprise is not installed; .*\[alerts\]"):
        check_apprise(OPTIONS, "alerts")


def test_the_real_apprise_is_asked_for_addresses_and_nothing_is_sent():
    pytest.importorskip("apprise")
    with web_server() as (url, heard):
        address = url.replace("http", "json").partition("?")[0]
        ask_apprise(AppriseOptions(urls=(address,)), "alerts")
        with pytest.raises(UsageError, match="output alerts: apprise does not know address 2 of urls"):
            ask_apprise(AppriseOptions(urls=(address, "nonsense://me:hunter2@x/y")), "alerts")

    assert heard.events == []


def test_at_the_start_an_unknown_address_is_told_once_and_the_others_are_served(monkeypatch):
    monkeypatch.setattr(apprise_sink, "_ASKED", set())
    monkeypatch.setattr(
        apprise_sink, "_PROGRAM", program("import sys; print('no address 1', file=sys.stderr); sys.exit(3)")
    )
    told = []
    context = SinkContext(told.append, bool, ManualClock())

    assert [type(open_apprise(OPTIONS, "alerts", context)) for _ in range(2)] == [AppriseSink, AppriseSink]
    (failed,) = told
    assert (failed.sink, "no address 1" in failed.why) == ("alerts", True)


def test_an_apprise_that_cannot_be_asked_is_no_fault_of_the_address(monkeypatch):
    monkeypatch.setattr(apprise_sink, "_PROGRAM", program("raise SystemExit(1)"))
    ask_apprise(OPTIONS, "alerts")
    monkeypatch.setattr(apprise_sink, "_PROGRAM", ("/no/such/program",))
    ask_apprise(OPTIONS, "alerts")
