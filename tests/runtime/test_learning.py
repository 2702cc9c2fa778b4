import numpy as np
import pytest

from ecotta_rt.records import Frame, Level
from ecotta_rt.runtime.learning import LearningPolicy, learning_pays

FRAME = Frame(np.zeros((2, 2, 3), np.uint8), 0, 0.0)
DAMAGED = Frame(FRAME.pixels, 0, 0.0, damaged=True)


@pytest.mark.parametrize(
    ("every", "level", "learned"),
    [
        (1, Level.FULL, [0, 1, 2, 3, 4, 5]),
        (3, Level.FULL, [2, 5]),
        (0, Level.FULL, []),
        (1, Level.SPARSE, [1, 3, 5]),
        (3, Level.SPARSE, [5]),
        (0, Level.SPARSE, []),
        (1, Level.STATISTICS, []),
    ],
)
def test_it_learns_from_each_nth_batch_and_on_sparse_from_each_nth_of_those(every, level, learned):
    policy = LearningPolicy(every, 2, 1)

    acts = [policy.choose([FRAME], level) for _ in range(6)]

    assert [index for index, act in enumerate(acts) if act == "learn"] == learned
    assert {*acts} <= {"learn", "answer"}


def test_short_batches_damaged_ones_and_those_given_up_are_not_learned_from():
    policy = LearningPolicy(1, 4, 2)

    assert policy.choose([FRAME], Level.FULL) == "answer"
    assert policy.choose([FRAME, DAMAGED], Level.FULL) == "hold"
    assert policy.choose([FRAME, FRAME], Level.FULL, again=True) == "answer"
    assert policy.choose([FRAME, FRAME], Level.INFERENCE) == "hold"


def test_only_whole_batches_that_are_seen_for_the_first_time_count():
    policy = LearningPolicy(2, 4, 2)
    policy.choose([FRAME], Level.FULL)
    policy.choose([FRAME, DAMAGED], Level.FULL)
    policy.choose([FRAME, FRAME], Level.FULL)
    policy.choose([FRAME, FRAME], Level.FULL, again=True)

    assert policy.choose([FRAME, FRAME], Level.FULL) == "learn"


def test_unless_told_otherwise_a_bundle_learns_where_nothing_was_warmed_up():
    identity, warmed = {"warm_up": "none: the groups start as an identity"}, {"warm_up": "WarmUpOptions(epochs=1)"}

    assert [learning_pays("auto", of) for of in (identity, warmed, {})] == [True, False, False]
    assert [learning_pays("on", of) for of in (identity, warmed)] == [True, True]
    assert [learning_pays("off", of) for of in (identity, warmed)] == [False, False]
