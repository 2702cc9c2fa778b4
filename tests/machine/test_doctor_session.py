"""onnxruntime in a process of its own: what its end means, and that it really runs."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.files.onnx_reader import read_model
from ecotta_rt.machine.doctor import session
from ecotta_rt.machine.doctor.child import STEPS
from ecotta_rt.machine.doctor.session import Outcome, check_session, run_child
from ecotta_rt.machine.doctor.tiny_graph import ANSWER, FRAMES_SHAPE, tiny_graph

RESULTS = {
    "numpy": "2.4.6",
    "safetensors": "0.8.0",
    "onnxruntime": "1.31.1",
    "session": "4",
    "run": "1e-07",
    "psutil": "1",
}


def output(until=None, **changed):
    """What the child says when it dies in the step `until`."""
    text = ""
    for step in STEPS:
        text += f"begin {step}\n"
        if step == until:
            return text
        text += f"end {step} {({**RESULTS, **changed})[step]}\n"
    return text


def test_it_runs_here():
    finding = check_session(run_child(threads=1))

    assert finding.status == "ok", finding
    assert "on 1 thread" in finding.says


def test_the_tiny_graph_is_what_our_own_reader_finds_in_it():
    scan = read_model(tiny_graph(), "tiny")

    assert [node.op for node in scan.graph.nodes] == ["Conv", "Relu"]
    assert scan.inline_bytes == 16 * 16 * 9 * 4
    assert [(value.name, value.dtype, value.shape) for value in scan.inputs] == [("frames", "float32", FRAMES_SHAPE)]


def test_the_tiny_graph_passes_the_standards_own_checker():
    onnx = pytest.importorskip("onnx")

    onnx.checker.check_model(onnx.load_from_string(tiny_graph()), full_check=True)


def test_the_tiny_graphs_answer_is_known_exactly():
    ort = pytest.importorskip("onnxruntime")
    started = ort.InferenceSession(tiny_graph(), providers=["CPUExecutionProvider"])

    (answer,) = started.run(None, {"frames": np.ones(FRAMES_SHAPE, np.float32)})

    np.testing.assert_array_equal(answer, np.full((1, 16, 6, 6), ANSWER, np.float32))


@pytest.mark.parametrize("step", ["numpy", "onnxruntime", "run"])
def test_an_illegal_instruction_is_said_in_plain_words(step):
    finding = check_session(Outcome(-signal.SIGILL, output(until=step)))

    assert finding.status == "problem"
    assert "illegal instruction: it was built for a newer processor" in finding.says
    assert "pip install" in finding.advice
    assert step in finding.says or step == "run"


def test_each_end_has_its_reason_and_advice(subtests):
    for code, complaint, said, advised in [
        (-signal.SIGKILL, "", "memory ran out", "free memory"),
        (-signal.SIGSEGV, "", "segmentation fault", "force-reinstall"),
        (-signal.SIGBUS, "", "bus error", "force-reinstall"),
        (-64, "", "signal 64", "force-reinstall"),
        (None, "", "too long", "dmesg"),
        (1, "", "code 1", "force-reinstall"),
        (1, "T\nModuleNotFoundError: No module named 'onnxruntime'\n", "No module named", "pip install onnxruntime"),
        (1, "ImportError: libgomp.so.1: cannot open shared object file", "libgomp", "libgomp1"),
        (1, "ImportError: version `GLIBC_2.28' not found", "GLIBC_2.28", "C library"),
        (1, "RuntimeError: pthread_create failed, thread limit", "pthread_create", "ulimit -u"),
    ]:
        with subtests.test(code=code, complaint=complaint, advised=advised):
            finding = check_session(Outcome(code, output(until="onnxruntime"), complaint))

            assert finding.status == "problem"
            assert said in finding.says
            assert advised in finding.advice


def test_a_wrong_answer_is_a_problem():
    assert "computes wrongly" in check_session(Outcome(0, output(run="0.5"))).says
    assert check_session(Outcome(0, output(run="nan"))).status == "problem"
    assert check_session(Outcome(0, output(run="what?"))).status == "problem"


def test_psutil_alone_failing_is_a_warning():
    finding = check_session(Outcome(-signal.SIGSEGV, output(until="psutil")))

    assert finding.status == "warning"
    assert "psutil does not" in finding.says


@given(st.one_of(st.none(), st.integers(-70, 255)), st.text(max_size=100), st.text(max_size=100))
def test_any_end_gets_a_finding(code, said, complaint):
    finding = check_session(Outcome(code, said, complaint))

    assert finding.says
    assert (finding.status == "ok") == (not finding.advice)


def stub(monkeypatch, code):
    """Another program in the child's place."""
    real = subprocess.run

    def run(command, **arguments):
        return real([sys.executable, "-c", code], **arguments)

    monkeypatch.setattr(session.subprocess, "run", run)


def test_a_child_that_really_dies_of_a_signal_is_understood(monkeypatch):
    stub(monkeypatch, "import os, signal; print('begin numpy', flush=True); os.kill(os.getpid(), signal.SIGILL)")

    finding = check_session(run_child(threads=1))

    assert "importing numpy failed: an illegal instruction" in finding.says


def test_a_child_that_hangs_is_ended(monkeypatch):
    stub(monkeypatch, "import signal; print('begin numpy', flush=True); signal.pause()")

    outcome = run_child(threads=1, timeout_s=0.5)

    assert outcome.code is None
    assert "too long" in check_session(outcome).says


def test_the_trial_run_leaves_nothing_in_the_home_folder(tmp_path, monkeypatch):
    """The telemetry of onnxruntime keeps an identifier and a database there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)

    assert check_session(run_child(threads=1)).status == "ok"
    assert not list(tmp_path.iterdir())


def test_an_interpreter_that_cannot_be_started_is_a_finding(monkeypatch):
    monkeypatch.setattr(session.sys, "executable", "/nonexistent/python")

    assert "cannot be started" in check_session(run_child(threads=1)).says
