"""The daemon over a real network: a tiny one, whose cameras are folders, films that a test plays, and made-up ones."""

import time
from threading import Event as Gate
from threading import Thread
from threading import enumerate as enumerate_threads
from types import MappingProxyType

import numpy as np
import pytest

from ecotta_rt.daemon.configuration.config import Config
from ecotta_rt.daemon.configuration.tables import CameraOptions, LogOptions, NetworkOptions, StateOptions
from ecotta_rt.daemon.daemon import Daemon
from ecotta_rt.daemon.log import Log
from ecotta_rt.daemon.stream_watch import StreamWatch
from ecotta_rt.daemon.systemd.notify import Notifier
from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.events import AdaptingSet, Answer, StateNotSaved, StateReturned, StateSaved, StreamEnded
from ecotta_rt.records import Frame
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.sources.opening import Opened


class Heard:
    """Keeps every event; `at` calls a function with the daemon after the n-th answer of a camera."""

    def __init__(self):
        self.stamped, self.at = [], {}

    def take(self, stamped):
        self.stamped.append(stamped)
        if isinstance(stamped.event, Answer):
            count = len(self.answers(stamped.camera))
            self.at.pop((stamped.camera, count), lambda: None)()

    def of(self, kind, camera=None):
        return [one.event for one in self.stamped if isinstance(one.event, kind) and camera in (None, one.camera)]

    def answers(self, camera):
        return self.of(Answer, camera)


@pytest.fixture
def folder(tmp_path, tiny):
    """Makes a folder of pictures."""

    def make(name, count, seed=0):
        path = tmp_path / name
        path.mkdir()
        for index, frame in enumerate(tiny.frames(count, seed)):
            np.save(path / f"{index}.npy", frame)
        return str(path)

    return make


@pytest.fixture
def serve(tmp_path, tiny):
    """Runs a daemon to its end; returns what was heard and the daemon."""

    def run(*cameras, heard=None, before=lambda daemon: None, sources=MappingProxyType({}), **tables):
        heard = heard or Heard()
        network = tables.pop("network", NetworkOptions(str(tiny.bundle("running"))))
        config = Config(network, cameras, tables.pop("state", StateOptions(str(tmp_path / "state"))), **tables)
        daemon = Daemon(config, [heard], log=Log(LogOptions(level="error")), sources=sources)
        before(daemon)
        daemon.run()
        return heard, daemon

    return run


def test_each_camera_is_answered_as_if_it_were_alone(serve, folder, tiny):
    door, yard = folder("a", 6), folder("b", 9, seed=1)

    heard, daemon = serve(CameraOptions("door", door), CameraOptions("yard", yard, top=2))

    for name, seed, count in (("door", 0, 6), ("yard", 1, 9)):
        alone = Runtime.load(tiny.bundle("running"), batch=1)
        for answer, frame in zip(heard.answers(name), tiny.frames(count, seed), strict=True):
            expected = alone(frame[None])
            assert answer.probability == float(expected.probabilities.max())
            assert answer.label == expected.names[0]
        assert heard.of(StreamEnded, name) == [StreamEnded(0)]
    assert heard.answers("door")[0].top is None
    assert [len(answer.top) for answer in heard.answers("yard")] == 9 * [2]
    assert [camera["name"] for camera in daemon.board.snapshot()["cameras"]] == ["door", "yard"]


def test_the_service_manager_is_told_while_it_runs(folder, tiny):
    told = []

    class Manager(Notifier):
        def status(self, said):
            told.append(said())

    config = Config(NetworkOptions(str(tiny.bundle("running"))), (CameraOptions("door", folder("a", 3)),))
    Daemon(config, keeps_states=False, notifier=Manager(None)).run()

    assert told[0] == "1 cameras, 0 frames answered"
    assert "1 cameras, 2 frames answered" in told


def test_a_state_is_saved_at_the_end_and_taken_up_at_the_next_start(serve, folder, tiny, tmp_path):
    pictures = folder("a", 5)
    alone = Runtime.load(tiny.bundle("running"), batch=1)
    expected = [float(alone(frame[None]).probabilities.max()) for _ in range(2) for frame in tiny.frames(5)]

    first, _ = serve(CameraOptions("door", pictures))
    second, _ = serve(CameraOptions("door", pictures))
    fresh, _ = serve(CameraOptions("door", pictures), state=StateOptions(str(tmp_path / "state"), fresh=True))

    assert len(first.of(StateSaved, "door")) == 1
    assert [answer.probability for heard in (first, second) for answer in heard.answers("door")] == expected
    assert [answer.probability for answer in fresh.answers("door")] == expected[:5]


def test_a_disk_that_hangs_holds_up_neither_answers_nor_the_end(serve, folder, monkeypatch):
    goes_on = Gate()
    monkeypatch.setattr("ecotta_rt.daemon.saving.snapshots.Snapshots.write", lambda *_: goes_on.wait(30))
    monkeypatch.setattr("ecotta_rt.daemon.daemon.STOP_S", 1.2)

    heard, _ = serve(CameraOptions("door", folder("a", 5)))

    assert len(heard.answers("door")) == 5
    (told,) = heard.of(StateNotSaved)
    assert told.why.startswith("the disk was not done within")
    with pytest.raises(UsageError, match="in use by a daemon"):  # it may still write to the folder
        serve(CameraOptions("door", folder("b", 1)))
    goes_on.set()


def test_where_no_state_can_be_kept_that_is_said_and_the_cameras_are_answered(serve, folder, tmp_path):
    (tmp_path / "file").touch()

    heard, _ = serve(CameraOptions("door", folder("a", 3)), state=StateOptions(str(tmp_path / "file" / "state")))

    assert len(heard.answers("door")) == 3
    start, end = heard.of(StateNotSaved, "door")
    assert "file" in start.why and end.why == f"at stop: {start.why}"


def test_two_daemons_on_one_state_are_refused(serve, folder):
    heard, pictures, refused = Heard(), folder("a", 2), []

    def start_another():
        with pytest.raises(UsageError, match="in use by a daemon"):
            serve(CameraOptions("door", pictures))
        refused.append(True)

    def second(daemon):
        heard.at["door", 1] = start_another

    serve(CameraOptions("door", pictures), heard=heard, before=second)

    assert refused
    assert len(heard.answers("door")) == 2


def test_an_owner_switches_adaptation_off_and_on_and_answers_go_on(serve, folder, tiny):
    heard, alone = Heard(), Runtime.load(tiny.bundle("running"), batch=1)
    expected = []
    for index, frame in enumerate(tiny.frames(6)):
        held = index in (2, 3)
        expected.append(alone.predict(frame[None], hold_statistics=True) if held else alone(frame[None]))

    def switch(daemon):
        heard.at["door", 2] = lambda: daemon.set_adapting("door", False)
        heard.at["door", 4] = lambda: daemon.set_adapting("door", True)

    _, daemon = serve(CameraOptions("door", folder("a", 6)), heard=heard, before=switch)

    found = [answer.probability for answer in heard.answers("door")]
    assert found == [float(prediction.probabilities.max()) for prediction in expected]
    assert heard.of(AdaptingSet, "door") == [AdaptingSet(1, False), AdaptingSet(3, True)]
    assert daemon.adapting("door")


def test_a_camera_that_is_reset_begins_anew_and_the_other_goes_on(serve, tiny, tmp_path):
    heard = Heard()
    for name in ("door", "yard"):
        (tmp_path / name).mkdir()
        for index, frame in enumerate(np.concatenate(2 * [tiny.frames(4)])):
            np.save(tmp_path / name / f"{index}.npy", frame)

    def reset(daemon):
        heard.at["door", 4] = lambda: daemon.reset("door")

    serve(
        CameraOptions("door", str(tmp_path / "door")),
        CameraOptions("yard", str(tmp_path / "yard")),
        heard=heard,
        before=reset,
    )

    door, yard = ([answer.probability for answer in heard.answers(name)] for name in ("door", "yard"))
    assert door[:4] == yard[:4] == door[4:]
    assert yard[4:] != yard[:4]
    assert heard.of(StateReturned) == [StateReturned(3, "source", "an owner asked for it")]
    assert heard.of(StateReturned, "yard") == []
    assert len(list((tmp_path / "state" / "door").glob("00000001-*.before-reset.safetensors"))) == 1


def test_a_stream_that_has_collapsed_goes_back_to_what_was_good(serve, tiny, tmp_path, monkeypatch):
    class Watch(StreamWatch):
        collapsed = property(lambda self: None if self._signs.frames != 4 else "one class whatever it sees")

    (tmp_path / "door").mkdir()
    for index, frame in enumerate(np.concatenate(2 * [tiny.frames(4)])):
        np.save(tmp_path / "door" / f"{index}.npy", frame)
    monkeypatch.setattr("ecotta_rt.daemon.feed.StreamWatch", Watch)

    heard, _ = serve(CameraOptions("door", str(tmp_path / "door")))

    found = [answer.probability for answer in heard.answers("door")]
    assert found[4:] == found[:4]
    assert heard.of(StateReturned) == [StateReturned(at, "source", "one class whatever it sees") for at in (3, 7)]
    assert heard.of(StateSaved)[0].why == "before going back"


def test_what_is_no_camera_cannot_be_commanded(serve, folder):
    def wrong(daemon):
        for command in (lambda: daemon.set_adapting("gate", True), lambda: daemon.reset("gate")):
            with pytest.raises(UsageError, match="no camera 'gate'; there are door"):
                command()

    serve(CameraOptions("door", folder("a", 1)), before=wrong)


def test_it_is_stopped_from_another_thread_in_the_midst_of_cameras_that_never_end(serve):
    heard = Heard()

    def stop(daemon):
        heard.at["yard", 3] = lambda: stopping.append(Thread(target=daemon.stop)) or stopping[0].start()

    stopping = []
    serve(
        CameraOptions("door", "synthetic:door?fps=200"),
        CameraOptions("yard", "synthetic:yard?fps=0"),
        heard=heard,
        before=stop,
    )
    stopping[0].join()

    assert len(heard.of(StreamEnded)) == len(heard.of(StateSaved)) == 2
    for thread in enumerate_threads():
        if thread.name.startswith(("camera", "guard")):
            thread.join(5)
            assert not thread.is_alive()


def test_no_frame_is_lost_that_is_not_counted(serve, tiny):
    class Endless:
        dropped, given, closed = 0, 0, False

        def __iter__(self):
            while not self.closed:
                yield Frame(tiny.frames(1)[0], self.given, time.monotonic())
                self.given += 1

        def close(self):
            self.closed = True

    heard, source = Heard(), Endless()

    def stop(daemon):
        heard.at["door", 20] = daemon.stop

    serve(CameraOptions("door", "-"), heard=heard, before=stop, sources={"door": Opened(source, live=True)})

    (ended,) = heard.of(StreamEnded, "door")
    counted = len(heard.answers("door")) + ended.dropped
    assert counted <= source.given + 1 <= counted + 2, "one may have been on its way"


def test_a_camera_that_is_not_waited_for_is_missed_at_once(serve):
    with pytest.raises(Unavailable, match="/dev/video99: no such device"):
        serve(CameraOptions("door", "/dev/video99", wait=False))


def test_however_much_is_wished_for_frames_are_answered_and_stop_is_heard(serve, tiny, monkeypatch):
    """Somebody who resets from within a reset never comes to an end; each of them is a wish more."""
    resets = []
    kept = Runtime.reset

    def reset(engine):
        kept(engine)
        resets.append(True)
        daemons[0].reset("door")
        daemons[0].reload()

    monkeypatch.setattr(Runtime, "reset", reset)
    heard, daemons = Heard(), []

    def before(daemon):
        daemons.append(daemon)
        heard.at["door", 1] = lambda: daemon.reset("door")
        heard.at["door", 20] = daemon.stop

    serve(CameraOptions("door", "synthetic:door?fps=0"), heard=heard, before=before)

    assert len(heard.answers("door")) == 20
    assert 0 < len(resets) <= 20, "one a turn"
