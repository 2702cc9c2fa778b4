import pytest

from ecotta_rt.bench.case import Case
from ecotta_rt.bench.contestants import LATENCY_METHODS, check_latency_methods, line_up
from ecotta_rt.errors import UsageError

MODES = ("source", "running", "batch")


def labels(names, batch, modes=MODES):
    return [contestant.label for contestant in line_up(names, batch, 1, modes)[0]]


def test_one_frame_is_timed_in_the_modes_that_take_one():
    assert labels(LATENCY_METHODS, 1) == [
        "onnx forward",
        "onnx ecotta-k4 source",
        "onnx ecotta-k4 running",
        "onnx ecotta-k4-fast source",
        "onnx ecotta-k4-fast running",
        "torch ecotta-k4",
        "torch tent",
        "torch cotta",
    ]


def test_a_batch_adds_the_mode_of_the_paper():
    contestants, _ = line_up(("ecotta-k4",), 64, 1, MODES)

    assert [(c.engine, c.name, c.normalisation) for c in contestants] == [
        ("onnx", "forward", "source"),
        ("onnx", "ecotta-k4", "source"),
        ("onnx", "ecotta-k4", "running"),
        ("onnx", "ecotta-k4", "batch"),
        ("torch", "ecotta-k4", "batch"),
    ]


def test_constant_statistics_race_in_batch_mode_alone():
    assert labels(("ecotta-k4-constant",), 64) == [
        "onnx forward",
        "onnx ecotta-k4-constant batch",
        "torch ecotta-k4-constant",
    ]
    assert labels(("ecotta-k4-constant",), 1) == ["onnx forward"]


def test_a_method_that_needs_a_batch_is_left_out_at_one_frame():
    contestants, left_out = line_up(("bn", "tent"), 1, 1, MODES)

    assert [contestant.name for contestant in contestants] == ["forward", "tent"]
    assert left_out == {"torch bn, batch 1": "it uses the statistics of the batch"}


def test_forward_always_takes_part_and_once():
    assert check_latency_methods(("forward", "tent", "tent")) == ("tent",)
    assert check_latency_methods(()) == LATENCY_METHODS


def test_a_name_that_cannot_be_meant_is_refused(subtests):
    for name, message in [
        ("tnet", "did you mean tent"),
        ("all", "would not end"),
        ("eata", "depends on the frames"),
        ("tent-fast", "no graph of a step"),
        ("ecotta-k4-warmed-fast", "no graph of a step"),
    ]:
        with subtests.test(name=name), pytest.raises(UsageError, match=message):
            check_latency_methods((name,))


def test_cotta_has_few_turns():
    cotta, tent = (Case(method, "torch", 64, 1, "batch", timed=True) for method in ("cotta", "tent"))

    assert [cotta.rounds(10), cotta.rounds(1), tent.rounds(10)] == [2, 1, 10]
