"""A daemon that really runs, asked and commanded over HTTP."""

import http.client
import json
import socket
from contextlib import closing

from ecotta_rt.daemon.configuration.config import Config
from ecotta_rt.daemon.configuration.tables import CameraOptions, LogOptions, NetworkOptions, StateOptions
from ecotta_rt.daemon.daemon import Daemon
from ecotta_rt.daemon.http.http_options import HttpOptions
from ecotta_rt.daemon.log import Log
from ecotta_rt.events import AdaptingSet, Answer, StateReturned

TOKEN = "a-long-enough-token"
BEARER = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Visitor:
    """Asks the daemon while it runs, by what it answers."""

    def __init__(self, port: int) -> None:
        self.port, self.daemon, self.heard = port, None, []
        self.found = {}

    def take(self, stamped) -> None:
        self.heard.append(stamped.event)
        if not isinstance(stamped.event, Answer) or not self.daemon:
            return
        count = sum(isinstance(event, Answer) for event in self.heard)
        if count == 3:
            for target in ("/healthz", "/metrics", "/picture.png?camera=door"):
                self.found[target] = self.ask(target)
            self.found["off"] = self.ask("/adapting", "POST", {"camera": "door", "on": False})
            self.found["reset"] = self.ask("/reset", "POST", {"camera": "door"})
        elif count > 5 and any(isinstance(event, StateReturned) for event in self.heard):
            self.found["later"] = self.ask("/status.json")
            self.found["picture"] = self.ask("/picture.png?camera=door")
            self.daemon.stop()

    def ask(self, target: str, method: str = "GET", fields: object = None) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, target, None if fields is None else json.dumps(fields), BEARER)
            reply = connection.getresponse()
            return reply.status, reply.read()


def test_a_daemon_is_asked_and_commanded_over_http(tiny, tmp_path):
    port = free_port()
    visitor = Visitor(port)
    config = Config(
        NetworkOptions(str(tiny.bundle("running"))),
        (CameraOptions("door", "synthetic:door?fps=20", top=2),),
        StateOptions(str(tmp_path / "state")),
        http=HttpOptions(enabled=True, port=port, token=TOKEN, page=True),
    )
    visitor.daemon = Daemon(config, [visitor], log=Log(LogOptions(level="error")))

    visitor.daemon.run()

    found = visitor.found
    assert found["/healthz"][0] == 200 and json.loads(found["/healthz"][1])["cameras"]["door"]["state"] == "live"
    assert b'ecotta_frames_total{camera="door"} 3\n' in found["/metrics"][1]
    assert found["/picture.png?camera=door"][0] == 204  # nobody had looked before
    assert (found["off"][0], found["reset"][0]) == (202, 202)
    assert [event.adapting for event in visitor.heard if isinstance(event, AdaptingSet)] == [False]
    camera = json.loads(found["later"][1])["cameras"][0]
    assert camera["counts"]["resets"] == 1 and camera["adapting"] is False and len(camera["answer"]["top"]) == 2
    assert found["picture"][1].startswith(b"\x89PNG")
    with socket.socket() as one:  # the door is closed with the daemon
        assert one.connect_ex(("127.0.0.1", port)) != 0
