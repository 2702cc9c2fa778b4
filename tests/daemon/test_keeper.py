from pathlib import Path
from threading import Event as Gate

import numpy as np
import pytest

from ecotta_rt.daemon.saving.keeper import Keeper
from ecotta_rt.daemon.saving.snapshot_files import BEFORE_RESET, GOOD
from ecotta_rt.daemon.saving.snapshots import Snapshots
from ecotta_rt.daemon.saving.writer import Writer
from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.events import BatchAnswered, DoubtBegan, DoubtEnded, GuardStep, Signs, StateNotSaved, StateSaved
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Level
from ecotta_rt.state import AdaptState, FramesBehind

NETWORK = "ab" * 32
FOLLOWED = BatchAnswered(1, 0, Level.STATISTICS, False, False, "off", followed=True)
HELD = BatchAnswered(1, 0, Level.INFERENCE, False, False, "off")
LONGEST_S = 30.0  # until a test is taken to hang


class Card(Snapshots):
    """Snapshots on a card that fails or hangs when a test says so."""

    def __init__(self, folder):
        super().__init__(folder, NETWORK, 3)
        self.locked_out = None
        self.fail_with = None
        self.is_slow, self.go_on, self.writing = False, Gate(), Gate()

    def require(self):
        if self.locked_out is not None:
            raise self.locked_out

    def write(self, state, why):
        if self.is_slow:
            self.writing.set()
            assert self.go_on.wait(LONGEST_S)
        if self.fail_with is not None:
            raise self.fail_with
        return super().write(state, why)


class Camera:
    """A keeper, and all it deals with; the state counts the batches."""

    def __init__(self, folder, every_s=300.0, **options):
        self.card, self.writer, self.clock, self.told, self.batches = Card(folder), Writer(), ManualClock(), [], 0
        self.keeper = Keeper(
            "door",
            self.card,
            self.state,
            self.writer,
            self.told.append,
            every_s=every_s,
            clock=self.clock,
            require=self.card.require,
            **options,
        )

    def state(self):
        array, metadata = np.array([self.batches], np.float32), FramesBehind(self.batches).metadata()
        return AdaptState({"w": array}, {"w": 0 * array}, {}, NETWORK, metadata)

    def play(self, seconds=0.0, event=FOLLOWED):
        """A batch after some time; then the writer is waited for, unless its card hangs."""
        self.clock.advance_s(seconds)
        self.batches += 1
        self.keeper.saw(event)
        self.keeper.tick()
        self.settle()

    def reset(self):
        """As an owner asks for it: the batches are counted anew."""
        self.keeper.before_reset()
        self.batches = 0
        self.keeper.keep("gone back to source", changed=True)
        self.settle()

    def settle(self):
        assert self.card.is_slow or self.writer.drain(LONGEST_S)

    @property
    def kinds(self):
        return [type(event) for event in self.told]

    @property
    def on_card(self):
        state = self.card.newest().state
        return None if state is None else int(state.parameters["w"][0])


@pytest.fixture
def camera(tmp_path):
    camera = Camera(tmp_path / "door")
    yield camera
    camera.card.go_on.set()
    camera.writer.close(LONGEST_S)


def test_it_is_saved_when_the_time_has_come_and_not_before(camera):
    for seconds, saved in ((100, None), (199, None), (1, 3), (299, 3), (1, 5)):
        camera.play(seconds)
        assert camera.on_card == saved

    assert camera.told[0].why == "every 300 s"
    assert camera.told[0].bytes == camera.card.listed()[0].path.stat().st_size


def test_nothing_is_written_while_nothing_moves(camera):
    camera.play(300)

    for _ in range(5):
        camera.play(300, HELD)
    camera.keeper.keep("before a reset")
    camera.keeper.stop()
    camera.settle()

    assert camera.keeper.figures.saved == 1


@pytest.mark.parametrize("why", ["before a reset", "before a reload"])
def test_it_is_saved_before_something_risky(camera, why):
    camera.play()

    camera.keeper.keep(why)
    camera.settle()

    assert camera.on_card == 1
    assert camera.told[-1].why == why


def test_it_is_saved_when_the_guard_does_with_less_and_not_when_it_goes_up(camera):
    camera.play()
    camera.keeper.saw(GuardStep(0, Level.STATISTICS, Level.FULL, "recovered"))
    assert camera.told == []

    camera.keeper.saw(GuardStep(0, Level.FULL, Level.STATISTICS, "limit"))
    camera.settle()

    assert [event.why for event in camera.told] == ["the guard went to statistics"]


def test_a_state_from_before_a_step_and_the_one_after_are_both_written(camera):
    camera.card.is_slow = True
    camera.play(300)
    assert camera.card.writing.wait(LONGEST_S)
    camera.play()
    camera.keeper.keep("before a reset")
    camera.batches = 0
    camera.keeper.keep("after a reset", changed=True)
    camera.card.is_slow = False
    camera.card.go_on.set()
    camera.settle()

    values = [int(camera.card.read(snapshot).parameters["w"][0]) for snapshot in camera.card.listed()]
    assert values == [1, 2, 0]


def test_a_disk_that_hangs_holds_up_nobody_and_is_told_once(camera):
    camera.card.is_slow = True
    camera.play(300)
    assert camera.card.writing.wait(LONGEST_S)

    for _ in range(100):  # the answers go on; were this to wait, the test would hang
        camera.play(30)

    assert [str(event.why) for event in camera.told] == ["the disk has been writing for 60 seconds"]
    assert camera.keeper.figures.failing
    camera.card.is_slow = False
    camera.card.go_on.set()
    camera.settle()
    assert camera.kinds == [StateNotSaved, StateSaved]
    assert not camera.keeper.figures.failing


def test_a_full_disk_is_told_once_counted_and_tried_again_ever_more_seldom(camera):
    camera.card.fail_with = TransferError("no space left")
    camera.play(300)
    tries = []
    for second in range(0, 9000, 10):
        before = camera.keeper.figures.failed
        camera.play(10)
        tries += [second + 10] * (camera.keeper.figures.failed - before)

    assert camera.told == [StateNotSaved(str(camera.card.folder), "no space left")]
    assert tries == [30, 90, 210, 450, 930, 1890, 3810, 7410]  # an hour apart at most
    camera.card.fail_with = None
    camera.play(3600)
    assert camera.kinds == [StateNotSaved, StateSaved]
    camera.play(300)
    assert camera.keeper.figures.saved == 2


def test_a_new_failure_after_a_good_save_is_told_again(camera):
    for error in (TransferError("full"), None, TransferError("read-only")):
        camera.card.fail_with = error
        camera.play(300)

    assert camera.kinds == [StateNotSaved, StateSaved, StateNotSaved]


@pytest.mark.parametrize("error", [UsageError("w holds NaN"), MemoryError(), RuntimeError("?")])
def test_whatever_goes_wrong_with_one_camera_the_writer_goes_on(camera, error):
    camera.card.fail_with = error
    camera.play(300)
    camera.card.fail_with = None

    camera.play(300)

    assert camera.kinds == [StateNotSaved, StateSaved]


def test_a_state_is_what_it_was_when_it_was_taken(camera):
    camera.card.is_slow = True
    camera.play(300)
    assert camera.card.writing.wait(LONGEST_S)
    camera.batches = 99
    camera.card.is_slow = False
    camera.card.go_on.set()
    camera.settle()

    assert camera.on_card == 1


def test_no_more_than_so_much_is_written_a_day_but_for_the_last_save(tmp_path):
    size = len(Camera(tmp_path / "size").state().to_bytes()) + 200  # with what is said beside it
    camera = Camera(tmp_path / "door", every_s=1.0, day_bytes=10 * size)
    for _ in range(23):
        camera.play(3600)

    figures = camera.keeper.figures
    assert figures.saved >= 5
    assert figures.bytes_today == figures.bytes <= 10 * size
    for _ in range(20):
        camera.play()
        camera.keeper.keep("before a reset")
        camera.settle()
    assert camera.keeper.figures.bytes_today <= 10 * size
    assert camera.told[-1].why == f"the {10 * size} bytes of this day are written"
    camera.keeper.stop()
    assert camera.writer.close(LONGEST_S)
    assert camera.on_card == camera.batches


def test_who_expects_large_states_hears_how_often_they_are_saved(camera):
    assert camera.keeper.expect(1) == 300
    assert camera.keeper.expect(1 << 30) == 86_400
    camera.play(300)
    assert camera.on_card is None


def test_the_next_day_writes_again(tmp_path):
    camera = Camera(tmp_path / "door", every_s=1.0, day_bytes=1)
    for _ in range(3):
        camera.play(1)
    assert camera.keeper.figures.saved == 1

    camera.play(500 * 86_400)

    assert camera.keeper.figures.saved == 2
    camera.writer.close(LONGEST_S)


def test_the_end_waits_for_the_last_save(camera):
    camera.play()
    camera.keeper.stop()

    assert camera.writer.close(LONGEST_S)
    assert camera.told[-1].why == "at stop"
    assert camera.on_card == 1


def test_the_end_does_not_wait_for_a_disk_that_hangs(camera):
    camera.card.is_slow = True
    camera.play()
    camera.keeper.stop()

    assert not camera.writer.close(within_s=0.05)
    assert [event.why for event in camera.told] == ["the disk was not done within 0.05 seconds"]


@pytest.mark.parametrize("failed_before", [False, True])
def test_what_cannot_be_saved_at_the_end_is_told_whatever_was_told_before(camera, failed_before):
    camera.card.fail_with = TransferError("no space left")
    camera.play(300 if failed_before else 1)
    camera.keeper.stop()

    assert camera.writer.close(LONGEST_S)
    before = ["no space left"] if failed_before else []
    assert [event.why for event in camera.told] == [*before, "at stop: no space left"]


def test_where_there_is_nowhere_to_save_to_at_the_start_that_is_told_until_a_state_is_saved(camera):
    camera.keeper.begin_without("the disk comes later")
    assert camera.told == []  # nobody hears yet

    for seconds in (1, 1, 299):
        camera.play(seconds)

    assert camera.kinds == [StateNotSaved, StateSaved]
    assert camera.told[0].why == "the disk comes later"


def test_after_the_end_nothing_is_written(camera):
    camera.writer.close(LONGEST_S)

    camera.play(300)

    assert camera.on_card is None


SIGNS = Signs(0, 100, entropy=0.1, certain=0.9, concentration=0.2)


def test_what_was_good_is_kept_while_newer_states_are_in_doubt(camera):
    for _ in range(3):  # the first one is ten minutes old after the third
        camera.play(300)
        camera.keeper.saw(SIGNS)
    camera.keeper.saw(DoubtBegan(0, "the signs are bad"))
    for _ in range(5):
        camera.play(300)
        camera.keeper.saw(SIGNS)

    name, state = camera.keeper.good
    assert int(state.parameters["w"][0]) == 1
    assert [snapshot.generation for snapshot in camera.card.listed()] == [1, 6, 7, 8]
    assert camera.card.listed()[0].name == name

    camera.keeper.saw(DoubtEnded(0, 1500.0))
    for _ in range(4):
        camera.play(300)
        camera.keeper.saw(SIGNS)

    assert camera.keeper.good[1].parameters["w"] == 9
    assert [snapshot.generation for snapshot in camera.card.listed()] == [10, 11, 12]


def test_a_state_is_no_good_one_when_doubt_began_soon_after_it_was_taken(camera):
    camera.play(300)
    camera.keeper.saw(DoubtBegan(0, "the signs are bad"))
    camera.keeper.saw(DoubtEnded(0, 5.0))
    camera.play(900)
    camera.keeper.saw(SIGNS)

    assert camera.keeper.good == ("source", None)


def test_what_a_stream_goes_on_from_is_good_until_somebody_says_otherwise(camera):
    assert camera.keeper.good == ("source", None)
    camera.play(300)
    found = camera.card.newest()

    camera.keeper.begin_with(found)

    assert camera.keeper.good == (found.snapshot.name, found.state)


def in_doubt(folder):
    """A camera whose first state is good and kept, while three newer ones are in doubt."""
    camera = Camera(folder)
    for _ in range(3):
        camera.play(300)
        camera.keeper.saw(SIGNS)
    camera.keeper.saw(DoubtBegan(0, "the signs are bad"))
    for _ in range(4):
        camera.play(300)
    return camera


def test_after_a_power_cut_in_doubt_what_was_good_still_is_until_newer_ones_have_proved_good(tmp_path):
    in_doubt(tmp_path / "door").writer.close(LONGEST_S)
    camera = Camera(tmp_path / "door")
    found = camera.card.newest()
    camera.keeper.begin_with(found)

    assert found.state.parameters["w"] == 7  # the stream goes on from the newest, as ever
    assert camera.keeper.good[1].parameters["w"] == 1
    camera.play(300)
    assert [(one.generation, one.pin) for one in camera.card.listed()] == [(1, GOOD), (6, ""), (7, ""), (8, "")]

    for _ in range(3):
        camera.play(300)
        camera.keeper.saw(SIGNS)
    camera.play(300)

    assert camera.keeper.good[1].parameters["w"] == 1  # the first batch of this run
    assert [one.generation for one in camera.card.listed()] == [10, 11, 12]
    camera.writer.close(LONGEST_S)


def test_a_reset_keeps_what_was_learned_before_it_however_long_ago_and_however_often(camera):
    camera.batches = 1000
    camera.play()
    for _ in range(4):
        camera.reset()
        camera.play(1)
    for _ in range(5):
        camera.play(300)

    kept = camera.card.pinned(BEFORE_RESET)
    assert kept.state.parameters["w"] == 1001
    assert len(camera.card.listed()) == 1 + 3


def test_what_is_told_before_a_reset_names_the_file_that_is_kept(camera):
    camera.play()
    camera.reset()
    camera.play()

    kept, source = (Path(event.path) for event in camera.told)
    assert camera.told[0].why == "before a reset"
    assert kept == camera.card.pinned(BEFORE_RESET).snapshot.path
    assert kept.exists() and source.exists()


def test_a_reset_in_doubt_names_the_file_that_is_there_and_keeps_the_good_one(tmp_path):
    camera = in_doubt(tmp_path / "door")

    camera.play()
    camera.reset()

    assert [Path(event.path).exists() for event in camera.told[-2:]] == [True, True]
    assert camera.card.pinned(BEFORE_RESET).state.parameters["w"] == 1
    camera.writer.close(LONGEST_S)


def test_a_second_reset_before_anything_has_moved_writes_nothing(camera):
    camera.play()
    camera.reset()
    saved = camera.keeper.figures.saved

    for _ in range(5):
        camera.reset()

    assert (saved, camera.keeper.figures.saved) == (2, 2)


def test_a_reset_that_the_disk_refused_is_written_when_it_can_be(camera):
    camera.play()
    camera.card.fail_with = TransferError("full")
    camera.reset()
    camera.reset()
    camera.card.fail_with = None
    camera.play(300, HELD)

    assert camera.on_card == 1  # HELD counts a batch, and moves nothing
    assert camera.keeper.figures.saved == 1


def test_what_an_owner_has_discarded_is_not_returned_to(camera):
    for _ in range(3):
        camera.play(300)
        camera.keeper.saw(SIGNS)
    assert camera.keeper.good[1].parameters["w"] == 1

    camera.reset()
    camera.keeper.saw(SIGNS)

    assert camera.keeper.good == ("source", None)


def test_a_reset_in_doubt_keeps_the_state_that_was_good(tmp_path):
    camera = in_doubt(tmp_path / "door")

    camera.play()
    camera.reset()

    assert camera.card.pinned(BEFORE_RESET).state.parameters["w"] == 1
    camera.writer.close(LONGEST_S)


def test_a_stream_that_begins_at_the_source_pushes_nothing_out_that_took_longer(camera, tmp_path):
    camera.batches = 500
    camera.play(300)
    fresh = Camera(tmp_path / "door")  # --fresh, or a disk that was away at the start
    for _ in range(6):
        fresh.play(300)

    assert fresh.card.pinned(BEFORE_RESET).state.parameters["w"] == 501
    assert len(fresh.card.listed()) == 1 + 3
    fresh.writer.close(LONGEST_S)


def test_a_folder_that_is_not_ours_is_not_written_to_and_is_tried_again(camera):
    camera.card.locked_out = UsageError("in use by another run")
    camera.play(300)
    assert camera.told == [StateNotSaved(str(camera.card.folder), "in use by another run")]
    assert not camera.card.folder.exists()

    camera.card.locked_out = None
    camera.play(30)

    assert camera.kinds == [StateNotSaved, StateSaved]


@pytest.mark.parametrize("options", [{"every_s": 0.0}, {"every_s": float("nan")}, {"day_bytes": 0}])
def test_numbers_that_cannot_be_meant_are_refused(tmp_path, options):
    with pytest.raises(UsageError):
        Camera(tmp_path, **options)


def test_cameras_share_a_writer_and_one_of_them_cannot_crowd_out_another(camera, tmp_path):
    other = Camera(tmp_path / "yard")
    yard = Keeper("yard", other.card, other.state, camera.writer, other.told.append, clock=other.clock)
    camera.card.is_slow = True
    camera.play(300)
    assert camera.card.writing.wait(LONGEST_S)
    for _ in range(10):
        camera.play()
        camera.keeper.keep("before a reset")
    yard.keep("before a reload", changed=True)

    camera.card.is_slow = False
    camera.card.go_on.set()
    camera.settle()

    assert other.kinds == [StateSaved]
    assert camera.on_card == camera.batches
    assert camera.keeper.figures.saved == 4  # one at work, three that waited
