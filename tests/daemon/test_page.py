"""The live page in a real browser."""

import json
from contextlib import closing
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest

from ecotta_rt.daemon.http.board import BoardFacts
from ecotta_rt.daemon.http.camera_tally import BoardCamera
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.daemon.http.pictures import Pictures
from ecotta_rt.daemon.http.web import Web
from ecotta_rt.events import (
    AdaptingSet,
    Answer,
    Drift,
    SinkFailed,
    SourceLost,
    StateNotSaved,
    StateReturned,
    StateSaved,
    StreamEnded,
)
from ecotta_rt.machine.vitals import Vitals
from fixtures.boards import Days
from fixtures.chromium import CHROMIUM, Chromium

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

HOSTILE = '<img src=x onerror="window.broken=1">'
WORSE = "</script><script>window.broken=1</script>"
TOKEN = "a-long-enough-token"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with closing(Chromium(tmp_path_factory.mktemp("profile"))) as browser:
        yield browser


class Home:
    """Two cameras that live, a door, and an owner whose wishes are written down and told."""

    def __init__(self, *names: str, token: str | None = None, port: int = 0, label: str = "horse") -> None:
        self.asked: list[tuple] = []
        self.cameras = names or ("door", "yard")
        self.days = Days(
            *[BoardCamera(name) for name in self.cameras],
            read=lambda: Vitals(pss_bytes=98 * 2**20, available_bytes=210 * 2**20, temperature_c=57.0),
        )
        self.days.board.describe(BoardFacts("net.ecotta", "ab" * 32, 10, 200 * 2**20, 0.92))
        for frame in range(40):
            for camera in self.cameras:
                self.days.take(_answer(frame, label), camera)
            self.days.clock.advance_s(1.0)
        self.days.board.beat()
        self.pictures = Pictures(self.days.clock)
        self.pictures.png(self.cameras[0])
        self.pictures.offer(self.cameras[0], np.full((32, 32, 3), 90, np.uint8))
        options = HttpOptions(enabled=True, port=port, token=token, page=True)
        self.web = Web(options, self.days.board, self, self.pictures)

    def adapting(self, camera: str) -> bool:
        return True

    def set_adapting(self, camera: str, on: bool) -> None:
        self.asked.append((camera, on))
        self.days.take(AdaptingSet(39, on), camera)

    def reset(self, camera: str) -> None:
        self.asked.append((camera, "reset"))
        self.days.take(StateReturned(39, "source", "asked for"), camera)


def _answer(frame: int, label: str) -> Answer:
    both = {"unfiltered_label": "deer", "unfiltered_probability": 0.5}
    both |= {"filtered_label": label, "filtered_probability": 0.9}
    entropy = 0.5 + 0.01 * frame
    return Answer(
        frame, "f", label, 7, 0.9, entropy, True, "adapted", 40.0, 2, top=((label, 0.9), ("deer", 0.1)), **both
    )


@pytest.fixture
def home():
    home = Home()
    with closing(home.web):
        yield home


def shown(condition: str) -> str:
    return f"!document.querySelector('#all').hidden && ({condition})"


def text(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).textContent"


def test_it_shows_what_the_board_knows_and_asks_nobody_else(browser, home):
    home.days.take(Drift(39, 3.1), "door")
    page = browser.open(home.web.address)

    page.wait_for(shown("!document.querySelector('#picture').hidden"))

    assert page.text("#label") == "horse" and page.text("#sure") == "90 %"
    assert page.text("#pill") == "live"
    assert "net.ecotta" in page.text("#about")
    both = "Filtered by the frames around ithorse, 90 %The network alonedeer, 50 %Entropy0.89 nats"
    assert page.text("#both") == both
    assert page.text("#memory") == "98 MiB of 200 MiB"
    assert page.js("document.querySelector('#memory-bar').getAttribute('aria-valuenow')") == "49"
    assert "drift" in page.text("#events") and "3.1 times the usual distance" in page.text("#events")
    charts = page.js("[...document.querySelectorAll('.plot svg')].map((one) => one.getAttribute('aria-label'))")
    assert charts[0] == "Entropy: now 0.89 nats, mean 0.70 nats over 60 s"
    assert page.js("document.querySelectorAll('.plot .line').length") == 3
    assert page.js("document.querySelector('#picture').className") == "coarse"
    own = urlsplit(home.web.address).netloc
    assert {urlsplit(url.removeprefix("blob:")).netloc for url in page.requested() if url[:5] != "data:"} == {own}
    assert page.complaints() == []


def test_films_that_have_ended_are_said_to_have_ended(browser):
    home = Home("film")
    with closing(home.web):
        home.days.take(StreamEnded(0), "film")
        page = browser.open(home.web.address)

        page.wait_for(shown(f"{text('#camera')}.endsWith(', ended')"))
        assert page.text("#pill") == "ended"
        page.js("document.querySelector('#top li span:last-child').textContent = '100.0 %'")
        heights = "[...document.querySelectorAll('#top li span:last-child')].map((one) => one.clientHeight)"
        assert len(set(page.js(heights))) == 1, "no figure takes two lines"


def test_a_state_that_cannot_be_saved_stands_on_top_while_that_lasts(browser, home):
    home.days.take(StateNotSaved("/s/door", "the disk is full"), "door")
    page = browser.open(home.web.address)
    page.wait_for(shown("document.querySelector('#notes .bad')"))
    assert page.text("#notes") == "door: what it learns is not saved. the disk is full"

    home.days.take(StateSaved("/s/door/1.safetensors"), "door")

    page.wait_for(shown("document.querySelector('#notes .bad') === null"))


def test_a_hostile_name_is_shown_and_does_nothing(browser):
    home = Home(HOSTILE, WORSE, label=HOSTILE)
    with closing(home.web):
        home.days.board.describe(BoardFacts(WORSE, gate_nats=0.9))
        home.days.take(SourceLost(1, WORSE, HOSTILE), WORSE)
        home.days.take(SinkFailed(HOSTILE, WORSE), None)
        page = browser.open(home.web.address)

        page.wait_for(shown("document.querySelectorAll('#events li').length == 2"))

        assert page.text("#label") == HOSTILE and WORSE in page.text("#about")
        assert page.text("#cameras") == f"Camera{HOSTILE}live{WORSE}lost"
        assert HOSTILE in page.text("#events") and WORSE in page.text("#notes")
        assert page.js("window.broken") is None
        assert page.js("document.querySelectorAll('img, script').length") == 2  # those of the page itself
        # What textContent lets through by mistake some day, the policy does not run.
        page.js(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(HOSTILE)})")
        page.js(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.broken=2'}))"
        )
        page.wait_for("document.querySelector('img[src=x]').complete")
        assert page.js("window.broken") is None
        assert any("Content Security Policy" in complaint for complaint in page.complaints())


def test_the_switch_works_with_the_keyboard_and_the_reset_asks_again(browser, home):
    page = browser.open(home.web.address)
    page.wait_for(shown(f"{text('#label')} == 'horse'"))

    page.js("document.querySelector('#adapting').focus()")
    page.press(" ", 32)
    page.wait_for(f"{text('#adapting-says')} == 'held as it is' && {text('#events')}.includes('adaptation is off')")
    assert home.asked == [("door", False)]

    page.js("document.querySelector('#reset').click()")
    assert page.text("#reset-title") == "Begin anew at door?"
    assert page.js("document.activeElement.id") == "keep"
    page.js("document.querySelector('#keep').click()")
    assert not page.js("document.querySelector('#sure-reset').open")
    assert home.asked == [("door", False)]

    page.js("document.querySelectorAll('#cameras input')[1].click()")
    page.js("document.querySelector('#reset').click()")
    page.js("document.querySelector('#forget').click()")
    page.wait_for(f"{text('#events')}.includes('back to source')")
    assert home.asked == [("door", False), ("yard", "reset")]
    assert page.complaints() == []


def test_it_asks_for_the_token_and_lets_in_who_has_it(browser):
    home = Home(token=TOKEN)
    with closing(home.web):
        page = browser.open(home.web.address)
        page.wait_for("!document.querySelector('#door').hidden")
        assert page.js("document.querySelector('#all').hidden")
        log_in = "document.querySelector('#token').value = '{}'; document.querySelector('#login button').click()"

        page.js(log_in.format("a-wrong-token"))
        page.wait_for(f"{text('#wrong')} == 'this is not the token'")
        page.js(log_in.format(TOKEN))

        page.wait_for(shown(f"{text('#label')} == 'horse'"))
        assert page.js("document.cookie") == ""  # no script reads it
        assert page.js("document.querySelector('#token').value") == ""


def test_it_goes_on_when_the_daemon_was_started_anew(browser):
    home = Home()
    page = browser.open(home.web.address)
    page.wait_for(shown(f"{text('#label')} == 'horse'"))
    home.web.close()
    page.wait_for(f"{text('#pill')} == 'does not answer, trying again'")

    other = Home(port=urlsplit(home.web.address).port or 0, label="ship")
    with closing(other.web):
        page.wait_for(shown(f"{text('#label')} == 'ship' && {text('#pill')} == 'live'"))
        page.js("document.querySelector('#adapting').click()")
        page.wait_for(f"{text('#done')}.startsWith('Switched off')")

    assert other.asked == [("door", False)]


def test_it_fits_a_phone_and_follows_the_colours_of_the_system(browser, home):
    page = browser.open(home.web.address, width=360, height=740)
    page.wait_for(shown(f"{text('#label')} == 'horse'"))
    colour = "getComputedStyle(document.body).backgroundColor"

    light = page.js(colour)
    page.paint(dark=True)

    assert page.js("document.documentElement.scrollWidth") <= 360
    assert light != page.js(colour)


def test_all_that_can_be_used_has_a_name_for_those_who_do_not_see_it(browser, home):
    page = browser.open(home.web.address)
    page.wait_for(shown("!document.querySelector('#picture').hidden"))

    tree = page.call("Accessibility.getFullAXTree")["nodes"]

    used = [SimpleNamespace(role=node["role"]["value"], name=node["name"]["value"]) for node in tree if "name" in node]
    named = {(node.role, node.name) for node in used}
    assert {("switch", "Adaptation of door"), ("button", "Begin anew…"), ("radio", "door live")} <= named
    assert {("image", "The newest picture of door"), ("meter", "Memory")} <= named
    asking = ("button", "switch", "radio", "textbox", "image", "meter", "group", "list")
    assert [node.role for node in used if node.role in asking and not node.name and node.role != "list"] == []
