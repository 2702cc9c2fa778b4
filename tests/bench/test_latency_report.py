import io

from ecotta_rt.bench.environment import Environment
from ecotta_rt.bench.latency_report import print_latency_report
from ecotta_rt.bench.latency_results import Lap, LatencyReport, make_rows
from ecotta_rt.bench.results import Failure, ModelFacts, StreamFacts

LAPS = (
    Lap("forward", "onnx", "source", (6.0,), 2**27, {}),
    Lap("ecotta-k4", "onnx", "running", (18.0,), 2**28, {}),
    Lap("tent", "torch", "batch", (36.0,), None, {}),
)


def printed(*laps, batch=1, **changes):
    values = {
        "environment": Environment("a processor", 2, 2, {"torch": "2.13.0"}, "ab" * 20),
        "stream": StreamFacts("fashion-mnist-c", 256, ("gaussian_noise",), 5, "official", 0),
        "model": ModelFacts("wrn-40-2", None, "cd" * 32),
        "rounds": 3,
        "rows": make_rows(batch, 2, laps),
    }
    file = io.StringIO()
    print_latency_report(LatencyReport(**{**values, **changes}), file)
    return file.getvalue()


def test_each_row_has_its_time_and_both_ratios():
    lines = printed(*LAPS).splitlines()

    assert any(line.split() == "1 2 onnx ecotta-k4 running 18.00 18.00 3.00 0.50 1 256.0".split() for line in lines)
    assert any(line.split() == "1 2 torch tent batch 36.00 36.00 6.00 1.00 1".split() for line in lines)


def test_a_pipe_gets_plain_text_and_the_machine():
    text = printed(*LAPS)

    assert "\x1b" not in text
    for fact in ("a processor", "torch 2.13.0", "abab", "3 rounds", "fashion-mnist-c"):
        assert fact in text


def test_a_peer_at_one_frame_comes_with_a_warning():
    assert "collapse" in printed(*LAPS, batch=1)
    assert "collapse" not in printed(*LAPS, batch=2)


def test_who_has_no_result_and_who_is_left_out_are_told():
    text = printed(failures=(Failure("torch cotta, batch 1", "killed", 1),), left_out={"torch bn": "one frame"})

    assert "torch cotta, batch 1: no result: killed" in text
    assert "torch bn: left out: one frame" in text
