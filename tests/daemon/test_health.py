from ecotta_rt.daemon.http.board import BoardFacts
from ecotta_rt.daemon.http.camera_tally import BoardCamera
from ecotta_rt.daemon.http.health import health, readiness
from ecotta_rt.events import SourceLost, StateNotSaved, StreamEnded
from fixtures.boards import Days, answer


def lost(days: Days, camera: str) -> None:
    days.take(SourceLost(0, camera, "no route"), camera)


def test_it_is_healthy_while_the_loop_moves_and_a_camera_gives_frames():
    days = Days(BoardCamera("door"), BoardCamera("yard"))
    days.take(answer(), "door")
    lost(days, "yard")

    good, report = health(days.board.snapshot())

    assert good and report["why"] == []
    assert report["cameras"]["yard"]["state"] == "lost" and report["cameras"]["yard"]["why"] == "no route"


def test_a_state_that_cannot_be_saved_is_no_reason_to_start_anew():
    days = Days()
    days.take(answer())
    days.take(StateNotSaved("/s/door", "the disk is full"))

    assert health(days.board.snapshot())[0] and health(days.board.snapshot(), "door")[0]


def test_a_loop_that_does_not_move_is_not_alive_whatever_its_cameras_did():
    days = Days()
    days.board.beat()
    days.clock.advance_s(61.0)
    days.take(answer())

    good, report = health(days.board.snapshot())

    assert not good and report["why"] == ["the work loop has not moved for 61 s, more than 60 s"]


def test_a_network_that_is_still_being_loaded_is_given_more_time():
    days = Days(BoardCamera("letters", silent_s=None))
    days.clock.advance_s(500.0)
    assert health(days.board.snapshot())[0]

    days.clock.advance_s(101.0)

    assert health(days.board.snapshot())[1]["why"] == ["the work loop has not moved for 601 s, more than 600 s"]


def test_cameras_that_are_all_gone_are_no_stream():
    days = Days(BoardCamera("door"), BoardCamera("yard"))
    lost(days, "door")
    days.board.beat()
    assert health(days.board.snapshot())[0]  # the yard may still come

    days.clock.advance_s(11.0)

    good, report = health(days.board.snapshot())
    assert not good
    assert report["why"] == [
        "no camera gives frames: door is lost (no route), yard is silent (no frame for 11 s, more than 10 s)"
    ]


def test_a_camera_can_be_asked_for_by_name():
    days = Days(BoardCamera("door"), BoardCamera("yard"))
    days.take(answer(), "door")
    lost(days, "yard")
    snapshot = days.board.snapshot()

    assert health(snapshot, "door")[0]
    assert health(snapshot, "yard")[1]["why"] == ["yard is lost (no route)"]
    assert health(snapshot, "attic")[1]["why"] == ["no such camera; there are: door, yard"]


def test_a_folder_that_waits_for_pictures_and_a_film_at_its_end_are_well():
    days = Days(BoardCamera("letters", silent_s=None), BoardCamera("film"))
    days.take(StreamEnded(0), "film")
    days.clock.advance_s(50.0)

    healthy, report = health(days.board.snapshot())
    assert healthy
    assert [report["cameras"][name]["expects_frames"] for name in ("letters", "film")] == [False, False]


def test_it_is_ready_when_the_network_is_loaded_and_a_frame_was_answered():
    days = Days()
    assert readiness(days.board.snapshot()) == (False, {"ready": False, "why": ["the network is not loaded yet"]})
    days.board.describe(BoardFacts("net"))
    assert readiness(days.board.snapshot())[1]["why"] == ["no frame has been answered yet"]
    days.take(answer())
    assert readiness(days.board.snapshot()) == (True, {"ready": True, "why": []})
