import subprocess
import sys
from pathlib import Path

import pytest

from ecotta_rt.bench import process_memory
from ecotta_rt.errors import Unavailable

MIB = 1024 * 1024

# Its own process: pytest's own allocations would blur the figures.
ALLOCATE_AND_FREE = f"""
from ecotta_rt.bench.process_memory import peak_resident_bytes, reset_peak, resident_bytes
before = resident_bytes()
block = b"x" * (64 * {MIB})
held = resident_bytes()
del block
peak = peak_resident_bytes()
reset_peak()
print(before, held, peak, peak_resident_bytes())
"""


def run_python(code: str, checkout: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_peak_remembers_freed_memory_until_it_is_reset(checkout):
    before, held, peak, after_reset = map(int, run_python(ALLOCATE_AND_FREE, checkout).split())

    assert held >= before + 60 * MIB
    assert peak >= before + 60 * MIB
    assert after_reset <= before + 4 * MIB


def test_a_large_parent_does_not_raise_the_peak_of_its_child(checkout):
    """Which is what ru_maxrss gets wrong."""
    large = b"x" * (256 * MIB)

    peak = run_python("from ecotta_rt.bench import process_memory as m; print(m.peak_resident_bytes())", checkout)

    assert int(peak) < len(large) / 2


def test_a_system_without_proc_is_told_that_memory_cannot_be_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(process_memory, "_CLEAR_REFS", tmp_path / "none" / "clear_refs")

    with pytest.raises(Unavailable, match="Linux"):
        process_memory.resident_bytes()
    with pytest.raises(Unavailable, match="cannot be reset"):
        process_memory.reset_peak()


def test_a_status_file_without_the_field_is_told_so(monkeypatch, tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\n")
    monkeypatch.setattr(process_memory, "_STATUS", tmp_path / "status")

    with pytest.raises(Unavailable, match="no VmHWM"):
        process_memory.peak_resident_bytes()
