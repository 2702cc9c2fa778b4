"""What a run has learned is kept, whatever becomes of those who listen; and outputs are what they were before."""

import json
import os
import stat
import subprocess
from contextlib import suppress

import numpy as np
import pytest

from ecotta_rt.cli.main import main
from ecotta_rt.state import AdaptState


@pytest.fixture
def state(bundle):
    """Where the state goes when nobody says where."""
    return bundle.with_name("net.state.safetensors")


def learned(path):
    """Batches that a saved state has learned from."""
    return AdaptState.load(path).parameters["w"].item()


def run(*arguments):
    return main(["run", *map(str, arguments)])


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>/dev/full </dev/null"])
def test_a_full_or_closed_standard_error_changes_nothing_else(child, bundle, replay, state, redirection):
    done = child.in_shell(redirection, bundle, replay)

    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 20
    assert all(json.loads(line) for line in done.stdout.splitlines())
    assert learned(state) == 20


@pytest.mark.parametrize(("redirection", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left")])
def test_a_closed_or_full_standard_output_ends_the_run_with_the_state_saved(
    child, bundle, replay, state, redirection, why
):
    done = child.in_shell(redirection, bundle, replay)

    assert done.returncode == 74
    assert done.stderr.splitlines()[-1].startswith(f"ecotta: error: standard output cannot be written: {why}")
    assert "Traceback" not in done.stderr
    assert learned(state) == 1


def test_with_everything_closed_the_state_is_saved_and_nothing_lands_in_it(child, bundle, replay, state):
    done = child.in_shell("<&- >&- 2>&-", bundle, replay)

    assert (done.returncode, done.stdout, done.stderr) == (74, "", "")
    assert learned(state) == 1


@pytest.mark.parametrize("both", [False, True])
def test_a_reader_that_leaves_ends_the_run_with_the_state_saved_and_no_complaint(child, bundle, replay, state, both):
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        child.command(bundle, replay), stdout=writer, stderr=writer if both else subprocess.PIPE, text=True
    )
    os.close(writer)

    assert done.returncode == 74
    assert both or done.stderr.splitlines()[1].startswith("ecotta run: 1 frames,")
    assert both or len(done.stderr.splitlines()) == 2
    assert learned(state) == 1


def before_a_hanging_reader(command, name_and_batch):
    """The end of a run whose standard output is a full pipe that nobody reads, with a signal at a batch."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    variables = {**os.environ, "FAKE_SIGNAL": name_and_batch}
    done = subprocess.run(command, env=variables, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    os.close(reader)
    return done


def test_a_reader_that_hangs_does_not_keep_a_run_from_ending_with_the_state_saved(child, bundle, replay, state):
    done = before_a_hanging_reader(child.command(bundle, replay), "SIGTERM:1")

    assert done.returncode == 74
    assert "standard output: its reader takes no more" in done.stderr
    assert learned(state) == 1


def test_a_reader_that_hangs_does_not_keep_a_live_stream_from_going_on(child, bundle, state, tmp_path):
    """The signal comes with the third batch; of a folder nobody would get to the second."""
    av = pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")
    with av.open(tmp_path / "film.mkv", "w") as container:
        stream = container.add_stream("ffv1", rate=100)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for _ in range(100):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))

    done = before_a_hanging_reader(child.command(bundle, tmp_path / "film.mkv", "--realtime"), "SIGTERM:3")

    assert done.returncode == 74
    assert "ecotta run: 3 frames," in done.stderr
    assert "standard output: its reader takes no more" in done.stderr
    assert learned(state) == 3


def test_hanging_up_is_ignored_where_the_run_was_started_to_ignore_it(child, bundle, replay, state):
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *child.command(bundle, replay)]

    done = subprocess.run(command, env={**os.environ, "FAKE_SIGNAL": "SIGHUP:3"}, capture_output=True, text=True)

    assert done.returncode == 0
    assert learned(state) == 20


def test_the_state_is_saved_before_the_tally_is_told(runtime, bundle, replay, state, monkeypatch):
    there = []
    monkeypatch.setattr("ecotta_rt.cli.run.tell", lambda program, text: there.append(state.exists()))

    assert run(bundle, replay) == 0
    assert there == [False, True]  # what the bundle does with a stream; the tally


def test_a_linked_state_is_updated_where_it_lies_and_keeps_its_mode(runtime, bundle, replay, state, tmp_path):
    data = tmp_path / "data partition"
    data.mkdir()
    state.symlink_to(data / "net.state")
    assert run(bundle, replay, "--limit", 3) == 0
    (data / "net.state").chmod(0o600)

    assert run(bundle, replay, "--limit", 4) == 0

    assert state.is_symlink()
    assert learned(data / "net.state") == 7
    assert stat.S_IMODE((data / "net.state").stat().st_mode) == 0o600
    assert [path.name for path in data.iterdir()] == ["net.state"]


@pytest.mark.parametrize("option", ["--state", "--out"])
def test_a_pipe_that_nobody_reads_is_refused_before_the_first_frame(runtime, bundle, replay, tmp_path, capsys, option):
    os.mkfifo(tmp_path / "pipe")

    assert run(bundle, replay, option, tmp_path / "pipe") == {"--state": 2, "--out": 74}[option]
    assert "pipe" in capsys.readouterr().err
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_pipe_in_the_place_of_a_bundle_is_refused(bundle, replay, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")

    for command in (["run", "{}", replay], ["inspect", "{}"], ["plan", "{}", "--device", "pixel"]):
        assert main([word.format(tmp_path / "pipe") for word in command]) == 4
        assert "it is a pipe, not a regular file" in capsys.readouterr().err


def test_answers_go_into_a_pipe_and_the_null_device(runtime, bundle, replay, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    assert run(bundle, replay, "--out", pipe, "--no-state") == 0
    with open(reader) as file:
        assert len(file.readlines()) == 20
    assert run(bundle, replay, "--out", "/dev/null", "--no-state") == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_missing_folder_of_the_state_is_made_before_the_first_frame(runtime, bundle, replay, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(runtime, "load", classmethod(lambda *_, **__: seen.append((tmp_path / "a" / "b").is_dir())))

    run(bundle, replay, "--state", tmp_path / "a" / "b" / "s")

    assert seen == [True]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told_before_the_first_frame(runtime, bundle, replay, tmp_path, capsys):
    tmp_path.chmod(0o555)

    assert run(bundle, replay) == 74
    assert run(bundle, replay, "--no-adapt") == 0
    tmp_path.chmod(0o755)

    assert "net.state.safetensors cannot be written: Permission denied" in capsys.readouterr().err


def test_a_state_that_another_run_has_is_a_usage_error_with_its_process(runtime, bundle, replay, state, capsys):
    from ecotta_rt.files.lock import locked

    with locked(state):
        assert run(bundle, replay) == 2
        assert f"is in use by another run (process {os.getpid()}); end that one" in capsys.readouterr().err
        assert run(bundle, replay, "--no-state") == 0
        assert run(bundle, replay, "--no-adapt") == 0
    assert run(bundle, replay) == 0


def test_a_truncated_state_says_how_to_go_on_so_that_restarts_can_end(runtime, bundle, replay, state, capsys):
    run(bundle, replay)
    state.write_bytes(state.read_bytes()[:100])

    assert run(bundle, replay) == 4
    assert "--fresh starts anew and replaces it" in capsys.readouterr().err
    assert run(bundle, replay, "--fresh") == 0
    assert learned(state) == 20


def test_what_killed_runs_left_is_removed_at_the_start(runtime, bundle, replay, state):
    for number in (17, 18):
        state.with_name(f".{state.name}.{number}.tmp").write_bytes(b"half")

    run(bundle, replay, "--limit", 1)

    assert [path.name for path in state.parent.iterdir() if path.name.startswith(".")] == []


def test_names_that_are_no_text_here_are_answered_and_shown_as_they_are(child, bundle, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in (b"caf\xe9.npy", "Käfer.npy".encode()):
        np.save(os.path.join(os.fsencode(folder), name).decode(errors="surrogateescape"), np.zeros((2, 2, 3), np.uint8))

    for variables in ({}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = child(bundle, folder, "--fresh", **variables)

        assert done.returncode == 0, done.stderr
        assert {json.loads(line)["name"] for line in done.stdout.splitlines()} == {"caf\\xe9.npy", "Käfer.npy"}
        assert "Traceback" not in done.stderr
