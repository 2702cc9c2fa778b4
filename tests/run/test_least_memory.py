from dataclasses import replace
from types import SimpleNamespace

import pytest

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.events import GuardStep
from ecotta_rt.records import Level
from ecotta_rt.run import least_memory
from ecotta_rt.run.least_memory import require_answers, require_room
from ecotta_rt.sinks.tally import Tally

MIB = 2**20


@pytest.mark.parametrize("limit_bytes", [None, 60 * MIB, 50 * MIB])
def test_no_limit_and_one_that_the_process_is_below_pass(monkeypatch, limit_bytes):
    monkeypatch.setattr(least_memory, "held_memory", lambda: SimpleNamespace(pss_bytes=50 * MIB))

    require_room(limit_bytes)


def test_a_limit_below_what_the_process_holds_is_refused_with_both(monkeypatch):
    monkeypatch.setattr(least_memory, "held_memory", lambda: SimpleNamespace(pss_bytes=50 * MIB))

    with pytest.raises(
        BudgetExceeded, match="a limit of 20 MiB is below the 50 MiB that this process holds"
    ) as refusal:
        require_room(20 * MIB)

    assert (refusal.value.need_bytes, refusal.value.limit_bytes) == (50 * MIB, 20 * MIB)


DROPPED = GuardStep(7, Level.INFERENCE, Level.DROP, "limit", 90 * MIB, 60 * MIB)


def test_a_run_in_which_memory_let_no_frame_in_has_failed():
    told = r"no frame was answered, all were dropped \(guard: inference -> drop \(limit: 90 of 60 MiB\)\): give more"

    with pytest.raises(BudgetExceeded, match=told):
        require_answers(Tally(dropped=9, last_step=DROPPED))


@pytest.mark.parametrize(
    "tally",
    [
        Tally(frames=1, dropped=9, last_step=DROPPED),
        Tally(dropped=9, last_step=replace(DROPPED, why="temperature")),
        Tally(last_step=replace(DROPPED, level=Level.STATISTICS)),
        Tally(),
    ],
)
def test_a_run_that_answered_or_was_too_hot_or_had_no_frames_has_not(tally):
    require_answers(tally)
