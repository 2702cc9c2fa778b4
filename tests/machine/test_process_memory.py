import subprocess
import sys
from pathlib import Path

import pytest

from ecotta_rt.errors import Unavailable
from ecotta_rt.machine import process_memory

MIB = 1024 * 1024

# Its own process: pytest's own allocations would blur the figures.
ALLOCATE_AND_FREE = f"""
from ecotta_rt.machine.process_memory import peak_resident_bytes, reset_peak, resident_bytes
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

    peak = run_python("from ecotta_rt.machine import process_memory as m; print(m.peak_resident_bytes())", checkout)

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


ROLLUP = """\
00400000-7ffd5b3f2000 ---p 00000000 00:00 0                              [rollup]
Rss:               57640 kB
Pss:               40212 kB
Pss_Dirty:         24980 kB
Private_Clean:      9872 kB
Private_Dirty:     24820 kB
"""


@pytest.fixture
def proc(tmp_path):
    """A procfs of a process, in a folder."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tpython\nVmHWM:\t   60000 kB\nVmRSS:\t   57640 kB\nThreads:\t2\n")
    (tmp_path / "self" / "smaps_rollup").write_text(ROLLUP)
    return tmp_path


def test_a_process_counts_its_share_of_what_it_has_with_others(proc):
    assert process_memory.held_memory(proc) == process_memory.Held(57640 * 1024, 40212 * 1024, (9872 + 24820) * 1024)


@pytest.mark.parametrize("rollup", [None, "", "Pss: many kB\n", "Pss:\n"])
def test_where_the_kernel_tells_no_share_all_that_is_resident_counts(proc, rollup):
    path = proc / "self" / "smaps_rollup"
    path.unlink() if rollup is None else path.write_text(rollup)

    assert process_memory.held_memory(proc) == process_memory.Held(57640 * 1024, 57640 * 1024, None)


def test_where_nothing_tells_nothing_is_known(tmp_path):
    assert process_memory.held_memory(tmp_path) is None


def test_this_process_has_no_more_than_is_resident():
    held = process_memory.held_memory()

    assert 0 < held.pss_bytes <= process_memory.resident_bytes() + MIB
