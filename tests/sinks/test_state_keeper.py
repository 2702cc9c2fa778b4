from types import SimpleNamespace

import numpy as np
import pytest

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.events import Answer, BatchAnswered, StateNotSaved, StateSaved
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Level
from ecotta_rt.sinks.state_keeper import StateKeeper
from ecotta_rt.state import AdaptState

ANSWER = Answer(0, "a.png", "cat", 1, 0.75, 0.5, True, "adapted", 12.5, 0)


def take_batch(keeper, frames=1, offered=True):
    keeper.take(BatchAnswered(frames, 0, Level.FULL, offered, offered, "adapted" if offered else "off"))
    for _ in range(frames):
        keeper.take(ANSWER)


@pytest.fixture
def kept(tmp_path, make_engine):
    """A keeper that saves every minute, and all it deals with."""
    path, engine, clock, told = tmp_path / "net.state.safetensors", make_engine(), ManualClock(), []
    keeper = StateKeeper(path, engine, 60, told.append, clock)
    return SimpleNamespace(keeper=keeper, path=path, engine=engine, clock=clock, told=told)


def test_a_saved_state_is_taken_up(kept):
    kept.engine.learned = [1, 2]
    kept.engine.state.save(kept.path)

    assert kept.keeper.take_up() == f"going on from {kept.path} (--fresh starts anew)"
    assert kept.engine.restored.parameters["w"].tolist() == [2.0]


def test_a_memory_that_begins_anew_is_said(kept):
    kept.engine.whole = False
    kept.engine.state.save(kept.path)

    assert kept.keeper.take_up().endswith("saved with other options, so the memory of places begins anew")


def test_without_a_saved_state_there_is_nothing_to_take_up(kept):
    assert not kept.keeper.take_up()


def test_the_state_of_another_network_is_refused_with_three_ways_out(kept):
    AdaptState({}, {}, {}, "cd" * 32).save(kept.path)

    with pytest.raises(InputFileError, match=r"cdcdcdcdcdcd.*abababababab.*--fresh.*--state.*--no-state"):
        kept.keeper.take_up()


def test_a_state_that_cannot_be_read_is_refused(kept):
    kept.path.write_bytes(b"not a state")

    with pytest.raises(InputFileError):
        kept.keeper.take_up()


def test_statistics_that_have_followed_are_saved_too(kept):
    kept.keeper.take(BatchAnswered(1, 0, Level.FULL, False, False, "off", followed=True))

    kept.keeper.close()

    assert kept.told == [StateSaved(str(kept.path))]


def test_a_keeper_that_only_reads_saves_nothing(kept):
    reading = StateKeeper(kept.path, kept.engine, 60, kept.told.append, kept.clock, saves=False)
    take_batch(reading)

    reading.close()

    assert kept.told == []
    assert not kept.path.exists()


def test_it_is_saved_when_the_time_has_come_and_not_before(kept):
    for saves in (0, 0, 1, 1):
        kept.clock.advance_s(25)
        take_batch(kept.keeper)
        assert kept.told == saves * [StateSaved(str(kept.path))]


def test_a_save_waits_for_the_last_answer_of_its_batch(kept):
    kept.clock.advance_s(60)
    kept.keeper.take(BatchAnswered(2, 0, Level.FULL, True, True, "adapted"))
    kept.keeper.take(ANSWER)
    assert kept.told == []

    kept.keeper.take(ANSWER)

    assert kept.told == [StateSaved(str(kept.path))]


def test_what_has_not_changed_is_not_written_again(kept):
    take_batch(kept.keeper, offered=False)
    kept.keeper.close()
    assert kept.engine.saved == []

    take_batch(kept.keeper)
    kept.keeper.close()
    kept.keeper.close()

    assert len(kept.engine.saved) == 1


def test_a_diverged_state_is_reported_and_the_last_good_one_stays(kept):
    kept.engine.learned = [1]
    take_batch(kept.keeper)
    kept.keeper.save()
    kept.engine.fail_with = UsageError("w holds NaN")

    take_batch(kept.keeper)
    kept.keeper.close()

    assert kept.told[1:] == [StateNotSaved(str(kept.path), "w holds NaN")]
    assert np.array_equal(AdaptState.load(kept.path).parameters["w"], [1.0])


def test_a_full_disk_is_reported_while_the_run_goes_on_and_raised_at_its_end(kept):
    kept.engine.fail_with = TransferError("disk full")
    kept.clock.advance_s(60)

    take_batch(kept.keeper)
    assert kept.told == [StateNotSaved(str(kept.path), "disk full")]

    take_batch(kept.keeper)  # not again at once
    assert len(kept.told) == 1
    with pytest.raises(TransferError):
        kept.keeper.close()


@pytest.mark.parametrize("every_s", [0, -1, float("nan")])
def test_a_period_that_cannot_be_meant_is_refused(make_engine, tmp_path, every_s):
    with pytest.raises(UsageError, match="above 0"):
        StateKeeper(tmp_path / "s", make_engine(), every_s, print)
