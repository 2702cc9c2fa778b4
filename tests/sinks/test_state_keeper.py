from types import SimpleNamespace

import numpy as np
import pytest

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sinks.state_keeper import StateKeeper
from ecotta_rt.sinks.tally import Tally
from ecotta_rt.state import AdaptState


@pytest.fixture
def kept(tmp_path, make_engine):
    """A keeper that saves every minute, and all it deals with."""
    path, engine, clock, warnings = tmp_path / "net.state.safetensors", make_engine(), ManualClock(), []
    keeper = StateKeeper(path, engine, 60, warnings.append, clock)
    return SimpleNamespace(keeper=keeper, path=path, engine=engine, clock=clock, warnings=warnings)


def test_a_saved_state_is_taken_up(kept):
    kept.engine.learned = [1, 2]
    kept.engine.state.save(kept.path)

    assert kept.keeper.take_up()
    assert kept.engine.restored.parameters["w"].tolist() == [2.0]


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


def test_it_is_saved_when_the_time_has_come_and_not_before(kept):
    for offered, saves in ((1, 0), (2, 0), (3, 1), (4, 1)):
        kept.clock.advance_s(25)
        kept.keeper.after_batch(Tally(offered=offered))
        assert len(kept.engine.saved) == saves


def test_what_has_not_changed_is_not_written_again(kept):
    kept.keeper.save(Tally(frames=9))
    assert kept.engine.saved == []

    kept.keeper.save(Tally(offered=1))
    kept.keeper.save(Tally(offered=1))

    assert len(kept.engine.saved) == 1


def test_a_diverged_state_is_reported_and_the_last_good_one_stays(kept):
    kept.engine.learned = [1]
    kept.keeper.save(Tally(offered=1))
    kept.engine.fail_with = UsageError("w holds NaN")

    kept.keeper.save(Tally(offered=2))

    assert kept.warnings == ["w holds NaN"]
    assert np.array_equal(AdaptState.load(kept.path).parameters["w"], [1.0])


def test_a_full_disk_is_reported_while_the_run_goes_on_and_raised_at_its_end(kept):
    kept.engine.fail_with = TransferError("disk full")
    kept.clock.advance_s(60)

    kept.keeper.after_batch(Tally(offered=1))
    assert kept.warnings == ["disk full"]

    kept.keeper.after_batch(Tally(offered=2))  # not again at once
    assert kept.warnings == ["disk full"]
    with pytest.raises(TransferError):
        kept.keeper.save(Tally(offered=2))


@pytest.mark.parametrize("every_s", [0, -1, float("nan")])
def test_a_period_that_cannot_be_meant_is_refused(make_engine, tmp_path, every_s):
    with pytest.raises(UsageError, match="above 0"):
        StateKeeper(tmp_path / "s", make_engine(), every_s, print)
