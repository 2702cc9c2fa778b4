import io
import json
from dataclasses import replace

import pytest

from ecotta_rt.errors import TransferError
from ecotta_rt.events import Answer, GuardStep, Refusal
from ecotta_rt.records import Level
from ecotta_rt.sinks.json_lines import JsonLines, json_lines_file

ANSWER = Answer(3, "a.png", "cat", 1, 0.75, 0.5623351, True, "adapted", 12.5, 2, "dog", False)


def lines_of(*entries):
    file = io.StringIO()
    sink = JsonLines(file)
    for entry in entries:
        sink.take(entry)
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_an_answer_is_one_json_line():
    assert lines_of(ANSWER) == [
        {
            "frame": 3,
            "name": "a.png",
            "label": "cat",
            "class_index": 1,
            "probability": 0.75,
            "entropy_nats": 0.562335,
            "adapted": True,
            "why": "adapted",
            "latency_ms": 12.5,
            "dropped": 2,
            "truth": "dog",
            "correct": False,
        }
    ]


def test_without_a_known_class_there_is_no_truth():
    (line,) = lines_of(replace(ANSWER, truth=None, correct=None))

    assert not {"truth", "correct"} & line.keys()


def test_what_a_diverged_network_says_is_still_json():
    (line,) = lines_of(replace(ANSWER, probability=float("nan"), entropy_nats=float("inf")))

    assert line["probability"] is None
    assert line["entropy_nats"] is None


def test_a_refusal_is_one_json_line_whatever_the_name():
    assert lines_of(Refusal(4, "odd\nname.png", "torn")) == [{"frame": 4, "name": "odd\nname.png", "refused": "torn"}]


def test_a_step_of_the_guard_is_one_json_line_among_the_answers():
    step = GuardStep(3, Level.FULL, Level.STATISTICS, "limit", 261, 200)

    assert lines_of(step, ANSWER)[0] == {
        "event": "guard",
        "from": "full",
        "to": "statistics",
        "why": "limit",
        "usage_bytes": 261,
        "limit_bytes": 200,
        "frame": 3,
    }


def test_each_line_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    sink = json_lines_file(path)
    sink.take(ANSWER)

    assert json.loads(path.read_text())["frame"] == 3
    sink.close()


def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(TransferError, match="out.jsonl cannot be written"):
        json_lines_file(tmp_path / "no/out.jsonl")


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


def test_a_full_disk_is_told_with_the_files_name():
    with pytest.raises(TransferError, match="out.jsonl cannot be written: No space left"):
        JsonLines(Broken(OSError(28, "No space left on device")), "out.jsonl").take(ANSWER)


def test_a_reader_that_has_gone_is_no_full_disk():
    with pytest.raises(BrokenPipeError):
        JsonLines(Broken(BrokenPipeError(32, "Broken pipe"))).take(ANSWER)
