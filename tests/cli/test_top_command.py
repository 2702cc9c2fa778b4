"""`ecotta top`: a running daemon in a terminal."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.cli.main import main
from ecotta_rt.cli.top_screen import Paint, screen
from ecotta_rt.daemon.http.board import BoardFacts
from ecotta_rt.daemon.http.camera_tally import BoardCamera
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.daemon.http.web import Web
from ecotta_rt.events import (
    AdaptingSet,
    DoubtBegan,
    Drift,
    GuardStep,
    Signs,
    SinkFailed,
    SourceLost,
    StateNotSaved,
    StateSaved,
)
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Level
from fixtures.boards import Days, answer

TOKEN = "a-long-enough-token"


def day() -> Days:
    days = Days(
        BoardCamera("front-door"),
        BoardCamera("yard"),
        read=lambda: Vitals(pss_bytes=98 * 2**20, available_bytes=210 * 2**20, temperature_c=57.0),
    )
    days.board.describe(BoardFacts("net.ecotta", "ab" * 32, 10, 200 * 2**20, 0.6))
    for frame in range(40):
        days.take(answer(frame, entropy=0.1 + 0.01 * frame), "front-door")
        days.clock.advance_s(0.5)
    days.take(Signs(39, 40, 0.3, 0.5, 0.2, expected_error=0.12), "front-door")
    days.take(Drift(39, 3.1), "front-door")
    days.take(SourceLost(0, "yard", "no route to host"), "yard")
    days.board.beat()
    return days


@pytest.fixture
def web():
    with closing(Web(HttpOptions(enabled=True, port=0, page=True), day().board)) as web:
        yield web


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("ECOTTA_TOKEN", raising=False)


def test_once_prints_what_there_is_and_ends(web, capsys):
    assert main(["top", "--url", web.address, "--once"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ecotta  net.ecotta  up 20 s") and lines[0].endswith("a camera is away")
    assert "98 MiB of 200 MiB   free 210 MiB   57 C" in lines[1]
    front_door = next(line for line in lines if line.startswith("front-door"))
    assert front_door.split()[:8] == ["front-door", "live", "2.0", "20", "0.40", "100", "%", "12"]
    assert front_door.endswith("cat 90 %")
    assert any(re.fullmatch(r"! yard: away for 0 s, no route to host", line) for line in lines)
    assert any("drift" in line and "front-door: a new scene" in line for line in lines)
    assert "\x1b" not in "".join(lines)


def test_a_program_gets_everything_but_what_is_for_the_page_alone(web, capsys):
    assert main(["top", "--url", web.address, "--json"]) == 0

    status = json.loads(capsys.readouterr().out)
    assert status["cameras"][0]["name"] == "front-door" and "csrf" not in status


def test_the_configuration_says_where_and_with_which_token(tmp_path, capsys):
    with closing(Web(HttpOptions(enabled=True, host="0.0.0.0", port=0, token=TOKEN), day().board)) as web:
        port = web.address.rstrip("/").rpartition(":")[2]
        config = tmp_path / "door.toml"
        text = 'config_version = 1\n[network]\nbundle = "no.ecotta"\n[[camera]]\nname = "a"\nsource = "/dev/video0"\n'
        config.write_text(f'{text}[http]\nenabled = true\nhost = "0.0.0.0"\nport = {port}\ntoken = "{TOKEN}"\n')

        assert main(["top", str(config), "--once"]) == 0
        assert "front-door" in capsys.readouterr().out

        config.write_text(text)
        assert main(["top", str(config), "--once"]) == 78
        assert "this daemon cannot be asked; write [http] with enabled = true" in capsys.readouterr().err


def test_secrets_of_others_are_not_needed_and_the_token_comes_from_the_file_beside(tmp_path, capsys):
    with closing(Web(HttpOptions(enabled=True, port=0, token=TOKEN), day().board)) as web:
        port = web.address.rstrip("/").rpartition(":")[2]
        config = tmp_path / "door.toml"
        config.write_text(
            'config_version = 1\n[network]\nbundle = "no.ecotta"\n[[camera]]\nname = "a"\n'
            'source = "rtsp://${CAMERA_USER}@10.0.0.7/live"\n[[sink]]\nkind = "webhook"\nurl = "${HOOK}"\n'
            f'[http]\nenabled = true\nport = {port}\ntoken = "${{ECOTTA_TOKEN}}"\n'
        )

        assert main(["top", str(config), "--once"]) == 2
        assert "use sudo or set ECOTTA_TOKEN (there is no environment variable" in capsys.readouterr().err

        config.with_suffix(".env").write_text(f"ECOTTA_TOKEN='{TOKEN}'\n")
        assert main(["top", str(config), "--once"]) == 0


def test_a_token_is_asked_for_and_taken_from_the_environment(monkeypatch, capsys):
    with closing(Web(HttpOptions(enabled=True, port=0, token=TOKEN), day().board)) as web:
        assert main(["top", "--url", web.address, "--once"]) == 2
        assert "give the configuration of the daemon, or set ECOTTA_TOKEN" in capsys.readouterr().err

        monkeypatch.setenv("ECOTTA_TOKEN", f"{TOKEN}-not")
        assert main(["top", "--url", web.address, "--once"]) == 2
        told = capsys.readouterr().err
        assert "the token is not this daemon's" in told and TOKEN not in told

        monkeypatch.setenv("ECOTTA_TOKEN", TOKEN)
        assert main(["top", "--url", web.address, "--once"]) == 0


def test_where_nobody_answers_it_says_what_to_look_for(web, capsys):
    web.close()

    assert main(["top", "--url", web.address, "--once"]) == 69
    assert "Connection refused; is the daemon running, and has its configuration [http]" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8642", "http://", "http://a:b@c", "http://h:99999"])
def test_an_address_that_cannot_be_meant_is_refused(url, capsys):
    assert main(["top", "--url", url, "--once"]) == 2
    assert f"--url {url.replace('a:b@', '***@')}" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"schema": 99}', b"[" * 5000])
def test_somebody_else_who_answers_is_no_daemon_of_ours(content, capsys):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        code = main(["top", "--url", f"http://127.0.0.1:{server.server_port}", "--once"])
        thread.join()

    assert code == 69 and "no daemon of this version" in capsys.readouterr().err


# What is drawn


def plain(line: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", line)


@given(st.integers(20, 200), st.integers(3, 60), st.booleans(), st.booleans(), st.text(max_size=30))
def test_whatever_the_window_no_line_is_wider_and_none_too_many(width, height, colours, blocks, trouble):
    lines = screen(STATUS, width, height, Paint(colours, blocks), trouble)

    assert len(lines) <= height
    assert [line for line in lines if len(plain(line)) > width] == []


def test_a_strangers_names_cannot_speak_to_the_terminal():
    text = "\n".join(screen(STATUS, 200, 60, Paint(colours=True)))

    assert "\\x1b[2J" in text
    assert re.sub(r"\x1b\[(0|1|2|31|32|33)m|\n", "", text).isprintable()


def hostile_day() -> Days:
    bad = "\x1b[2J\u202eevil"
    days = Days(BoardCamera(bad), BoardCamera("a camera with a name that is as long as names may be at the most"))
    days.board.describe(BoardFacts(bad))
    days.take(answer(), bad)
    days.take(DoubtBegan(0, bad), bad)
    days.take(AdaptingSet(0, False), bad)
    days.take(StateNotSaved(bad, bad), bad)
    days.take(SinkFailed(bad, bad), None)
    days.take(GuardStep(0, Level.FULL, Level.DROP, "available"), None)
    return days


STATUS = hostile_day().board.snapshot()


def test_a_state_that_cannot_be_saved_is_said_while_that_lasts():
    days = day()
    days.take(StateNotSaved("/s/yard", "the disk is full"), "yard")
    line = "! yard: what it learns is not saved, the disk is full"
    assert line in screen(days.board.snapshot(), 100, 20, Paint())

    days.take(StateSaved("/s/yard/1.safetensors"), "yard")

    assert line not in screen(days.board.snapshot(), 100, 20, Paint())


def test_a_daemon_that_stands_still_or_does_with_less_says_so_first():
    days = day()
    days.take(GuardStep(0, Level.FULL, Level.STATISTICS, "limit"), None)
    assert screen(days.board.snapshot(), 100, 20, Paint())[0].endswith("does with less: statistics")

    days.clock.advance_s(120.0)

    assert screen(days.board.snapshot(), 100, 20, Paint())[0].endswith("stands still for 2 min")


# In a real terminal


class Terminal:
    """`ecotta top` behind a pseudo-terminal."""

    def __init__(self, *args: str) -> None:
        self.us, them = pty.openpty()
        self.before = termios.tcgetattr(them)
        self.them = them
        self.resize(100, 20, tell=False)
        code = "import sys; from ecotta_rt.cli.main import main; sys.exit(main(sys.argv[1:]))"
        environ = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "top", *args], stdin=them, stdout=them, stderr=them, env=environ
        )
        self.seen = ""

    def resize(self, columns: int, lines: int, tell: bool = True) -> None:
        fcntl.ioctl(self.us, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(28)  # SIGWINCH: the kernel tells a session's foreground group alone

    def wait_for(self, text: str) -> str:
        """All that was drawn up to there."""
        for _ in range(50):
            if text in self.seen:
                break
            assert select.select([self.us], [], [], 20)[0], f"{text!r} never came:\n{self.seen}"
            self.seen += os.read(self.us, 1 << 16).decode()
        assert text in self.seen
        drawn, self.seen = self.seen, ""
        return drawn

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.us)
        os.close(self.them)


def test_in_a_terminal_it_draws_follows_the_window_and_leaves_all_as_it_was(web):
    with closing(Terminal("--url", web.address)) as terminal:
        drawn = terminal.wait_for("cat 90 %")
        assert "\x1b[?1049h" in drawn and "a camera is away" in drawn

        terminal.wait_for("\x1b[J")

        terminal.resize(44, 20)
        narrow = terminal.wait_for("\x1b[J")
        widths = [len(plain(line)) for line in re.sub(r"\x1b\[[\dKHJ]*[KHJ]", "", narrow).split("\r\n")]
        assert max(widths) <= 44

        terminal.resize(100, 20)
        web.close()
        terminal.wait_for("does not answer")
        terminal.wait_for("Connection refused")
        os.write(terminal.us, b"q")
        assert terminal.process.wait(20) == 0
        terminal.wait_for("\x1b[?1049l")
        assert termios.tcgetattr(terminal.them) == terminal.before
