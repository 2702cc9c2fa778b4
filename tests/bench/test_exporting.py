"""Making what is missing, with a few lines of Python in place of the process that has torch."""

import sys

import pytest

from ecotta_rt.bench import exporting
from ecotta_rt.bench.bundles import ForwardOrder
from ecotta_rt.bench.exporting import forward_for
from ecotta_rt.errors import EcottaError, Unavailable

MAKER = """
import json, pathlib, sys
task = json.loads(sys.stdin.readline())
print(json.dumps({"graph": task["kind"], "done": 0, "total": 1}), flush=True)
path = pathlib.Path(task["path"])
path.parent.mkdir(exist_ok=True)
path.write_bytes(b"made")
"""


@pytest.fixture
def order(tmp_path, monkeypatch):
    monkeypatch.setenv("ECOTTA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.safetensors").write_bytes(b"weights")
    return ForwardOrder(str(tmp_path / "net.safetensors"), 4)


def stand_in(monkeypatch, code):
    monkeypatch.setattr(exporting, "_MAKER", (sys.executable, "-c", code))


def test_what_is_missing_is_made_once_and_told(order, monkeypatch):
    said = []
    stand_in(monkeypatch, MAKER)

    first = forward_for(order, said.append)
    stand_in(monkeypatch, "raise SystemExit('asked again')")

    assert forward_for(order, said.append) == first == order.path()
    assert first.read_bytes() == b"made"
    assert said == [f"making {first.name}, once, into {first.parent}", "  graph 1 of 1: ForwardOrder"]


def test_an_error_of_the_maker_keeps_its_exit_code(order, monkeypatch):
    stand_in(monkeypatch, 'print(\'{"error": "no rule for aten.fft", "exit_code": 2}\'); raise SystemExit(2)')

    with pytest.raises(EcottaError, match="could not be made: no rule for aten.fft") as caught:
        forward_for(order, lambda what: None)

    assert caught.value.exit_code == 2


def test_a_crash_of_the_maker_is_told_with_its_last_words(order, monkeypatch):
    stand_in(monkeypatch, "raise LookupError('nothing there')")

    with pytest.raises(EcottaError, match=r"exit code 1[\s\S]*LookupError: nothing there") as caught:
        forward_for(order, lambda what: None)

    assert caught.value.exit_code == 1


def test_without_torch_it_is_said_how_to_get_the_file(order, monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)

    with pytest.raises(Unavailable, match=r"needs torch.*\[prepare\].*ECOTTA_CACHE"):
        forward_for(order, lambda what: None)
