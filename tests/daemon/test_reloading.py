"""A configuration that is read again while cameras run."""

from dataclasses import replace
from threading import Event

import pytest

from ecotta_rt.daemon.camera_thread import CameraThread
from ecotta_rt.daemon.configuration.config import Config, Output
from ecotta_rt.daemon.configuration.tables import CameraOptions, LogOptions, NetworkOptions, SignsOptions, StateOptions
from ecotta_rt.daemon.daemon import Daemon
from ecotta_rt.daemon.desk import Desk, SlotOptions
from ecotta_rt.daemon.feed import Feed
from ecotta_rt.daemon.feeds import Feeds
from ecotta_rt.daemon.log import Log
from ecotta_rt.daemon.reloading import differences
from ecotta_rt.errors import ConfigurationError, Unavailable
from ecotta_rt.events import Answer, Reloaded, SourceBack, SourceLost, StateSaved, StreamEnded
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.runtime.ladder import Ladder
from ecotta_rt.sinks.kinds import SinkOptions
from ecotta_rt.sources.opening import Opened

DOOR, YARD = CameraOptions("door", "synthetic:door?fps=0"), CameraOptions("yard", "synthetic:yard?fps=0")


class Script:
    """Hears all events; after each `Reloaded` and after enough answers of all cameras that there are, the next step."""

    def __init__(self, tiny, tmp_path, *cameras):
        network = NetworkOptions(str(tiny.bundle("running")))
        self.config = Config(network, cameras, StateOptions(str(tmp_path / "state")), log=LogOptions("error"))
        self.daemon = Daemon(self.config, [self], log=Log(LogOptions("error")), read_again=self._read)
        self.steps, self.told, self.events, self.seen = [], [], [], {}

    def _read(self):
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def take(self, stamped):
        self.events.append(stamped)
        if isinstance(stamped.event, Reloaded):
            self.told.append(stamped.event)
            self.seen = {}
        if isinstance(stamped.event, Answer):
            self.seen[stamped.camera] = self.seen.get(stamped.camera, 0) + 1
            if {*self.seen} == {*self.daemon.cameras} and self.seen[stamped.camera] == 3:
                self.daemon.reload() if self.steps else self.daemon.stop()

    def run(self, *steps):
        self.steps = [*steps]
        self.daemon.run()
        return self.told

    def frames(self, camera):
        return [one.event.frame for one in self.events if isinstance(one.event, Answer) and one.camera == camera]


def test_a_camera_is_added_and_another_goes_on_untouched(tiny, tmp_path):
    script = Script(tiny, tmp_path, DOOR)

    told = script.run(replace(script.config, cameras=(DOOR, YARD)))

    assert told == [Reloaded(("camera yard is new",))]
    assert script.frames("door") == sorted(script.frames("door")), "its stream did not begin anew"
    assert script.frames("yard")
    saved = [one.event.why for one in script.events if isinstance(one.event, StateSaved) and one.camera == "door"]
    assert saved[0] == "before a reload"


def test_a_camera_that_is_gone_is_saved_and_goes_on_from_there_when_it_is_back(tiny, tmp_path):
    script = Script(tiny, tmp_path, DOOR, YARD)

    told = script.run(replace(script.config, cameras=(DOOR,)), script.config)

    assert told == [Reloaded(("camera yard is gone",)), Reloaded(("camera yard is new",))]
    saved = [one.event.path for one in script.events if isinstance(one.event, StateSaved) and one.camera == "yard"]
    assert [path.rpartition("/")[2][:8] for path in saved] == ["00000001", "00000002"]
    ended = [one.event.why for one in script.events if isinstance(one.event, StreamEnded) and one.camera == "yard"]
    assert ended == ["taken out of the configuration", "stopped"], "the second at the end of all"


def test_another_source_of_a_camera_is_read_and_what_it_has_learned_stays(tiny, tmp_path):
    script = Script(tiny, tmp_path, DOOR)
    other = replace(DOOR, source="synthetic:gate?fps=0", top=2)

    told = script.run(replace(script.config, cameras=(other,)))

    assert told == [Reloaded(("camera door: source, top",))]
    answers = [one.event for one in script.events if isinstance(one.event, Answer)]
    assert {(answer.name, answer.top is None) for answer in answers} == {
        ("synthetic:door", True),
        ("synthetic:gate", False),
    }


@pytest.mark.parametrize("wrong", ["unreadable", "no such camera", "a folder that is no film"])
def test_a_configuration_that_is_refused_changes_nothing_and_is_told(tiny, tmp_path, wrong):
    script = Script(tiny, tmp_path, DOOR)
    step = {
        "unreadable": ConfigurationError("door.toml:3: unknown field"),
        "no such camera": replace(script.config, cameras=(YARD, CameraOptions("gate", "/no/such/film.mkv"))),
        "a folder that is no film": replace(script.config, cameras=(YARD, CameraOptions("gate", str(tmp_path)))),
    }[wrong]

    told = script.run(step)

    assert len(told) == 1
    assert told[0].changed == ()
    assert told[0].why
    assert script.daemon.cameras == ("door",)


def test_what_needs_a_restart_is_said_and_the_rest_is_done(tiny, tmp_path):
    script = Script(tiny, tmp_path, DOOR)
    network, log = replace(script.config.network, bundle="other.ecotta", views=2), LogOptions("warning")

    told = script.run(replace(script.config, network=network, log=log))

    assert told == [Reloaded(("network.bundle needs a restart", "network.views needs a restart", "log.level"))]


def test_differences_name_fields_and_show_no_value():
    one = Config(NetworkOptions("a"), (DOOR,), sinks=(Output("mqtt", "mqtt", SinkOptions()),))
    sinks = (Output("mqtt", "mqtt", SinkOptions(queue=3)), Output("csv", "log", SinkOptions()))
    other = replace(one, sinks=sinks, cameras=(replace(DOOR, share=2.0, source="rtsp://user:secret@host"),))

    assert differences(one, other) == ("camera door: source, share", "sink mqtt: queue", "sink log is new")
    assert differences(other, one) == ("camera door: source, share", "sink mqtt: queue", "sink log is gone")
    assert differences(one, one) == ()


class Film:
    """A source that a test plays: what it is given, and then it waits until it is closed."""

    dropped = 0

    def __init__(self, *items, error=None):
        self.items, self.error, self.closed = items, error, Event()

    def __iter__(self):
        yield from self.items
        if self.error is not None:
            raise self.error
        self.closed.wait(30)

    def close(self):
        self.closed.set()


def test_a_new_camera_that_is_away_and_not_waited_for_ends_alone(tiny, tmp_path, monkeypatch):
    script = Script(tiny, tmp_path, DOOR)
    gate = CameraOptions("gate", "synthetic:gate", wait=False)
    opened = Feeds.open
    away = Opened(Film(error=Unavailable("no such camera")), live=True)
    monkeypatch.setattr(Feeds, "open", lambda feeds, one: away if one.name == "gate" else opened(feeds, one))

    kept = script.take

    def take(stamped):
        kept(stamped)
        if isinstance(stamped.event, StreamEnded) and stamped.camera == "gate":
            script.daemon.stop()

    script.take = take

    told = script.run(replace(script.config, cameras=(DOOR, gate)))

    assert told == [Reloaded(("camera gate is new",))]
    ended = [one.event.why for one in script.events if isinstance(one.event, StreamEnded) and one.camera == "gate"]
    assert ended == ["no such camera"]
    assert any(isinstance(one.event, StreamEnded) and one.camera == "door" for one in script.events)


def test_a_file_that_cannot_be_read_refuses_a_reload_and_ends_nothing(tiny, tmp_path):
    script = Script(tiny, tmp_path, DOOR)

    told = script.run(OSError(36, "File name too long"))

    assert [one.why for one in told] == ["[Errno 36] File name too long"]


def test_a_camera_that_is_lost_during_a_reload_is_told_to_be_back_and_what_was_dropped_stays(tiny):
    engine = Runtime.load(tiny.bundle("running"), batch=1)
    clock, ladder, frame = ManualClock(10.0), Ladder(engine, None), tiny.frames(1)[0]
    feed = Feed(engine, ladder, Desk(clock), clock, DOOR, adapt_every=1, signs=SignsOptions(), stopping=lambda: False)
    before = [*feed.take(Frame(frame, 0, clock.now_s())), *feed.take(SourceLost(1, "door", "no route"))]
    clock.advance_s(5.0)

    feed.go_on_with(replace(DOOR, top=3))
    after = [*feed.take(Frame(frame, 1, clock.now_s()))]

    assert [one.top for one in before if isinstance(one, Answer)] == [None]
    assert [one.lost_s for one in after if isinstance(one, SourceBack)] == [5.0]
    assert [len(one.top) for one in after if isinstance(one, Answer)] == [3]


def test_who_reads_a_device_next_waits_until_the_one_before_has_let_go_of_it():
    desk, order = Desk(), []

    class Device(Film):
        def __iter__(self):
            order.append("opened")
            yield from super().__iter__()
            order.append("let go")

    first = CameraThread(Device(), desk.slot(SlotOptions()), "door")
    while not order:
        first.join(0.001)
    device = Device()
    first.stop()
    second = CameraThread(device, desk.slot(SlotOptions()), "door", after=[first])
    while len(order) < 3:
        second.join(0.001)
    second.stop()

    assert second.join(30)
    assert order == ["opened", "let go", "opened", "let go"]
