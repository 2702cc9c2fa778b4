import json
from threading import Thread

import pytest

from ecotta_rt.daemon.http.board import BoardFacts
from ecotta_rt.daemon.http.camera_tally import BoardCamera
from ecotta_rt.daemon.http.told import told
from ecotta_rt.events import (
    AdaptingSet,
    Alert,
    BatchAnswered,
    DoubtBegan,
    DoubtEnded,
    Drift,
    Dropped,
    EventsDropped,
    GuardStep,
    Refusal,
    Reloaded,
    Signs,
    SinkBack,
    SinkFailed,
    SourceBack,
    SourceLost,
    StateNotSaved,
    StateReturned,
    StateSaved,
    StreamEnded,
)
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Level
from ecotta_rt.sinks.event_fields import EVENT_NAMES, event_name
from fixtures.boards import START_S, Days, answer


def test_frames_are_counted_and_the_newest_answer_kept():
    days = Days()
    for frame in range(3):
        days.take(BatchAnswered(1, 0, Level.FULL, True, frame == 2, "adapted" if frame == 2 else "uncertain"))
        days.take(answer(frame))

    camera = days.camera()

    assert {name: camera["counts"][name] for name in ("frames", "batches", "offered", "adapted", "uncertain")} == {
        "frames": 3,
        "batches": 3,
        "offered": 3,
        "adapted": 1,
        "uncertain": 2,
    }
    assert camera["answer"]["frame"] == 2 and camera["answer"]["top"] == [["cat", 0.9], ["dog", 0.1]]


def test_a_latency_is_counted_in_the_bucket_whose_upper_end_holds_it():
    days = Days()
    for latency_ms in (5.0, 5.1, 20_000.0):
        days.take(answer(latency_ms=latency_ms))

    latency = days.camera()["latency"]

    assert latency["counts"] == [1, 1, *[0] * 9, 1] and len(latency["bounds_s"]) == 11
    assert latency["sum_s"] == pytest.approx(20.0101)


def test_points_gather_the_frames_of_two_seconds():
    days = Days()
    days.board.describe(BoardFacts("net", gate_nats=0.6))
    for entropy, wait_s in ((0.5, 1.0), (0.7, 1.0), (0.1, 0.0)):
        days.take(answer(entropy=entropy))
        days.clock.advance_s(wait_s)

    rows = days.camera()["points"]

    assert [row[2:] for row in rows] == [[2, 0.6, 0.5, 20.0], [1, 0.1, 1.0, 20.0]]
    assert len(days.board.snapshot(since_s=rows[1][1])["cameras"][0]["points"]) == 1
    assert days.board.snapshot(since_s=rows[1][1] - 1)["cameras"][0]["points"] == rows


def test_what_is_held_is_bounded():
    days = Days()
    for frame in range(1000):
        days.take(answer(frame))
        days.take(Drift(frame, 2.0))
        days.clock.advance_s(3.0)
    for sink in range(100):
        days.take(EventsDropped(f"sink {sink}", 1), None)

    snapshot = days.board.snapshot()

    assert len(snapshot["events"]) == 200 and len(snapshot["cameras"][0]["points"]) == 300
    assert len(snapshot["sinks"]) == 65 and snapshot["sinks"][-1]["dropped"] == 36
    assert snapshot["cameras"][0]["counts"]["frames"] == 1000


def test_a_camera_waits_lives_is_silent_is_lost_and_comes_back():
    days = Days(BoardCamera("door", silent_s=10.0))
    assert days.camera()["state"] == "waiting"
    days.take(answer())
    assert days.camera()["state"] == "live"
    days.clock.advance_s(10.5)
    assert (days.camera()["state"], days.camera()["why"]) == ("silent", "no frame for 10 s, more than 10 s")
    for _ in range(3):
        days.take(SourceLost(1, "door", "lost (no route)"))
        days.clock.advance_s(1.0)
    assert (days.camera()["state"], days.camera()["why"], days.camera()["since_s"]) == ("lost", "lost (no route)", 3.0)
    days.take(SourceBack(4, "door", 3.0))
    assert days.camera()["state"] == "live" and days.camera()["counts"]["lost"] == 1
    days.take(StreamEnded(0))
    assert days.camera()["state"] == "ended"


def test_a_camera_that_gives_frames_when_it_likes_is_never_silent():
    days = Days(BoardCamera("door", silent_s=None))
    days.take(answer())
    days.clock.advance_s(86_400.0)

    assert days.camera()["state"] == "live" and days.camera()["lately"]["frames_per_s"] == 0.0


def test_how_long_a_camera_is_away_is_told_and_a_new_source_is_waited_for():
    days = Days(BoardCamera("door", silent_s=10.0))
    days.clock.advance_s(5.0)
    days.take(answer())
    days.clock.advance_s(100.0)
    assert days.camera()["since_s"] == 100.0
    days.take(StreamEnded(0))
    days.take(SourceLost(1, "door", "lost"))
    assert days.camera()["state"] == "lost"


def test_a_camera_whose_frames_the_guard_drops_gives_frames():
    days = Days(BoardCamera("door", silent_s=10.0))
    days.take(answer())
    for frame in range(5):
        days.clock.advance_s(6.0)
        days.take(Dropped(frame, "f", frame))

    assert days.camera()["state"] == "live"


def test_frames_a_second_follow_what_comes_and_sink_when_nothing_does():
    days = Days()
    for frame in range(50):
        days.take(answer(frame))
        days.clock.advance_s(0.2)
    assert days.camera()["lately"]["frames_per_s"] == pytest.approx(5.0, rel=0.1)

    days.clock.advance_s(10.0)

    assert 0 < days.camera()["lately"]["frames_per_s"] < 2.6


def test_the_means_of_the_last_seconds_are_told():
    days = Days()
    days.board.describe(BoardFacts("net", gate_nats=0.6))
    assert days.camera()["lately"] == {
        "frames_per_s": 0.0,
        "entropy_nats": None,
        "certain": None,
        "latency_ms": None,
    }
    for entropy in (0.2, 0.4, 0.9, 0.9):
        days.take(answer(entropy=entropy))

    assert days.camera()["lately"] == {
        "frames_per_s": 4.0,
        "entropy_nats": 0.6,
        "certain": 0.5,
        "latency_ms": 20.0,
    }


def test_drops_are_told_by_reason_and_none_twice():
    days = Days()
    days.take(answer(dropped=7))
    days.take(Dropped(8, "8", dropped=8))
    assert days.camera()["dropped"] == {"newer": 7, "guard": 1}

    days.board.set_dropped("door", {"newer": 4, "old": 3})
    days.board.set_dropped("nobody", {"newer": 4})

    assert days.camera()["dropped"] == {"newer": 4, "old": 3, "guard": 1}


def test_signs_doubt_drift_resets_and_saves_are_kept():
    days = Days()
    days.take(Signs(9, 10, 0.5, 0.4, 0.2, distance=float("nan")))
    days.take(DoubtBegan(9, "concentration 0.9 above 0.5"))
    days.take(Drift(9, 3.5, known=True))
    days.take(StateReturned(9, "source", "asked for"))
    days.take(StateSaved("door-1.safetensors", bytes=1024, why="at stop"))
    days.take(AdaptingSet(9, False))

    camera = days.camera()

    assert camera["signs"]["entropy"] == 0.5 and camera["signs"]["distance"] is None
    assert camera["doubt"] == "concentration 0.9 above 0.5" and camera["drift"]["size"] == 3.5
    assert camera["adapting"] is False and camera["saved_time_s"] == START_S + 100
    assert {name: camera["counts"][name] for name in ("drifts", "doubts", "resets", "saves")} == dict.fromkeys(
        ("drifts", "doubts", "resets", "saves"), 1
    )
    assert camera["counts"]["saved_bytes"] == 1024
    days.take(DoubtEnded(10, 60.0))
    assert days.camera()["doubt"] is None


def test_a_state_that_cannot_be_saved_stands_there_until_one_is():
    days = Days()
    assert days.camera()["not_saved"] is None
    days.take(StateNotSaved("/s/door", "the disk is full"))
    days.take(answer())
    assert days.camera()["not_saved"] == "the disk is full"

    days.take(StateSaved("/s/door/1.safetensors"))

    assert days.camera()["not_saved"] is None


def test_guard_and_sinks_are_of_the_process():
    days = Days()
    days.take(GuardStep(4, Level.FULL, Level.STATISTICS, "temperature", temperature_c=82.0))
    days.take(SinkFailed("mqtt", "refused"), None)
    assert days.board.snapshot()["sinks"][0]["failed"] == "refused"
    days.take(SinkBack("mqtt", 5), None)
    days.take(EventsDropped("mqtt", 2), None)
    days.take(Reloaded(("camera door",)), None)
    days.take(StateNotSaved("door", "disk full"))

    snapshot = days.board.snapshot()

    assert snapshot["guard"]["level"] == "statistics" and snapshot["guard"]["step"]["from"] == "full"
    assert snapshot["sinks"] == [{"name": "mqtt", "failed": None, "failures": 1, "missed": 5, "dropped": 2}]
    assert snapshot["counts"] == {"guard_steps": 1, "reloads": 1, "reloads_refused": 0, "states_not_saved": 1}


def test_what_an_output_misses_is_counted_while_it_fails_and_never_goes_back():
    days, missing = Days(), []
    days.board.count_missed(lambda: missing)

    def missed():
        (sink,) = days.board.snapshot()["sinks"]
        return sink["missed"], sink["dropped"]

    days.take(SinkFailed("mqtt", "not authorised"), None)
    assert missed() == (0, 0)
    missing[:] = [("mqtt", 4)]
    assert missed() == (4, 0)
    missing.clear()  # between the moment that it is back and the event that tells so
    assert missed() == (4, 0)
    days.take(SinkBack("mqtt", 5), None)
    assert missed() == (5, 0)
    missing[:] = [("mqtt", 2)]
    assert missed() == (7, 0)
    missing.clear()
    days.take(EventsDropped("mqtt", 3, "not authorised"), None)
    assert missed() == (8, 0)


def test_memory_and_temperature_are_read_when_somebody_asks_and_seldom():
    reads = []
    days = Days(read=lambda: reads.append(1) or Vitals(pss_bytes=90, temperature_c=50.0))
    days.board.describe(BoardFacts("net", limit_bytes=100))
    assert not reads

    machines = [days.board.snapshot()["machine"] for _ in range(3)]
    days.clock.advance_s(5.0)
    days.board.snapshot()

    assert len(reads) == 2
    assert machines[2] == {
        "pss_bytes": 90,
        "limit_bytes": 100,
        "available_bytes": None,
        "temperature_c": 50.0,
        "throttled": None,
    }


def test_a_camera_keeps_its_counts_when_the_configuration_is_read_again():
    days = Days(BoardCamera("door"), BoardCamera("yard"))
    days.take(answer())

    days.board.show([BoardCamera("gate"), BoardCamera("door", adapting=False, silent_s=1.0)])

    assert [(camera["name"], camera["counts"]["frames"]) for camera in days.board.snapshot()["cameras"]] == [
        ("gate", 0),
        ("door", 1),
    ]
    assert not days.camera(1)["adapting"]


def test_what_a_camera_only_repeats_takes_one_place_in_the_list():
    days = Days()
    for frame in range(5):
        days.take(Refusal(frame, "", "too large"))
        days.take(SourceLost(frame, "yard", "lost"), "yard")
    days.take(Drift(5, 2.0))
    days.take(Refusal(6, "", "too large"))

    told_ = [(event["camera"], event["kind"], event["times"]) for event in days.board.snapshot()["events"]]

    assert told_ == [("door", "refused", 5), ("yard", "camera-lost", 5), ("door", "drift", 1), ("door", "refused", 1)]
    assert len(days.board.snapshot(after=days.board.snapshot()["events"][1]["number"])["events"]) == 2


def test_in_a_line_it_says_what_was_answered_and_which_cameras_give_nothing():
    days = Days(BoardCamera("door"), BoardCamera("yard"))
    days.take(answer())
    days.take(answer())
    assert days.board.in_a_line() == "2 cameras, 2 frames answered"
    days.take(SourceLost(0, "yard", "lost"), "yard")

    assert days.board.in_a_line() == "2 cameras, 2 frames answered; yard is lost"


def test_files_that_were_refused_are_told_apart_and_many_do_not_push_out_the_rest():
    days = Days()
    days.take(SourceLost(0, "yard", "lost"), "yard")
    for frame in range(250):
        days.take(Refusal(frame, f"{frame}.png", "torn"))
        days.take(Refusal(frame, f"{frame}.png", "torn"))

    events = days.board.snapshot()["events"]

    assert [event["text"] for event in events][-2:] == ["248.png: torn", "249.png: torn"]
    assert [event["times"] for event in events][-2:] == [2, 2]
    assert [event["kind"] for event in events] == ["camera-lost", *20 * ["refused"]]


def test_a_network_that_has_diverged_gives_json_all_the_same():
    days = Days()
    days.take(answer(entropy=float("nan")))
    days.take(Signs(1, 1, float("inf"), 0.0, 1.0))

    assert json.loads(json.dumps(days.board.snapshot(), allow_nan=False))["cameras"][0]["points"][0][3] is None


def test_a_beat_is_told_by_its_age():
    days = Days()
    days.board.beat()
    days.clock.advance_s(4.0)

    assert days.board.snapshot()["loop"] == {"beats": 1, "last_beat_s": 4.0}


def test_a_snapshot_changes_no_more():
    days = Days()
    days.take(answer())
    days.take(Drift(0, 1.0))
    before = days.board.snapshot()
    text = json.dumps(before)

    days.take(answer(1))
    days.take(Refusal(2, "", "damaged"))

    assert json.dumps(before) == text


def test_threads_may_write_and_read_together():
    days = Days()
    readers = [Thread(target=lambda: [days.board.snapshot() for _ in range(50)]) for _ in range(2)]
    writers = [Thread(target=lambda: [days.take(answer()) for _ in range(500)]) for _ in range(3)]
    for thread in readers + writers:
        thread.start()
    for thread in readers + writers:
        thread.join()

    assert days.camera()["counts"]["frames"] == 1500


TOLD = {
    SourceLost(0, "door", "lost \x1b[2J"): ("camera-lost", r"lost \x1b[2J"),
    SourceBack(0, "door", 12.4): ("camera-back", "gives frames again after 12 s"),
    SourceBack(0, "door"): ("camera-back", "gives frames again"),
    Refusal(0, "a.png", "too large"): ("refused", "a.png: too large"),
    Drift(0, 2.25): ("drift", "a new scene, 2.2 times the usual distance"),
    DoubtBegan(0, "all the same class"): ("doubt", "answers may be wrong: all the same class"),
    DoubtEnded(0, 90.0): ("doubt-ended", "the signs are good again after 90 s"),
    StreamEnded(0): ("ended", "the stream has ended"),
    StateSaved("/var/lib/s"): ("state-saved", "s"),
    StateSaved("s", 9, "at stop"): ("state-saved", "s (at stop)"),
    StateNotSaved("s", "disk full"): ("state-not-saved", "not saved in s: disk full"),
    StateReturned(0, "source", "asked for"): ("state-returned", "back to source: asked for"),
    AdaptingSet(0, True): ("adapting", "adaptation is on"),
    GuardStep(0, Level.FULL, Level.SPARSE, "throttled"): ("guard", "full -> sparse (throttled)"),
    SinkFailed("mqtt", "refused"): ("sink-failed", "mqtt: refused"),
    SinkBack("mqtt", 3): ("sink-back", "mqtt: takes events again, 3 missed"),
    EventsDropped("mqtt", 3): ("events-dropped", "mqtt: too slow, 3 events dropped"),
    EventsDropped("mqtt", 3, "401"): ("events-dropped", "mqtt: still failing at the end, 3 events lost: 401"),
    Alert("bear", "seen for 5 s"): ("alert", "bear: seen for 5 s"),
    Reloaded(("camera door",)): ("reloaded", "camera door"),
    Reloaded((), "line 3"): ("reloaded", "refused, all stays as it was: line 3"),
}


def test_faults_of_a_refused_reload_are_lines_for_people_and_one_line_for_a_screen():
    refused = Reloaded((), "2 faults\n  a.toml, line 3: \x1b[2J\n  a.toml, line 4: b")
    before = "refused, all stays as it was: 2 faults"

    assert told(refused, in_lines=True) == (
        "reloaded",
        f"{before}\n  a.toml, line 3: \\x1b[2J\n  a.toml, line 4: b",
    )
    assert told(refused) == ("reloaded", f"{before}; a.toml, line 3: \\x1b[2J; a.toml, line 4: b")


@pytest.mark.parametrize("event", TOLD, ids=lambda event: type(event).__name__)
def test_an_event_is_told_in_a_sentence_that_is_safe_for_a_terminal(event):
    assert told(event) == TOLD[event] and TOLD[event][0] == event_name(event)


def test_every_event_that_gives_a_line_is_told_but_answers_and_signs():
    assert {kind for kind, _ in TOLD.values()} == set(EVENT_NAMES) - {"answer", "signs"}


def test_what_comes_with_every_frame_is_not_told():
    assert told(answer()) is None and told(BatchAnswered(1, 0, Level.FULL, True, True, "adapted")) is None
