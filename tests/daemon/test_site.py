"""Who may ask what over HTTP, and what a browser is allowed to do with it; without sockets."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.daemon.http.access import CSRF_HEADER, Access
from ecotta_rt.daemon.http.board import BoardFacts
from ecotta_rt.daemon.http.camera_tally import BoardCamera
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.daemon.http.pictures import Pictures
from ecotta_rt.daemon.http.site import Reply, Request, Site
from ecotta_rt.errors import UsageError
from fixtures.boards import Days, answer

TOKEN = "a-long-enough-token"
HOST = "127.0.0.1:8642"


class Wishes:
    """A control that writes down what it is asked for."""

    cameras = ("door",)

    def __init__(self) -> None:
        self.asked: list[tuple] = []

    def adapting(self, camera: str) -> bool:
        return True

    def set_adapting(self, camera: str, on: bool) -> None:
        self._known(camera)
        self.asked.append(("adapting", camera, on))

    def reset(self, camera: str) -> None:
        self._known(camera)
        self.asked.append(("reset", camera))

    def _known(self, camera: str) -> None:
        if camera not in self.cameras:
            raise UsageError(f"no camera {camera}")


class Door:
    """A site, and those who ask there."""

    def __init__(self, token: str | None = None, page: bool = True, names: tuple[str, ...] = ()) -> None:
        self.days, self.wishes = Days(BoardCamera("door")), Wishes()
        self.pictures = Pictures(self.days.clock)
        options = HttpOptions(enabled=True, token=token, page=page, names=names)
        self.access = Access(options, 8642)
        self.site = Site(options, self.days.board, self.access, self.wishes, self.pictures)

    def ask(self, target: str, method: str = "GET", fields: object = None, **headers: str) -> Reply:
        sent = {"Host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
        body = b"" if fields is None else json.dumps(fields).encode()
        return self.site.answer(Request(method, target, sent, body))

    def change(self, target: str, fields: object, **headers: str) -> Reply:
        """As the live page does it, but for `headers`."""
        sent = {"Content_Type": "application/json", "Origin": f"http://{HOST}", "X_Ecotta_Token": self.access.csrf}
        return self.ask(target, "POST", fields, **{**sent, **headers})


def fields_of(reply: Reply) -> dict:
    return json.loads(reply.body)


def test_health_is_200_or_503_and_says_why():
    door = Door()
    door.days.board.beat()
    assert door.ask("/healthz").status == 200
    assert door.ask("/healthz?camera=attic").status == 503
    door.days.clock.advance_s(90.0)

    reply = door.ask("/healthz")

    assert reply.status == 503
    assert fields_of(reply)["why"][0] == "the work loop has not moved for 90 s, more than 60 s"


def test_it_is_ready_after_the_first_answer():
    door = Door()
    assert door.ask("/readyz").status == 503
    door.days.board.describe(BoardFacts("net"))
    door.days.take(answer())

    assert door.ask("/readyz").status == 200


def test_metrics_say_what_they_are():
    reply = Door().ask("/metrics")

    assert reply.kind == "text/plain; version=0.0.4; charset=utf-8" and b"ecotta_frames_total" in reply.body


def test_the_status_has_only_what_is_new_where_that_is_asked_for():
    door = Door()
    door.days.take(answer())
    everything = fields_of(door.ask("/status.json"))
    assert len(everything["cameras"][0]["points"]) == 1

    later = fields_of(door.ask(f"/status.json?since={everything['monotonic_s'] + 10}&after=5"))

    assert later["cameras"][0]["points"] == [] and later["events"] == []
    assert later["instance"] == everything["instance"] != fields_of(Door().ask("/status.json"))["instance"]
    assert door.ask("/status.json?since=now").status == 400


def test_the_page_has_a_nonce_of_its_own_each_time_and_no_secret():
    door = Door(TOKEN)

    first, second = door.ask("/"), door.ask("/")

    policy = first.headers["Content-Security-Policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert len(nonce) > 20 and f'nonce="{nonce}"'.encode() in first.body and b"{{nonce}}" not in first.body
    assert nonce not in second.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert TOKEN.encode() not in first.body and door.access.csrf.encode() not in first.body


def test_where_the_page_is_off_there_is_no_page_no_picture_and_no_switch():
    door = Door(page=False)

    assert door.ask("/").kind.startswith("text/plain")
    assert door.ask("/picture.png?camera=door").status == 404
    assert door.change("/reset", {"camera": "door"}).status == 404
    assert "csrf" not in fields_of(door.ask("/status.json"))
    assert not door.wishes.asked


def test_a_picture_is_of_a_camera_there_is():
    door = Door()
    assert door.ask("/picture.png?camera=attic").status == 404
    assert door.ask("/picture.png?camera=door").status == 204
    door.pictures.offer("door", np.zeros((2, 2, 3), np.uint8))

    reply = door.ask("/picture.png?camera=door")

    assert reply.kind == "image/png" and reply.body.startswith(b"\x89PNG")


# Names: a stranger's name that is bound to our address must not reach us through his page


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8642", "localhost:8642", "localhost", "[::1]:8642", "192.168.1.7", "cam.localhost", "Door.Example.org"],
)
def test_our_names_and_addresses_are_ours(host):
    assert Door(names=("door.example.org",)).ask("/readyz", Host=host).status == 503


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8642", "", "[", "evil.example@127.0.0.1x"])
def test_under_any_other_name_nothing_is_answered(host):
    reply = Door().ask("/status.json", Host=host)

    assert reply.status == 421 and b"http.names" in reply.body


# The token


@pytest.mark.parametrize("target", ["/status.json", "/metrics", "/picture.png?camera=door"])
def test_with_a_token_strangers_get_nothing(target):
    door = Door(TOKEN)

    assert door.ask(target).status == 401
    wrong = door.ask(target, Authorization="Bearer wrong-wrong-wrong")
    assert wrong.status == 401 and b"the token is not this daemon's" in wrong.body
    assert door.ask(target, Authorization=f"Basic {TOKEN}").status == 401
    assert door.ask(target, Cookie="ecotta_8642=wrong").status == 401
    assert door.ask(target, Authorization=f"Bearer {TOKEN}").status in (200, 204)


def test_a_health_check_without_the_token_hears_yes_or_no():
    door = Door(TOKEN)

    assert fields_of(door.ask("/healthz")) == {"healthy": True}
    assert fields_of(door.ask("/readyz")) == {"ready": False}
    assert "cameras" in fields_of(door.ask("/healthz", Authorization=f"Bearer {TOKEN}"))


def test_a_browser_logs_in_and_has_a_cookie_that_does_not_tell_the_token():
    door = Door(TOKEN)
    assert door.change("/login", {"token": "wrong"}).status == 401
    assert door.change("/login", {"token": 3}).status == 401
    assert door.change("/login", {"token": TOKEN}, Origin="http://evil.example").status == 403

    cookie = door.change("/login", {"token": TOKEN}).headers["Set-Cookie"]

    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and TOKEN not in cookie
    assert door.ask("/status.json", Cookie=cookie.partition(";")[0]).status == 200
    assert Door("another-long-token").ask("/status.json", Cookie=cookie.partition(";")[0]).status == 401


def test_a_link_with_the_token_logs_in_and_leaves_the_address_bar():
    door = Door(TOKEN)

    right, wrong = door.ask(f"/?token={TOKEN}"), door.ask("/?token=wrong")

    assert (right.status, right.headers["Location"]) == (303, "/") and "Set-Cookie" in right.headers
    assert wrong.status == 303 and "Set-Cookie" not in wrong.headers


def test_without_a_token_there_is_nothing_to_log_in_to():
    assert Door().change("/login", {"token": ""}).status == 401
    assert "Set-Cookie" not in Door().ask("/?token=").headers


# Changes


def test_the_page_may_switch_and_reset():
    door = Door()

    assert door.change("/adapting", {"camera": "door", "on": False}).status == 202
    assert door.change("/reset", {"camera": "door"}).status == 202

    assert door.wishes.asked == [("adapting", "door", False), ("reset", "door")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"X_Ecotta_Token": "guessed"}, 403),
        ({"X_Ecotta_Token": ""}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_what_does_not_come_from_our_page_changes_nothing(headers, status):
    door = Door()

    assert door.change("/reset", {"camera": "door"}, **headers).status == status
    assert not door.wishes.asked


def test_a_cookie_alone_changes_nothing_and_a_token_in_the_header_does():
    door = Door(TOKEN)
    cookie = door.access.cookie().partition(";")[0]
    plain = {"Content_Type": "application/json"}

    assert door.ask("/reset", "POST", {"camera": "door"}, Cookie=cookie, **plain).status == 403
    assert door.ask("/reset", "POST", {"camera": "door"}, **plain).status == 401
    assert not door.wishes.asked
    assert door.ask("/reset", "POST", {"camera": "door"}, Authorization=f"Bearer {TOKEN}", **plain).status == 202
    assert door.change("/reset", {"camera": "door"}, Cookie=cookie).status == 202


@pytest.mark.parametrize("fields", [None, [], {}, {"camera": 3, "on": True}, {"camera": "door", "on": 1}])
def test_nonsense_is_refused(fields):
    door = Door()

    assert door.change("/adapting", fields).status == 400
    assert not door.wishes.asked


def test_a_camera_that_is_not_there_is_named():
    reply = Door().change("/reset", {"camera": "attic"})

    assert reply.status == 404 and fields_of(reply)["error"] == "no camera attic"


def test_what_is_not_there_is_not_found_and_the_wrong_method_is_told():
    assert Door().ask("/etc/passwd").status == 404
    assert Door().ask("/reset").headers["Allow"] == "POST"
    assert Door().ask("/metrics", "POST").status == 405
    assert Door().ask("/healthz", "HEAD").status == 200


# Whatever is sent

TARGETS = ("/", "/healthz", "/status.json", "/picture.png", "/adapting", "/reset", "/login", "/metrics")


@given(
    st.sampled_from(("GET", "POST", "HEAD", "PUT", "")),
    st.one_of(st.text(), st.tuples(st.sampled_from(TARGETS), st.text()).map("?".join)),
    st.dictionaries(
        st.sampled_from(("Host", "Origin", "Cookie", "Authorization", "Content-Type", "Sec-Fetch-Site", CSRF_HEADER)),
        st.one_of(st.text(), st.sampled_from((HOST, "application/json", f"http://{HOST}"))),
    ),
    st.one_of(st.binary(), st.just(b"[" * 4096), st.just(b'{"camera": "door", "on": true}')),
)
def test_any_request_has_a_safe_reply_and_changes_nothing(method, target, headers, body):
    door = Door(TOKEN)

    reply = door.site.answer(Request(method, target, {"Host": HOST, **headers}, body))

    assert 200 <= reply.status < 600 and not door.wishes.asked
    assert reply.headers["X-Content-Type-Options"] == "nosniff" and reply.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
    assert not {name.lower() for name in reply.headers} & {"access-control-allow-origin"}
    assert reply.status != 200 or target.partition("?")[0] in ("/", "/healthz", "/readyz")
