import os
import sys
from contextlib import contextmanager

import pytest

from ecotta_rt.bench import measure
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.child import started
from ecotta_rt.bench.measure import Seen, measure_case
from ecotta_rt.bench.results import Failure, Row

CASE = Case("tent", "torch", 64, 3, "batch", allocator="returning")


@pytest.fixture
def worker(monkeypatch):
    """Let a few lines of Python stand in for the measured process."""

    def use(code):
        monkeypatch.setattr(measure, "WORKER", (sys.executable, "-c", code))

    return use


def test_a_job_survives_its_way_to_the_process(worker):
    worker(
        "import json, sys; from ecotta_rt.bench.case import Case\n"
        "print(json.dumps({'error': repr(Case.from_json(sys.stdin.readline())), 'exit_code': 2}))"
    )

    outcome = measure_case(CASE)

    assert outcome == Failure("tent", repr(CASE), 2)


def test_progress_is_heard_and_the_row_comes_back(worker, row):
    expected = row("tent")
    worker(
        "import json; from dataclasses import asdict; from ecotta_rt.bench.results import Row\n"
        "print(json.dumps({'parameters': 7})); print(json.dumps({'frames': 64, 'wrong': 3}))\n"
        f"print(json.dumps({{'row': asdict({expected!r})}}))"
    )
    heard = []

    outcome = measure_case(CASE, heard.append)

    assert isinstance(outcome, Row)
    assert outcome == expected
    assert heard == [Seen(7, 0, 0), Seen(7, 64, 3)]


def test_the_process_is_told_its_threads_before_any_library_starts(worker):
    worker("import json, os; print(json.dumps({'error': os.environ['OMP_NUM_THREADS'], 'exit_code': 2}))")

    assert measure_case(CASE) == Failure("tent", "3", 2)


def test_the_process_gets_its_allocator_and_the_users_word_counts_more(worker, monkeypatch):
    worker("import json, os; print(json.dumps({'error': os.environ['MALLOC_MMAP_THRESHOLD_'], 'exit_code': 2}))")

    chosen = measure_case(CASE)
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "12345")
    overruled = measure_case(CASE)

    assert (chosen, overruled) == (Failure("tent", "1048576", 2), Failure("tent", "12345", 2))


def test_a_crash_is_told_with_its_last_words(worker):
    worker("raise LookupError('nothing there')")

    outcome = measure_case(CASE)

    assert isinstance(outcome, Failure)
    assert outcome.exit_code == 1
    assert "exit code 1" in outcome.message
    assert "LookupError: nothing there" in outcome.message


def test_a_process_killed_by_the_kernel_is_told_plainly(worker):
    worker("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    outcome = measure_case(CASE)

    assert isinstance(outcome, Failure)
    assert outcome.exit_code == 1
    assert "memory runs out" in outcome.message
    assert "--batch" in outcome.message


def test_a_process_killed_by_another_signal_is_told_by_its_name(worker):
    worker("import os, signal; os.kill(os.getpid(), signal.SIGABRT)")

    outcome = measure_case(CASE)

    assert isinstance(outcome, Failure)
    assert "SIGABRT" in outcome.message


def test_half_a_line_of_a_killed_process_is_no_result(worker):
    worker(
        "import os, signal, sys; sys.stdout.write('{\"row\": {'); sys.stdout.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )

    outcome = measure_case(CASE)

    assert isinstance(outcome, Failure)
    assert "killed" in outcome.message


def test_a_process_that_died_before_it_was_told_anything_is_a_failure(worker, monkeypatch):
    @contextmanager
    def started_and_dead(*args):
        with started(*args) as child:
            child.wait()
            yield child

    worker("import sys; sys.exit('no torch here')")
    monkeypatch.setattr(measure, "started", started_and_dead)

    outcome = measure_case(CASE)

    assert isinstance(outcome, Failure)
    assert (outcome.exit_code, outcome.message.splitlines()[-1]) == (1, "no torch here")


def test_what_stops_the_listener_stops_the_process_too(worker, tmp_path):
    """A Ctrl-C arrives while we listen; the process would otherwise run on, unheard."""
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    worker(
        f"import json, signal; alive = open({str(fifo)!r}, 'w')\n"
        "print(json.dumps({'frames': 1, 'wrong': 0}), flush=True); signal.pause()"
    )

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_case(CASE, interrupt)

    assert os.read(end, 1) == b""  # end of file: nobody holds the other end any more
    os.close(end)
