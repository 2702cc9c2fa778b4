from dataclasses import replace

import pytest

from ecotta_rt.errors import BudgetExceeded, InputFileError
from ecotta_rt.events import GuardStep
from ecotta_rt.records import Level
from ecotta_rt.run.outcome import require_answers
from ecotta_rt.sinks.tally import Tally

MIB = 2**20

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
        Tally(frames=1, refused=9, last_refusal="a.png: torn"),
        Tally(dropped=1, refused=9, last_refusal="a.png: torn"),
    ],
)
def test_a_run_that_answered_or_was_too_hot_or_had_no_frames_has_not(tally):
    require_answers(tally)


def test_a_run_whose_frames_were_all_refused_has_failed_unless_somebody_ended_it():
    refused = Tally(refused=9, last_refusal="a.png: torn")

    with pytest.raises(InputFileError, match=r"no frame was answered: all 9 were refused, at last a\.png: torn"):
        require_answers(refused)
    require_answers(refused, stopped=True)
