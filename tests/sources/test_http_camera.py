"""A camera that speaks HTTP, played by a real server on this machine."""

import base64
import hashlib
import io
import itertools
import re
from threading import Event

import numpy as np
import pytest

from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.events import Refusal, SourceLost
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.sources import http_asking
from ecotta_rt.sources.http_camera import http_camera
from ecotta_rt.sources.opening import open_source
from ecotta_rt.sources.patience import unending
from fixtures.http_server import answered, http_camera_at, streamed

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: extra `pictures`")


def jpeg(level, size=(24, 16)):
    file = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


PATIENCE_S = 30  # only a test that fails waits
LEVELS = [40, 80, 120, 160]
PICTURES = [jpeg(level) for level in LEVELS]


def levels(items):
    return [round(float(item.pixels.mean()), -1) if isinstance(item, Frame) else type(item) for item in items]


def test_a_stream_shows_its_pictures_and_its_end_is_a_loss(subtests):
    for boundary, length in itertools.product(("frame", "--frame"), (True, False)):
        with (
            subtests.test(boundary=boundary, length=length),
            http_camera_at(lambda handler, b=boundary, n=length: streamed(handler, PICTURES, b, n)) as camera,
        ):
            items = list(itertools.islice(http_camera(f"{camera.url}/a", ManualClock()), 5))

            # Without a length a picture ends where the next one begins: the last one of a stream is never whole.
            assert levels(items) == [*LEVELS, SourceLost] if length else levels(items)[:4] == [*LEVELS[:3], SourceLost]
            assert items[0].pixels.shape == (16, 24, 3)


def test_one_picture_at_an_address_is_asked_for_again_and_again():
    count = itertools.count()
    clock = ManualClock()
    with http_camera_at(lambda handler: answered(handler, "image/jpeg", PICTURES[next(count)])) as camera:
        lens = http_camera(f"{camera.url}/snapshot.jpg?a=b#every=5", clock)
        items = list(itertools.islice(lens, 4))

    assert levels(items) == LEVELS
    assert [item.time_s for item in items] == [0, 5, 10, 15]
    assert {path for path, _ in camera.asked} == {"/snapshot.jpg?a=b"}


def test_a_damaged_picture_is_refused_and_the_stream_goes_on():
    damaged = [PICTURES[0][:-200], b"", b"rubbish", PICTURES[1]]
    with http_camera_at(lambda handler: streamed(handler, damaged)) as camera:
        items = list(itertools.islice(http_camera(camera.url, ManualClock()), 4))

    assert [type(item) for item in items] == [Refusal, Refusal, Refusal, Frame]
    assert "damaged: " in items[0].why


def basic(handler):
    wanted = "Basic " + base64.b64encode(b"admin:se@cret").decode()
    if handler.headers.get("Authorization") == wanted:
        streamed(handler, PICTURES)
    else:
        answered(handler, "text/plain", b"", 401, WWW_Authenticate='Basic realm="camera"')


def digest(handler):
    """RFC 7616 with MD5 and qop=auth, as most cameras have it."""

    def md5(text):
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    given = dict(re.findall(r'(\w+)="?([^",]+)"?', handler.headers.get("Authorization", "")))
    user = md5("admin:camera:se@cret")
    asked = md5(f"GET:{handler.path}")
    wanted = md5(f"{user}:n0nce:{given.get('nc')}:{given.get('cnonce')}:auth:{asked}")
    if given.get("response") == wanted:
        streamed(handler, PICTURES)
    else:
        challenge = 'Digest realm="camera", nonce="n0nce", qop="auth", algorithm=MD5'
        answered(handler, "text/plain", b"", 401, WWW_Authenticate=challenge)


@pytest.mark.parametrize("asks", [basic, digest])
def test_user_and_password_are_given_as_the_camera_asks_for_them(asks):
    with http_camera_at(asks) as camera:
        lens = http_camera(f"http://admin:se%40cret@{camera.address}/live", ManualClock())
        first = next(iter(lens))
        with pytest.raises(Unavailable, match=r"http://\*\*\*@127.*: HTTP 401 Unauthorized\. Check address") as refusal:
            list(http_camera(f"http://admin:wrong@{camera.address}/live", ManualClock()))

    assert first.name == f"http://***@{camera.address}/live"
    assert len(camera.asked) == 4, "a wrong password is sent once: there are cameras that lock users out"
    assert "wrong" not in str(refusal.value)


def moved(handler):
    answered(handler, "text/plain", b"", 302, Location="http://user:secret@elsewhere/live")


def many_headers(handler):
    handler.send_response(200)
    for number in range(200):
        handler.send_header(f"X-{number}", "x")
    handler.end_headers()


def cut_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "image/jpeg")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"zzz\r\n")


ANSWERS = {
    "its answer is text/html; expected multipart": lambda h: answered(h, "text/html", b"<html>"),
    "names no boundary": lambda h: answered(h, "multipart/x-mixed-replace", b"x"),
    "no boundary in 65536 bytes": lambda h: answered(h, "multipart/x-mixed-replace; boundary=a", bytes(1 << 20)),
    "HTTP 404 Not Found": lambda h: answered(h, "text/html", b"", 404),
    r"HTTP 302 Found, to http://\*\*\*@elsewhere/live": moved,
    "got more than 100 headers|HTTPException": many_headers,
    "BadStatusLine|invalid|line": lambda h: h.wfile.write(b"rubbish\r\n\r\n"),
    "RemoteDisconnected|closed connection": lambda h: None,
    "reading stopped half-way": cut_off,
}


@pytest.mark.parametrize("told", ANSWERS)
def test_an_answer_that_is_no_camera_is_told(told):
    with http_camera_at(ANSWERS[told]) as camera, pytest.raises(Unavailable, match=told) as refusal:
        list(http_camera(f"{camera.url}/live", ManualClock()))

    assert "secret" not in str(refusal.value)


def test_a_camera_that_says_nothing_any_more_is_a_loss(monkeypatch):
    monkeypatch.setattr(http_asking, "_TIMEOUT_S", 0.2)
    over = Event()

    def stalled(handler):
        streamed(handler, PICTURES[:1])
        over.wait(PATIENCE_S)

    with http_camera_at(stalled) as camera:
        items = iter(http_camera(camera.url, ManualClock()))
        assert isinstance(next(items), Frame)
        lost = next(items)
        items.close()
        over.set()

    assert "lost (reading stopped half-way (nothing came for 0.2 s))" in lost.why


def test_an_address_that_nobody_listens_at_is_told_without_its_password():
    """Nothing listens on port 9 of this machine."""
    with pytest.raises(Unavailable, match=r"http://\*\*\*@127.0.0.1:9/x: Connection refused") as refusal:
        list(http_camera("http://user:secret@127.0.0.1:9/x", ManualClock()))

    assert "secret" not in str(refusal.value)


def test_an_address_that_cannot_be_meant_is_a_usage_error(subtests):
    for address in (
        "http://",
        "http://h:port/x",
        "http://h/a b",
        "http://h/#every=0",
        "http://[::1/x",
        "http://h\u00fc",
    ):
        with subtests.test(address), pytest.raises(UsageError):
            open_source(address)


def test_a_camera_that_comes_back_shows_its_pictures_again():
    served = itertools.count()

    def answer(handler):
        if next(served) % 2:
            answered(handler, "text/plain", b"", 503)
        else:
            streamed(handler, PICTURES[:1])

    with http_camera_at(answer) as camera:
        lens = http_camera(camera.url, ManualClock(), unending())
        items = list(itertools.islice(lens, 6))

    assert levels(items) == 3 * [40, SourceLost]
    assert (lens.attempts, lens.losses) == (5, 3)


class Dripping:
    """An answer that says its beginning and then a little again and again, 5 seconds each by the source's clock.

    The clock stands still at 35 seconds: between one limit, 30, and the next, 60, whenever it is that the source reads.
    """

    def __init__(self, start, again):
        self.start, self.again = start, again
        self.clock = ManualClock()
        self.begun_s = self.clock.now_s()
        self.drops = 0

    def __call__(self, handler):
        handler.wfile.write(self.start)
        while self.drops < MOST_DROPS:
            handler.wfile.write(self.again)
            self.drops += 1
            if self.clock.now_s() - self.begun_s <= 30:
                self.clock.sleep_s(5)


MOST_DROPS = 100_000
MJPEG = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n"
DRIPS = {
    "headers": (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "text before the first picture": (MJPEG, b"a"),
    "a first picture": (MJPEG + b"--f\r\nContent-Length: 100000\r\n\r\n", b"a"),
    "a single picture": (b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n", b"a"),
}


@pytest.mark.parametrize("what", DRIPS)
def test_a_camera_that_sends_a_little_for_ever_is_lost(what):
    drip = Dripping(*DRIPS[what])
    with http_camera_at(drip) as camera:
        lens = http_camera(f"{camera.url}/live", drip.clock, unending())
        told = next(items := iter(lens))
        items.close()

    assert isinstance(told, SourceLost)
    assert "not there (no whole picture within 30 s of asking for it)" in told.why
    assert drip.drops < MOST_DROPS


def test_headers_have_a_limit_however_fast_they_come():
    def hurried(handler):
        for _ in range(1000):
            handler.wfile.write(1000 * b"HTTP/1.1 100 Continue\r\n\r\n")

    with http_camera_at(hurried) as camera, pytest.raises(Unavailable, match="headers of more than 262144 bytes"):
        list(http_camera(f"{camera.url}/live", ManualClock()))


def test_a_camera_that_is_closed_is_read_no_further():
    """As by a reload: else a camera that drips would leave a thread behind each time."""
    drip = Dripping(b"HTTP/1.1 200 OK\r\nX: ", b"a")
    drip.clock.sleep_s = lambda seconds: lens.close() if drip.drops == 3 else None
    with http_camera_at(drip) as camera:
        lens = http_camera(f"{camera.url}/live", drip.clock, unending())

        assert list(lens) == []

    assert drip.drops < MOST_DROPS


def test_a_stream_that_has_shown_a_picture_may_take_longer_for_the_next():
    clock, taken = ManualClock(), Event()

    def pictures():
        yield PICTURES[0]
        assert taken.wait(PATIENCE_S)
        clock.sleep_s(50)
        yield PICTURES[1]

    with http_camera_at(lambda handler: streamed(handler, pictures())) as camera:
        items = iter(http_camera(camera.url, clock))
        assert levels([next(items)]) == LEVELS[:1]
        taken.set()

        assert levels([next(items)]) == LEVELS[1:2]
        items.close()
