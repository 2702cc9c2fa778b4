import pytest

from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.machine.control_group import GroupMemory
from ecotta_rt.machine.throttling import Firmware
from ecotta_rt.machine.vitals import Vitals, VitalsReader

KIB = 1024


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Board:
    """A Raspberry Pi in two folders."""

    def __init__(self, folder):
        self.proc, self.sys = folder / "proc", folder / "sys"
        self.clock = ManualClock()
        self.reads(resident=60000, pss=50000)
        write(self.proc / "self" / "cgroup", "0::/ours\n")
        write(self.proc / "meminfo", "MemTotal: 427008 kB\nMemAvailable:  298598 kB\n")
        write(self.sys / "fs" / "cgroup" / "ours" / "memory.max", "1000\n")
        write(self.sys / "fs" / "cgroup" / "ours" / "memory.current", "900\n")
        write(self.sys / "class" / "thermal" / "thermal_zone0" / "temp", "51000\n")
        write(self.sys / "get_throttled", "4\n")

    def reads(self, resident, pss):
        write(self.proc / "self" / "status", f"VmRSS:\t {resident} kB\n")
        write(
            self.proc / "self" / "smaps_rollup", f"Pss: {pss} kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: {pss - 11} kB\n"
        )

    def reader(self):
        firmware = Firmware("no-such-program", self.sys / "get_throttled", clock=self.clock)
        return VitalsReader(self.proc, self.sys, firmware, self.clock)


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def test_one_reading_has_it_all(board):
    assert board.reader()() == Vitals(
        pss_bytes=50000 * KIB,
        private_bytes=49990 * KIB,
        group=GroupMemory(900, 1000),
        available_bytes=298598 * KIB,
        temperature_c=51.0,
        throttled=4,
    )


def test_the_share_is_counted_anew_when_a_mebibyte_has_moved(board):
    read = board.reader()
    read()

    board.reads(resident=60500, pss=1)
    assert (read().pss_bytes, read().private_bytes) == (50500 * KIB, 50490 * KIB), "half a MiB more, not counted"

    board.reads(resident=61100, pss=50800)
    assert read().pss_bytes == 50800 * KIB


def test_the_share_is_counted_anew_after_a_while(board):
    read = board.reader()
    read()
    board.reads(resident=60000, pss=45000)

    board.clock.advance_s(4.9)
    assert read().pss_bytes == 50000 * KIB
    board.clock.advance_s(0.1)
    assert read().pss_bytes == 45000 * KIB


def test_what_a_system_does_not_tell_is_none(tmp_path):
    firmware = Firmware("no-such-program", tmp_path / "none")

    assert VitalsReader(tmp_path / "proc", tmp_path / "sys", firmware)() == Vitals()


@pytest.mark.parametrize("meminfo", ["", "MemAvailable:\n", "MemAvailable: much kB\n", "MemFree: 5 kB\n"])
def test_an_odd_meminfo_tells_nothing(board, meminfo):
    write(board.proc / "meminfo", meminfo)

    assert board.reader()().available_bytes is None


def test_this_machine_can_be_read():
    vitals = VitalsReader()()

    assert vitals.pss_bytes > 0
    assert vitals.available_bytes > 0
