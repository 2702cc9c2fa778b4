import json
import subprocess
import sys

import pytest

from ecotta_rt.cli import doctor
from ecotta_rt.cli.main import main
from ecotta_rt.machine.doctor.finding import ok, problem, warning


@pytest.fixture
def found(monkeypatch):
    """Sets what the examination finds; returns what it was asked."""
    asked = {}

    def find(*findings):
        def examine(folder, **options):
            asked.update(options, folder=folder)
            return findings

        monkeypatch.setattr(doctor, "examine", examine)
        return asked

    return find


def test_a_healthy_machine_is_exit_code_0(found, capsys):
    found(ok("python", "Python 3.11"), warning("memory", "80 MiB", "free some"))

    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "ok       python  Python 3.11"
    assert shown[1] == "warning  memory  80 MiB"
    assert shown[2].split() == ["try:", "free", "some"]
    assert shown[-1] == "1 warning"


def test_a_problem_is_exit_code_69(found, capsys):
    found(ok("python", "Python 3.11"), problem("a", "b", "c"), problem("d", "e", "f"))

    assert main(["doctor"]) == 69
    assert capsys.readouterr().out.endswith("2 problems\n")


def test_json_says_the_same(found, capsys):
    found(problem("onnxruntime", "not installed", "pip install it"))

    assert main(["doctor", "--json"]) == 69
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == doctor.SCHEMA
    assert report["healthy"] is False
    assert report["findings"] == [
        {"about": "onnxruntime", "status": "problem", "says": "not installed", "advice": "pip install it"}
    ]


def test_options_reach_the_examination(found, tmp_path):
    asked = found(ok("a", "b"))

    assert main(["doctor", "--quick", "--state", str(tmp_path), "--device", "raspberry-pi-5-4gb"]) == 0
    assert asked["quick"] is True
    assert asked["folder"] == tmp_path.resolve()
    assert asked["profile"].id == "raspberry-pi-5-4gb"


def test_an_unknown_device_is_a_usage_error(capsys):
    assert main(["doctor", "--device", "raspberry-pi-9"]) == 2
    assert "unknown device" in capsys.readouterr().err


def test_a_state_folder_that_is_missing_makes_a_health_check_fail(tmp_path, capsys):
    assert main(["doctor", "--quick", "--state", str(tmp_path / "none")]) == 69
    assert "is no folder" in capsys.readouterr().out


def test_a_health_check_loads_no_library(tmp_path):
    """It runs every minute beside the process that it is about, in the same memory limit."""
    code = (
        "import sys; from ecotta_rt.cli.main import main; main(sys.argv[1:]); "
        "print('loaded', *{name.partition('.')[0] for name in sys.modules} & {'numpy', 'onnxruntime', 'psutil'})"
    )
    command = [sys.executable, "-c", code, "doctor", "--quick", "--state", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "loaded"
