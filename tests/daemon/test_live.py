"""Cameras answered inside somebody's program."""

import asyncio
import time
from threading import Event, Thread, current_thread
from threading import enumerate as enumerate_threads

import numpy as np
import pytest

from ecotta_rt.daemon.inbox import Inbox
from ecotta_rt.daemon.live import Live
from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.events import Answer, EventsDropped, Refusal, Stamped, StateSaved, StreamEnded
from ecotta_rt.records import Frame
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.session.interrupted import Interrupted

WAIT_S = 30.0


@pytest.fixture
def pictures(tmp_path, tiny):
    """A folder of six, and what the network says of them."""
    (tmp_path / "pictures").mkdir()
    for index, frame in enumerate(tiny.frames(6)):
        np.save(tmp_path / "pictures" / f"{index}.npy", frame)
    return str(tmp_path / "pictures")


@pytest.fixture
def bundle(tiny):
    return tiny.bundle("running")


@pytest.fixture
def expected(bundle, tiny):
    runtime = Runtime.load(bundle, batch=1)
    return [float(runtime(frame[None]).probabilities.max()) for frame in tiny.frames(6)]


def answers(heard, camera="door"):
    return [one.event.probability for one in heard if isinstance(one.event, Answer) and one.camera == camera]


def threads_left():
    """Those that are not about to end."""
    ours = [thread for thread in enumerate_threads() if thread.name.startswith(("live", "camera", "guard", "output"))]
    for thread in ours:
        thread.join(WAIT_S)
    return [thread.name for thread in ours if thread.is_alive()]


def test_a_loop_over_it_gives_every_answer_in_order_and_ends_with_the_cameras(bundle, pictures, expected):
    with Live(bundle, {"door": pictures, "yard": pictures}, waits=True, most_waiting=2) as live:
        heard = [*live]

    assert answers(heard, "door") == answers(heard, "yard") == expected
    assert [one.camera for one in heard if isinstance(one.event, StreamEnded)] in (["door", "yard"], ["yard", "door"])
    assert threads_left() == []


def test_an_asynchronous_loop_gives_the_same_and_the_program_goes_on_meanwhile(bundle, pictures, expected):
    async def program():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async with Live(bundle, {"door": pictures}, waits=True) as live:
            heard = [stamped async for stamped in live]
        task.cancel()
        return heard, turns

    heard, turns = asyncio.run(program())

    assert answers(heard) == expected
    assert turns > len(heard)
    assert threads_left() == []


def test_a_function_is_called_event_by_event_in_one_thread_of_its_own(bundle, pictures, expected):
    heard, threads, ended = [], set(), Event()

    def on_event(stamped):
        heard.append(stamped)
        threads.add(current_thread().name)
        if isinstance(stamped.event, StreamEnded):
            ended.set()

    with Live(bundle, {"door": pictures}, on_event=on_event, waits=True):
        assert ended.wait(WAIT_S)

    assert answers(heard) == expected
    assert threads == {"live: on_event"}


def test_what_the_function_raises_ends_everything_and_is_raised_by_close(bundle, tmp_path):
    def on_event(stamped):
        raise ZeroDivisionError("in the program's own code")

    live = Live(bundle, {"door": "synthetic:door?fps=0"}, on_event=on_event, state=tmp_path / "states").start()
    for thread in live._threads:
        thread.join(WAIT_S)

    with pytest.raises(ZeroDivisionError, match="own code"):
        live.close()
    live.close()
    assert [*(tmp_path / "states" / "door").iterdir()], "what was learned is saved all the same"


def test_a_program_puts_its_own_pictures_in_and_the_newest_is_answered(bundle, tiny):
    frames, heard = tiny.frames(5), []
    with Live(bundle, {"door": None}) as live:
        for number, frame in enumerate(frames):
            live.put("door", np.repeat(np.repeat(frame, 9, axis=0), 9, axis=1), f"picture {number}")
        live.put("door", np.zeros((2, 2, 4), np.uint8))
        live.finish()
        heard = [one.event for one in live]
        with pytest.raises(UsageError, match="'yard' is no camera that pictures are put into"):
            live.put("yard", frames[0])

    (refusal,) = [event for event in heard if isinstance(event, Refusal)]
    assert refusal.index == 5
    assert "expected [H, W, 3]" in refusal.why


def test_threads_may_ask_and_command_while_it_runs_and_two_may_close_it(bundle):
    live, failed = Live(bundle, {"door": "synthetic:door?fps=0", "yard": "synthetic:yard?fps=0"}), []
    seen = Event()

    def ask(number):
        try:
            for turn in range(20):
                live.set_adapting("door", bool(turn % 2))
                assert live.cameras == ("door", "yard")
                live.reset("yard")
                live.status()
                assert live.adapting("yard") in (True, False)
        except Exception as error:
            failed.append(error)

    def read():
        for stamped in live:
            if isinstance(stamped.event, Answer):
                seen.set()

    live.start()
    reader = Thread(target=read)
    threads = [Thread(target=ask, args=[number]) for number in range(3)]
    for thread in (reader, *threads):
        thread.start()
    assert seen.wait(WAIT_S)
    for thread in threads:
        thread.join()
    closing = [Thread(target=live.close) for _ in range(2)]
    for thread in closing:
        thread.start()
    for thread in (*closing, reader):
        thread.join(WAIT_S)
        assert not thread.is_alive()

    assert failed == []
    assert threads_left() == []


def test_a_state_is_kept_where_a_folder_is_named_and_nothing_where_none_is(bundle, pictures, expected, tmp_path):
    found = []
    for _ in range(2):
        with Live(bundle, {"door": pictures}, waits=True, state=tmp_path / "states") as live:
            found.append([*live])

    assert answers(found[0]) == expected
    assert answers(found[1]) != expected
    assert len([one for one in found[0] if isinstance(one.event, StateSaved)]) == 1
    assert not bundle.with_suffix(".state").exists()


def test_what_keeps_it_from_beginning_is_raised_by_the_loop(bundle):
    with pytest.raises(InputFileError, match="no such file"), Live(bundle, {"door": "/no/such/film.mkv"}) as live:
        list(live)


def test_a_program_that_leaves_by_an_error_of_its_own_hears_of_that_one(bundle):
    with pytest.raises(KeyError, match="mine"), Live(bundle, {"door": "/no/such/film.mkv"}):
        raise KeyError("mine")


@pytest.fixture
def hurried(monkeypatch):
    """The times of an end, a tenth as long."""
    monkeypatch.setattr("ecotta_rt.daemon.live._CLOSE_S", 0.6)
    monkeypatch.setattr("ecotta_rt.daemon.live.PRESS_S", 0.05)
    monkeypatch.setattr("ecotta_rt.daemon.daemon.PRESS_S", 0.05)
    monkeypatch.setattr("ecotta_rt.daemon.daemon._ANSWERS_S", 0.1)


@pytest.fixture
def hold():
    """What hangs until the test is over."""
    gate = Event()
    yield gate
    gate.set()


def test_close_gives_up_the_step_in_progress_and_then_the_answer(bundle, hurried, monkeypatch, hold):
    """As an onnxruntime that stops at its next node does."""
    asked, in_step = [], Event()

    def interrupt(self, answers=False):
        asked.append(answers)
        if answers:
            hold.set()

    def step(self, frames, **options):
        in_step.set()
        assert hold.wait(WAIT_S)
        raise Interrupted

    monkeypatch.setattr(Runtime, "interrupt", interrupt)
    monkeypatch.setattr(Runtime, "__call__", step)
    monkeypatch.setattr(Runtime, "predict", step)
    live = Live(bundle, {"door": "synthetic:door?fps=0"}).start()
    assert in_step.wait(WAIT_S)

    live.close()

    assert asked[0] is False
    assert asked[-1] is True
    assert threads_left() == []


class Blocking:
    """A source whose read, or close, waits for ever after a first frame."""

    dropped = 0

    def __init__(self, frame, read=None, close=None):
        self.frame, self.read, self.shut = frame, read, close

    def __iter__(self):
        yield Frame(self.frame, 0, time.monotonic(), "first")
        while self.read is None or self.read.wait(WAIT_S):
            yield Frame(self.frame, 1, time.monotonic(), "more")

    def close(self):
        if self.shut is not None:
            self.shut.wait(WAIT_S)


def test_a_source_that_blocks_in_a_read_does_not_hold_up_close(bundle, tiny, hold):
    with Live(bundle, {"door": Blocking(tiny.frames(1)[0], read=hold)}) as live:
        next(iter(live))
        begun_s = time.monotonic()

    assert time.monotonic() - begun_s < 5


def test_a_source_whose_close_blocks_is_left_behind_with_an_error_and_its_state_saved(
    bundle, tiny, hurried, hold, tmp_path
):
    source = Blocking(tiny.frames(1)[0], close=hold)
    live = Live(bundle, {"door": source}, state=tmp_path / "states").start()
    events = iter(live)
    while not isinstance(next(events).event, Answer):
        pass

    with pytest.raises(TransferError, match="not done within 0.6 s of the end: live hangs, and is left behind"):
        live.close()

    assert StateSaved in {type(one.event) for one in events}, "what waits is read to its end, and no more is waited for"


def test_a_function_that_hangs_is_left_behind_with_an_error(bundle, pictures, hurried, hold):
    called = Event()

    def on_event(stamped):
        called.set()
        hold.wait(WAIT_S)

    live = Live(bundle, {"door": pictures}, on_event=on_event).start()
    assert called.wait(WAIT_S)

    with pytest.raises(TransferError, match="live: on_event hangs"):
        live.close()


def test_options_that_cannot_be_meant_are_refused_at_once(bundle):
    with pytest.raises(UsageError, match="no camera"):
        Live(bundle, {})


def test_a_slow_reader_loses_the_oldest_events_and_is_told_how_many():
    inbox = Inbox(3)
    events = [Stamped(Refusal(index, "", "torn"), float(index), float(index)) for index in range(10)]
    for event in events:
        inbox.take(event)
    inbox.close()

    found = [*inbox.events()]

    assert found == [Stamped(EventsDropped("reader", 7), 7.0, 7.0), *events[7:]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lerning": "on"}, "unknown option 'lerning'; did you mean learning"),
        ({"wait": True}, "unknown option 'wait'; did you mean waits"),
        ({"learning": "maybe"}, "option learning: expected one of off, on, found 'maybe'"),
        ({"adapt_every": 0}, "option adapt_every: "),
        ({"memory_limit": "much"}, "option memory_limit: "),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_at_once(bundle, given, said):
    with pytest.raises(UsageError) as refused:
        Live(bundle, {"door": None}, **given)
    assert said in str(refused.value)


def test_an_option_of_none_is_as_if_it_was_left_out(bundle):
    Live(bundle, {"door": None}, learning=None, adapt_every=None, max_temperature=70).close()


@pytest.mark.parametrize("below", ["", "states/here"])
def test_a_state_folder_that_is_a_file_is_refused_at_once(bundle, tmp_path, below):
    (tmp_path / "file").write_text("of somebody")
    with pytest.raises(UsageError, match="file is a file; name a folder"):
        Live(bundle, {"door": None}, state=tmp_path / "file" / below)


def test_it_is_started_once(bundle):
    with Live(bundle, {"door": None}) as live, pytest.raises(UsageError, match="runs once"):
        live.start()
    with pytest.raises(UsageError, match="runs once"):
        live.start()
