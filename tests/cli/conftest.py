"""What tests of `ecotta run` share: the fake runtime in its place, here and in processes of their own."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecotta_rt.machine import vitals
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.run import least_memory

FAKE = Path(__file__).parent / "fake_runtime.py"

CHILD = f"""\
import importlib.util, sys
spec = importlib.util.spec_from_file_location("ecotta_rt.runtime.engine", {str(FAKE)!r})
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
from ecotta_rt.cli.main import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal():
    """Tests that nohup or a shell started in the background are to ignore some, and so would their children."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    ignored = [number for number in usual if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def runtime(monkeypatch):
    """The fake class `Runtime`, in the place of the real one."""
    spec = importlib.util.spec_from_file_location("ecotta_rt.runtime.engine", FAKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.setattr(vitals, "VitalsReader", lambda: Vitals)  # whatever this machine is doing
    monkeypatch.setattr(least_memory, "held_memory", lambda: None)  # and however large the process of the tests is
    return module.Runtime


@pytest.fixture
def bundle(tmp_path):
    """What the fake takes for a bundle: its batch, 1."""
    (tmp_path / "net.ecotta").write_text("1")
    return tmp_path / "net.ecotta"


@pytest.fixture
def replay(tmp_path):
    """Twenty labelled frames, of which the fake gets all right but the first."""
    folder = tmp_path / "replay"
    folder.mkdir()
    labels = np.arange(20) % 10
    np.save(folder / "fog.npy", np.tile(labels.astype(np.uint8)[:, None, None, None], (1, 32, 32, 3)))
    labels[0] = 7
    np.save(folder / "labels.npy", labels)
    return f"replay:{folder}"


class Child:
    """`ecotta run` with the fake runtime and without a guard, in a process of its own."""

    code = CHILD

    def command(self, *arguments):
        return [sys.executable, "-c", CHILD, "run", *map(str, arguments), "--guard", "off"]

    def __call__(self, *arguments, **environment):
        """Its end, with all that it wrote."""
        command, variables = self.command(*arguments), {**os.environ, **environment}
        return subprocess.run(command, env=variables, capture_output=True, text=True)

    def in_shell(self, redirections, *arguments, **environment):
        """As a shell starts it, with redirections such as `2>/dev/full`."""
        command = ["sh", "-c", f'exec "$@" {redirections}', "sh", *self.command(*arguments)]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.fixture
def child():
    return Child()
