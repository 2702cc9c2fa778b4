"""examples/fleet/ as its readers run it: with Flower's own processes, on this machine."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.fleet.folder import state_path
from fixtures.flower import require_flwr

require_flwr()
pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


@pytest.fixture
def states(checkout, tmp_path):
    """Makes states of so many boards that differ a little."""
    source = read_bundle(checkout / "tests" / "hostile" / "small.ecotta").initial_state()

    def made(folder, boards):
        folder.mkdir(parents=True)
        for board in range(boards):
            rng = np.random.default_rng(board)
            parameters = {
                name: array + rng.normal(0, 0.01, array.shape).astype(np.float32)
                for name, array in source.parameters.items()
            }
            replace(source, parameters=parameters).save(state_path(folder, f"{board:03d}"))
        return [state_path(folder, f"{board:03d}") for board in range(boards)]

    return made


def run(script, *arguments, cwd, **environment):
    """All that it says; it and all that it started are ended after ten minutes."""
    if shutil.which("flower-superlink", path=BIN) is None:
        pytest.skip("the commands of Flower are not beside this Python")
    variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
    process = subprocess.Popen(
        [str(script), *map(str, arguments)],
        cwd=cwd,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told = process.communicate(timeout=600)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        told = process.communicate()[0]
    assert process.returncode == 0, told
    return told


def test_a_fleet_of_50_that_loses_5_in_each_round_is_merged_as_by_hand(checkout, states, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: flwr[simulation]")
    states(tmp_path / "sim" / "states", 50)

    told = run(checkout / "examples" / "fleet" / "simulate.sh", "sim", cwd=tmp_path, PORT="39291")

    assert "45 states of 50 nodes: the same" in told
    assert len([*(tmp_path / "sim" / "taken").iterdir()]) == 5  # of those that asked, none was lost in all rounds


def test_a_round_runs_over_tls_with_nodes_that_prove_who_they_are(checkout, states, tmp_path):
    door, yard = states(tmp_path / "states", 2)

    run(
        checkout / "examples" / "fleet" / "deploy.sh",
        "work",
        f"door={door}",
        f"yard={yard}",
        cwd=tmp_path,
        PORT="39391",
    )

    merged = (tmp_path / "work" / "merged" / "merged-1.state.safetensors").read_bytes()
    for name in ("door", "yard"):
        assert (tmp_path / "work" / name / f"{name}.merged.state.safetensors").read_bytes() == merged
