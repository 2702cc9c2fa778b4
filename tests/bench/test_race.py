"""Races, with a few lines of Python in place of the contestants' processes."""

import os
import sys

import pytest

from ecotta_rt.bench import race as race_module
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.race import Race, steps_a_turn

RACER = """
import json, os, sys
job = json.loads(sys.stdin.readline())
diary = open(os.environ["DIARY"], "a")
if job["method"] == "bn":
    print(json.dumps({"error": "no statistics", "exit_code": 2}), flush=True)
    sys.exit(2)
print(json.dumps({"ready": {"normalisation": "batch", "session_options": {"threads": job["threads"]}}}), flush=True)
for turn, line in enumerate(sys.stdin):
    order = json.loads(line)
    if job["method"] == "cotta" and turn == 1:
        sys.exit("out of breath")
    print(job["method"], file=diary, flush=True)
    print(json.dumps({"step_ms": [float(order["steps"])] * order["steps"], "process_peak_bytes": turn}), flush=True)
"""


@pytest.fixture
def diary(tmp_path, monkeypatch):
    """Where stand-ins write whose turn it was."""
    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    monkeypatch.setattr(race_module, "WORKER", (sys.executable, "-c", RACER))
    return tmp_path / "diary"


def cases(*methods, batch=64):
    return [Case(method, "torch", batch, 1, "batch", timed=True) for method in methods]


def held(methods, rounds, batch=64):
    race, heard = Race(cases(*methods, batch=batch)), []
    race.run(rounds, heard.append, heard.append)
    return race, heard


def test_contestants_take_turns(diary):
    race, heard = held(("source", "tent"), 3)

    assert diary.read_text().split() == ["source", "tent"] * 3
    assert heard == ["batch 64, 1 thread: loading torch source", "batch 64, 1 thread: loading torch tent", 1, 2, 3]
    assert race.complete


def test_a_row_holds_every_timed_step_and_what_the_process_said_of_itself(diary):
    race, _ = held(("tent",), 2, batch=1)
    (row,) = race.rows()
    steps, untimed = steps_a_turn(1)

    assert untimed == 1
    assert race.racers[0].step_ms == [float(steps)] * (2 * steps)
    assert (row.steps, row.ms_per_frame.median) == (2 * steps, float(steps))
    assert (row.normalisation, row.process_peak_bytes, row.session_options) == ("batch", 1, {"threads": 1})


def test_a_large_batch_is_one_step_a_turn():
    assert steps_a_turn(64) == (1, 0)


def test_who_fails_leaves_and_the_others_go_on(diary):
    race, _ = held(("bn", "cotta", "tent"), 2)

    bn, cotta, tent = race.racers
    assert bn.failure.message == "no statistics"
    assert bn.failure.exit_code == 2
    assert "out of breath" in cotta.failure.message
    assert cotta.step_ms == [1.0]
    assert tent.failure is None
    assert len(tent.step_ms) == 2
    assert not race.complete


def test_who_dies_between_two_turns_leaves_and_the_others_go_on(diary):
    race = Race(cases("source", "tent"))

    def kill(rounds):
        if rounds == 1:
            process = race.racers[0]._child._process
            process.kill()
            process.wait()

    race.run(3, lambda what: None, kill)

    source, tent = race.racers
    assert "killed (signal 9)" in source.failure.message
    assert [len(racer.step_ms) for racer in (source, tent)] == [1, 3]
    assert (race.failures(), race.complete) == ([source.failure], False)


def test_cotta_has_only_its_few_turns(diary, monkeypatch):
    monkeypatch.setattr(race_module, "WORKER", (sys.executable, "-c", RACER.replace('"cotta"', '"nobody"')))

    held(("cotta", "tent"), 4)

    assert diary.read_text().split() == ["cotta", "tent"] * 2 + ["tent"] * 2


def test_what_stops_the_race_stops_every_process_and_keeps_what_is_done(tmp_path, monkeypatch):
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    alive = f"alive = open({str(fifo)!r}, 'w')\n"
    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    monkeypatch.setattr(race_module, "WORKER", (sys.executable, "-c", alive + RACER))
    race = Race(cases("source", "tent"))

    def interrupt(rounds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race.run(5, lambda what: None, interrupt)

    assert os.read(end, 1) == b""  # end of file: nobody holds the other end any more
    os.close(end)
    assert [len(racer.step_ms) for racer in race.racers] == [1, 1]
    assert not race.complete
