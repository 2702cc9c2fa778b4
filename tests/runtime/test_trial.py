"""A bundle that is new is tried in a child: what ends that, hangs or takes too much ends no stream."""

import os
import select
import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime")

from ecotta_rt.cli.main import main
from ecotta_rt.errors import BudgetExceeded, InputFileError, UsageError
from ecotta_rt.runtime import tried
from ecotta_rt.runtime.trial import Trial, try_bundle
from ecotta_rt.runtime.tried import remembered_in, try_once

MIB = 1 << 20


@pytest.fixture
def small(checkout):
    return checkout / "tests" / "hostile" / "small.ecotta"


@pytest.fixture
def child(monkeypatch, tmp_path):
    """Puts a shell script in the place of the child."""

    def child(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return child


@pytest.mark.parametrize("ways", [{}, {"adapt": False, "options": {"threads": 1, "optimisation": "extended"}}])
def test_a_sound_bundle_tells_what_it_took(small, ways):
    trial = try_bundle(small, ways)

    assert 10 * MIB < trial.peak_bytes < 200 * MIB
    assert min(trial.load_ms, trial.step_ms) > 0


def test_what_the_child_refuses_is_refused_with_its_words(small, tmp_path):
    with pytest.raises(UsageError, match="batch=7: "):
        try_bundle(small, {"batch": 7})
    broken = tmp_path / "broken.ecotta"
    broken.write_bytes(small.read_bytes()[:-1])
    with pytest.raises(InputFileError, match="truncated"):
        try_bundle(broken, {})
    with pytest.raises(BudgetExceeded, match="nothing fits"):
        raise_again()


def raise_again():
    from ecotta_rt.runtime.trial import _raised

    facts = {"need_bytes": 2, "limit_bytes": 1, "largest_tenant": "a"}
    raise _raised({"error": "nothing fits", "code": 3, "facts": facts})


@pytest.mark.parametrize("name", ["FPE", "SEGV", "ABRT"])
def test_a_bundle_that_ends_the_process_is_refused_by_the_name_of_the_signal(child, small, name):
    child(f"kill -{name} $$")

    with pytest.raises(InputFileError, match=f"small.ecotta: .* one step of it ended that with SIG{name}$"):
        try_bundle(small, {})


def test_one_that_is_killed_is_too_large(child, small):
    child("kill -KILL $$")

    with pytest.raises(BudgetExceeded, match="SIGKILL; out of memory"):
        try_bundle(small, {})


def test_one_that_never_ends_is_refused(child, small):
    child("exec sleep 60")

    with pytest.raises(InputFileError, match="made no step within 0.2 seconds"):
        try_bundle(small, {}, timeout_s=0.2)


@pytest.mark.parametrize("script", ["exit 7", "echo what; exit 7", "echo what >&2; exit 7"])
def test_one_that_says_nothing_sensible_is_refused(child, small, script):
    child(script)

    with pytest.raises(InputFileError, match="ended with exit code 7"):
        try_bundle(small, {})


@pytest.fixture
def trials(monkeypatch, tmp_path):
    """The trials that were made; none of them takes any time."""
    made = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tried, "try_bundle", lambda path, ways: made.append(dict(ways)) or Trial(1, 1.0, 1.0))
    return made


def test_a_bundle_is_tried_once_each_way_and_again_when_it_has_changed(trials, small, parts_of, tmp_path):
    assert [try_once(small, {"batch": 2}) is None for _ in range(3)] == [False, True, True]
    assert try_once(small, {"batch": None}) is not None
    copy = tmp_path / "copy.ecotta"
    copy.write_bytes(small.read_bytes())
    assert try_once(copy, {"batch": 2}) is None
    assert try_once(parts_of(small), {"batch": 2}) is not None
    assert len(trials) == 3


@pytest.fixture
def parts_of(tmp_path):
    """Another bundle: the one of an older version."""
    return lambda small: small.with_name("first-version.ecotta")


def test_what_is_remembered_stays_small_and_damage_to_it_costs_a_trial(trials, small):
    remembered_in().parent.mkdir(parents=True)
    remembered_in().write_text("x" * 64 + "\n" + "\n".join(f"{number:064x}" for number in range(1000)))
    try_once(small, {})
    assert remembered_in().stat().st_size < 20_000
    assert try_once(small, {}) is None

    remembered_in().write_bytes(b"\xff\x00")
    assert try_once(small, {}) is not None


def test_where_nothing_can_be_remembered_it_is_tried_each_time(trials, small, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert [try_once(small, {}) is None for _ in range(2)] == [False, False]


def test_a_user_without_a_home_tries_each_time_and_gets_no_folder(trials, small, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user number that nobody knows
    monkeypatch.chdir(tmp_path)

    assert [try_once(small, {}) is None for _ in range(2)] == [False, False]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_the_child_ends_with_the_run_that_asked_for_it():
    parent = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import json, sys, time; from ecotta_rt.runtime import trial;"
    "trial._tried = lambda *_: (print(flush=True), time.sleep(600));"
    "sys.argv[1:] = [json.dumps(dict(path=0, ways=0))]; trial.main()"], stdout=subprocess.PIPE)
child.stdout.read(1)
print(child.pid, flush=True)
child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        watched = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
    try:
        assert select.select([watched], [], [], 30)[0]
    finally:
        os.close(watched)


def test_a_run_of_a_bundle_that_ends_the_process_does_not_begin(child, small, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a.ppm").write_bytes(b"P6 4 4 255 " + bytes(48))
    child("kill -FPE $$")

    code = main(["run", str(small), str(tmp_path / "a.ppm"), "--no-state", "--trial", "first"])

    out, err = capsys.readouterr()
    assert (code, out) == (4, "")
    assert "ended that with SIGFPE" in err
    assert not remembered_in().exists()


def test_that_a_trial_was_killed_is_a_warning_where_a_guard_watches(child, small, tmp_path, capsys):
    (tmp_path / "a.ppm").write_bytes(b"P6 4 4 255 " + bytes(48))
    child("kill -KILL $$")
    command = ["run", str(small), str(tmp_path / "a.ppm"), "--no-state", "--trial", "always"]

    assert main(command) == 0
    assert "warning: " in capsys.readouterr().err
    assert main([*command, "--guard", "off"]) == 3
