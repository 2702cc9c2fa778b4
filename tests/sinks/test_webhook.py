"""The webhook, against a real server on this machine."""

import hashlib
import hmac
import json
import socket
from threading import Event as Flag

import pytest

from ecotta_rt.errors import UsageError
from ecotta_rt.events import BatchAnswered, SinkBack, SinkFailed, SourceBack
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Level
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.outlet import open_outlet
from ecotta_rt.sinks.sink import Undelivered
from ecotta_rt.sinks.webhook import Webhook, WebhookOptions, check_webhook
from fixtures.heard import Heard, wait_until
from fixtures.web_server import web_server


def event(number):
    return SourceBack(number, "camera")


def frames(heard):
    return [[line["frame"] for line in json.loads(body)] for _, body in heard.events]


def test_events_are_sent_in_batches_the_first_at_once_and_none_waits_for_long():
    clock = ManualClock()
    with web_server() as (url, heard):
        hook = Webhook(WebhookOptions(url=url, batch=3, batch_s=2.0), clock)
        for number in range(5):
            hook.take(event(number))
        assert (frames(heard), hook.held) == ([[0], [1, 2, 3]], 1)
        clock.advance_s(1.9)
        hook.tick()
        assert hook.held == 1
        clock.advance_s(0.1)
        hook.tick()
        hook.take(event(5))
        hook.close()
        hook.close()
        hook.take(event(6))

    assert frames(heard) == [[0], [1, 2, 3], [4], [5]]
    headers, _ = heard.events[0]
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


def test_an_event_that_gives_no_line_is_not_sent():
    hook = Webhook(WebhookOptions(url="http://127.0.0.1:1/"), ManualClock())
    hook.take(BatchAnswered(1, 0, Level.FULL, offered=False, adapted=False, why="off"))

    assert hook.held == 0


def test_a_token_and_a_signature_prove_who_sends():
    with web_server() as (url, heard):
        for header in (None, "X-Api-Key"):
            Webhook(WebhookOptions(url=url, token="t0p", token_header=header, secret="key"), ManualClock()).take(
                event(1)
            )

    (plain, body), (named, _) = heard.events
    assert plain["Authorization"] == "Bearer t0p"
    assert (named["X-Api-Key"], named.get("Authorization")) == ("t0p", None)
    assert plain["X-Ecotta-Signature"] == f"sha256={hmac.new(b'key', body, hashlib.sha256).hexdigest()}"


@pytest.mark.parametrize(("status", "again"), [(500, True), (503, True), (429, True), (400, False), (301, False)])
def test_what_a_server_refuses_for_now_is_sent_again_and_what_it_refuses_for_ever_is_lost(status, again):
    with web_server(status) as (url, _), pytest.raises(Undelivered, match=f"127.0.0.1: answered {status}") as refused:
        Webhook(WebhookOptions(url=url), ManualClock()).take(event(1))

    assert refused.value.again is again
    assert refused.value.events == (event(1),)
    assert ("https://example.org/new; name that address" in str(refused.value)) == (status == 301)


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_asked():
    free = Flag()
    with web_server(hangs=free) as (url, _):
        with pytest.raises(Undelivered, match=r"TimeoutError: timed out") as refused:
            Webhook(WebhookOptions(url=url, timeout_s=0.1), ManualClock()).take(event(1))
        free.set()

    assert refused.value.again


def test_behind_its_queue_every_event_arrives_once_though_the_server_is_out_now_and_then():
    clock, told = ManualClock(), Heard()
    with web_server(200, 503, 502) as (url, heard):
        output = open_outlet(
            "webhook", "hook", WebhookOptions(url=url, batch=2), SinkContext(told, lambda: False, clock)
        )
        for number in range(5):
            output.take(event(number))
        for tries in (2, 3):
            heard.wait_for(lambda events, count=tries: len(events) == count)
            wait_until(lambda: output.failing and output._sink is None)
            clock.advance_s(60)
            output.take(event(3 + tries))
        told.wait_for(lambda events: SinkBack("hook", 0) in events)
        output.close(30)

    answered = [
        batch for batch, status in zip(frames(heard), [200, 503, 502, *[200] * 9], strict=False) if status == 200
    ]
    assert [frame for batch in answered for frame in batch] == [0, 1, 2, 3, 4, 5, 6]
    assert len(told.of(SinkFailed)) == 1
    assert "answered 503" in told.of(SinkFailed)[0].why
    assert output.lost == 0


def test_a_server_that_is_not_there_is_told_without_what_the_address_holds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Undelivered) as refused:
        Webhook(WebhookOptions(url=f"http://127.0.0.1:{port}/services/s3cret"), ManualClock()).take(event(1))

    assert str(refused.value) == "127.0.0.1: ConnectionRefusedError: [Errno 111] Connection refused"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"url": "http://:80/x"}, "no host"),
        ({"url": "http://host:99999/"}, "no host, or a port"),
        ({"url": "http://user:pass@host/"}, "give a token instead"),
        ({"url": "http://host/", "token": "a\nX-Evil: 1"}, "printable ASCII"),
        ({"url": "https://host", "ca_file": "/no/such.pem"}, "ca_file /no/such.pem: no such file"),
    ],
)
def test_what_no_later_try_would_mend_is_said_before_the_start(options, why):
    with pytest.raises(UsageError, match=why):
        check_webhook(WebhookOptions(**options), "hook")
    check_webhook(WebhookOptions(url="https://host/x", token="t"), "hook")
