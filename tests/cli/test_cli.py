import argparse
import json
import subprocess
import sys
from importlib import import_module

import pytest

from ecotta_rt import errors
from ecotta_rt.cli import state, student
from ecotta_rt.cli.main import COMMANDS, main, run_command
from ecotta_rt.machine.device import device_ids

RUN = "import sys; from ecotta_rt.cli.main import main; sys.exit(main())"


def raising(error):
    def command(argv):
        raise error

    return command


EXIT_CODES = [
    (errors.EcottaError("e"), 1),
    (errors.UsageError("e"), 2),
    (errors.NetworkError("e"), 2),
    (errors.BudgetExceeded("e", need_bytes=2, limit_bytes=1, largest_tenant="conv1"), 3),
    (errors.InputFileError("e"), 4),
    (errors.CheckpointError("e"), 4),
    (errors.BadFrames("e"), 4),
    (errors.Unavailable("e"), 69),
    (errors.TransferError("e"), 74),
    (errors.ConfigurationError("e"), 78),
]


def test_a_users_mistake_is_one_line_on_stderr_and_its_exit_code(capsys, subtests):
    for error, code in EXIT_CODES:
        with subtests.test(error=error, code=code):
            assert run_command("ecotta", raising(error), []) == code

            printed = capsys.readouterr()
            assert printed.out == ""
            assert printed.err == "ecotta: error: e\n"


def test_ctrl_c_ends_with_130_and_no_traceback(capsys):
    assert run_command("ecotta", raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == "ecotta: interrupted\n"


def test_a_full_disk_is_an_input_output_error(capsys):
    assert run_command("ecotta", raising(OSError(28, "No space left on device", "out.json")), []) == 74
    assert "No space left on device: 'out.json'" in capsys.readouterr().err


def test_our_bug_is_one_line_that_says_so(capsys):
    assert run_command("ecotta", raising(KeyError("x\ny")), []) == 1

    message = capsys.readouterr().err
    assert message.startswith("ecotta: error: KeyError: ")
    assert "bug in ecotta_rt" in message
    assert "test_cli.py:" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("x"), errors.UsageError("x")])
def test_on_request_the_traceback_is_shown(error, capsys, monkeypatch):
    monkeypatch.setenv("ECOTTA_DEBUG", "1")

    run_command("ecotta", raising(error), [])

    assert "Traceback" in capsys.readouterr().err


def test_a_missing_extra_is_named(capsys):
    missing = ModuleNotFoundError("No module named 'torch._C'", name="torch._C")

    assert run_command("ecotta", raising(missing), []) == 69
    assert capsys.readouterr().err == (
        "ecotta: error: torch is not installed; it comes with: pip install '.[prepare]' in a checkout of ecotta_rt\n"
    )


@pytest.mark.parametrize(("program", "extra"), [("ecotta", "prepare"), ("ecotta-bench", "bench")])
def test_the_bench_names_the_extra_that_brings_all_it_needs(program, extra, capsys):
    run_command(program, raising(ModuleNotFoundError("No module named 'rich'", name="rich")), [])

    assert f"'.[{extra}]'" in capsys.readouterr().err


def test_a_missing_module_that_no_extra_brings_is_our_bug(capsys):
    assert run_command("ecotta", raising(ModuleNotFoundError("No module named 'gone'", name="gone")), []) == 1
    assert "bug in ecotta_rt" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "code"), [(None, 0), (0, 0), (2, 2), ("message", 1)])
def test_argparse_may_end_the_program_by_itself(raised, code):
    assert run_command("ecotta", raising(SystemExit(raised)), []) == code


def test_help_lists_every_command_with_examples_and_exit_codes(capsys):
    assert main(["--help"]) == 0

    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed and line in printed for name, line in COMMANDS.items())
    assert "examples:" in printed
    assert "78 bad configuration" in printed


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_the_packages(option, capsys):
    import ecotta_rt

    assert main([option]) == 0
    assert capsys.readouterr().out == f"ecotta {ecotta_rt.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no command given"),
        (["device"], "unknown command 'device'; did you mean devices?"),
        (["zzz"], "unknown command 'zzz'. Known: demo, student, prepare, tune"),
        (["devices", "zzz"], "unknown device 'zzz'"),
    ],
)
def test_a_wrong_word_is_a_usage_error_with_advice(argv, message, capsys):
    assert main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--nonsense"], ["devices", "--nonsense"], ["devices", "pixel", "extra"]])
def test_a_wrong_option_is_a_usage_error(argv, capsys):
    assert main(argv) == 2
    assert "usage: ecotta" in capsys.readouterr().err


def test_every_command_keeps_the_convention_and_shows_examples(capsys, subtests):
    inner = [f"{module.NAME} {name}" for module in (state, student) for name in module.SUBCOMMANDS]
    for name in [*COMMANDS, *inner]:
        with subtests.test(name=name):
            if name != "devices":
                pytest.importorskip("torch")
            module = import_module(f"ecotta_rt.cli.{name.replace(' ', '_')}")

            assert name.rpartition(" ")[2] == module.NAME
            module.add_arguments(argparse.ArgumentParser())
            assert callable(module.run)
            assert main([*name.split(), "--help"]) == 0
            printed = capsys.readouterr().out
            assert f"ecotta {name}" in printed
            assert "examples:" in printed.lower()


def test_devices_lists_every_device(capsys):
    assert main(["devices"]) == 0

    printed = capsys.readouterr().out
    assert all(device_id in printed for device_id in device_ids())


def test_one_device_is_shown_with_marks_and_sources(capsys):
    assert main(["devices", "raspberry-pi-zero-2w"]) == 0

    printed = capsys.readouterr().out
    assert "visible_bytes        417.0 MiB (437,256,192 bytes)" in printed
    assert "measured: https://docs.printercow.com" in printed
    assert "64-bit system" in printed


def test_devices_as_json_hold_figures_with_marks(capsys):
    assert main(["devices", "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert main(["devices", "pixel", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)

    assert every["schema"] == 1
    assert [device["id"] for device in every["devices"]] == list(device_ids())
    assert one["devices"][0]["host"] == "native"
    assert one["devices"][0]["default_limit_bytes"]["mark"] == "estimated"


def test_a_broken_profile_ends_with_78(tmp_path, capsys):
    path = tmp_path / "board.toml"
    path.write_text("schema = 1\n")

    assert main(["devices", str(path)]) == 78
    assert f"{path}, line 1: field 'id': missing" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_drama():
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "devices"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()

    message = process.stderr.read()
    process.stderr.close()

    assert process.wait() == 74
    assert message == ""


def test_a_pipe_that_breaks_elsewhere_is_told(capsys):
    assert run_command("ecotta-bench", raising(BrokenPipeError(32, "Broken pipe")), []) == 74
    assert capsys.readouterr().err == "ecotta-bench: error: the reader of a pipe that we write to has gone\n"


def test_the_package_is_a_program_too():
    done = subprocess.run([sys.executable, "-m", "ecotta_rt", "-V"], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ecotta ")


@pytest.mark.parametrize(
    ("redirection", "code", "told"),
    [
        (">&-", 74, "ecotta: error: [Errno 9] Bad file descriptor\n"),
        (">/dev/full", 74, "ecotta: error: [Errno 28] No space left on device\n"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
    ],
)
def test_closed_and_full_streams_are_no_bug_of_ours(redirection, code, told):
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", RUN, "devices"]

    done = subprocess.run(command, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (code, told)


def test_a_complaint_into_a_full_standard_error_keeps_its_exit_code():
    command = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", sys.executable, "-c", RUN, "zzz"]

    assert subprocess.run(command).returncode == 2


def test_a_closed_descriptor_is_occupied_so_that_no_file_takes_its_number(tmp_path):
    code = (
        "import sys; from ecotta_rt.cli.main import run_command\n"
        f"def command(argv):\n    assert open({str(tmp_path / 'file')!r}, 'w').fileno() > 2\n    return 0\n"
        "sys.exit(run_command('x', command, []))"
    )

    done = subprocess.run(["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", code])

    assert done.returncode == 0


def test_a_name_that_cannot_be_printed_is_shown_with_escapes():
    code = "import sys; from ecotta_rt.cli.main import run_command; "
    code += r"sys.exit(run_command('x', lambda argv: print('caf\udce9'), []))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONIOENCODING": "ascii"}
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "caf\\udce9\n", "")


def test_devices_runs_where_no_extra_is_installed():
    blocked = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'scipy', 'rich', 'numpy', 'onnxruntime'])); "
    )

    done = subprocess.run([sys.executable, "-c", blocked + RUN, "devices"], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
