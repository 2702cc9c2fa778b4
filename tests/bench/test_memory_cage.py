"""Control groups of both versions in folders that stand in for the kernel's; real ones where they may be made."""

import os
import subprocess
import sys

import pytest

from ecotta_rt.bench import memory_cage
from ecotta_rt.bench.measure import measure_case
from ecotta_rt.bench.memory_cage import CageRecord, MemoryCage, leave_cage
from ecotta_rt.bench.results import Failure, Row
from ecotta_rt.errors import BudgetExceeded, TransferError, Unavailable

LIMIT = 200_000_000

V1_FILES = {
    "memory.limit_in_bytes": "9223372036854771712",
    "memory.memsw.limit_in_bytes": "9223372036854771712",
    "memory.swappiness": "60",
    "memory.max_usage_in_bytes": "8192",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
    "cgroup.procs": "",
}
V2_FILES = {
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.oom.group": "0",
    "memory.peak": "8192",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 1",
    "cgroup.procs": "",
}


class Kernel:
    """Fills each new group with files, as the kernel does, and takes them away with it.

    Attributes:
        groups: Those that were made.
        files: Name -> content of a new group's files.
    """

    def __init__(self, tmp_path, monkeypatch):
        self.proc, self.root = tmp_path / "proc", tmp_path / "cgroup"
        self.groups, self.files = [], {}
        self._mkdir, self._rmdir = os.mkdir, os.rmdir
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "meminfo").write_text("MemTotal: 427008 kB\n")
        self.root.mkdir()
        monkeypatch.setattr(memory_cage.os, "mkdir", self.mkdir)
        monkeypatch.setattr(memory_cage.os, "rmdir", self.rmdir)

    def mkdir(self, path, *mode, **options):
        self._mkdir(path, *mode, **options)
        if self.root in path.parents and path.name.startswith("ecotta-"):
            self.groups.append(path)
            for name, content in self.files.items():
                (path / name).write_text(f"{content}\n")

    def rmdir(self, path):
        for file in path.iterdir():
            file.unlink()
        self._rmdir(path)

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def cage(self, limit_bytes=LIMIT):
        return MemoryCage(limit_bytes, proc=self.proc, cgroup_root=self.root)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    return Kernel(tmp_path, monkeypatch)


@pytest.fixture
def version_1(kernel):
    kernel.files = dict(V1_FILES)
    kernel.write(kernel.proc / "self" / "cgroup", "8:pids:/\n4:memory:/outer/ours\n0::/\n")
    (kernel.root / "memory" / "outer" / "ours").mkdir(parents=True)
    return kernel


@pytest.fixture
def version_2(kernel):
    """A process in a service, whose group may have no groups with limits below it; the slice above may."""
    kernel.files = dict(V2_FILES)
    kernel.write(kernel.proc / "self" / "cgroup", "0::/app.slice/ours.scope\n")
    for group, below in (("", "memory pids"), ("app.slice", "memory"), ("app.slice/ours.scope", "")):
        kernel.write(kernel.root / group / "cgroup.controllers", "memory pids\n")
        kernel.write(kernel.root / group / "cgroup.subtree_control", f"{below}\n")
    return kernel


@pytest.fixture
def occupied(version_2, monkeypatch):
    """What the kernel says when a group with processes is asked to limit groups below it."""
    write = memory_cage._write

    def refuse(path, text):
        if path.name == "cgroup.subtree_control":
            raise OSError(16, "Device or resource busy", str(path))
        write(path, text)

    monkeypatch.setattr(memory_cage, "_write", refuse)
    return version_2


def read(group, name):
    return (group / name).read_text().strip()


def test_version_1_gets_a_group_below_ours_with_the_limit_and_no_swap(version_1):
    with version_1.cage() as cage:
        (group,) = version_1.groups
        assert group.parent == version_1.root / "memory" / "outer" / "ours"
        assert read(group, "memory.limit_in_bytes") == read(group, "memory.memsw.limit_in_bytes") == f"{LIMIT}"
        assert read(group, "memory.swappiness") == "0"
        assert cage.version == 1
        assert cage.way_out == str(group.parent / "cgroup.procs")

    assert not group.exists()


def test_version_1_without_accounting_of_swap_still_does_not_swap(version_1):
    del version_1.files["memory.memsw.limit_in_bytes"]

    with version_1.cage():
        (group,) = version_1.groups
        assert read(group, "memory.swappiness") == "0"
        assert not (group / "memory.memsw.limit_in_bytes").exists()


def test_inside_a_container_the_mount_itself_is_our_group(version_1):
    """The path is the host's there, and nothing of it is mounted."""
    version_1.write(version_1.proc / "self" / "cgroup", "4:memory:/kubepods/pod1\n")

    with version_1.cage():
        assert version_1.groups[0].parent == version_1.root / "memory"


def test_version_2_gets_a_group_beside_ours_where_ours_has_processes(occupied):
    with occupied.cage() as cage:
        (group,) = occupied.groups
        assert group.parent == occupied.root / "app.slice"
        assert (read(group, "memory.max"), read(group, "memory.swap.max")) == (f"{LIMIT}", "0")
        assert read(group, "memory.oom.group") == "1"
        assert cage.version == 2
        assert cage.way_out == str(occupied.root / "app.slice" / "ours.scope" / "cgroup.procs")

    assert not group.exists()


def test_version_2_switches_limits_on_below_a_group_that_allows_it(version_2):
    with version_2.cage():
        ours = version_2.root / "app.slice" / "ours.scope"
        assert version_2.groups[0].parent == ours
        assert read(ours, "cgroup.subtree_control") == "+memory"


def test_version_2_is_found_where_it_is_mounted_beside_version_1(version_2):
    beside = version_2.root / "unified"
    beside.mkdir()
    for name in ("app.slice", "cgroup.controllers", "cgroup.subtree_control"):
        (version_2.root / name).rename(beside / name)

    with version_2.cage():
        assert beside in version_2.groups[0].parents


def test_version_2_on_a_machine_that_cannot_keep_a_group_from_swapping_is_refused(version_2):
    del version_2.files["memory.swap.max"]
    with version_2.cage():
        pass  # there is no swap

    version_2.write(version_2.proc / "swaps", "Filename Type Size Used Priority\n/swap file 102396 0 -2\n")
    with pytest.raises(Unavailable, match="this machine swaps"), version_2.cage():
        pass

    assert not any(group.exists() for group in version_2.groups)


def test_peak_and_kills_are_read_in_version_2(version_2):
    with version_2.cage() as cage:
        assert cage.held() == CageRecord(peak_bytes=8192, oom_kills=1)

    version_2.files.pop("memory.peak")  # before Linux 5.19
    with version_2.cage() as cage:
        assert cage.held() == CageRecord(peak_bytes=None, oom_kills=1)


def test_peak_and_kills_are_read_in_version_1(version_1):
    with version_1.cage() as cage:
        (version_1.groups[0] / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 1\noom_kill 3\n")
        assert cage.held() == CageRecord(peak_bytes=8192, oom_kills=3)


def test_without_permission_the_reason_is_told_and_nothing_is_left(version_1, monkeypatch):
    def refuse(path, *mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(memory_cage.os, "mkdir", refuse)

    with pytest.raises(Unavailable, match=r"ecotta-.*Permission denied.*systemd-run --user"), version_1.cage():
        pass


def test_a_group_whose_limit_cannot_be_set_is_taken_away_again(version_1):
    del version_1.files["memory.limit_in_bytes"]

    with pytest.raises(Unavailable, match="memory.limit_in_bytes: No such file"), version_1.cage():
        pass

    assert version_1.groups
    assert not any(group.exists() for group in version_1.groups)


def test_a_hierarchy_without_the_memory_controller_is_told(version_2):
    for file in version_2.root.rglob("cgroup.*"):
        file.write_text("pids\n")

    with pytest.raises(Unavailable, match="no memory controller"), version_2.cage():
        pass


@pytest.mark.parametrize("cgroup", [None, "8:pids:/\n"])
def test_a_system_without_memory_control_groups_is_told(kernel, cgroup):
    if cgroup is not None:
        kernel.write(kernel.proc / "self" / "cgroup", cgroup)

    with pytest.raises(Unavailable, match="control groups"), kernel.cage():
        pass


def test_a_limit_above_what_there_is_enforces_nothing_and_is_refused(version_1):
    with (
        pytest.raises(Unavailable, match=r"500 MB .* cannot be enforced.*437.2.* MB"),
        version_1.cage(500_000_000),
    ):
        pass

    version_1.write(version_1.root / "memory" / "outer" / "memory.limit_in_bytes", "100000000\n")
    with pytest.raises(Unavailable, match="100 MB"), version_1.cage():
        pass
    assert version_1.groups == []


def test_the_group_goes_when_the_block_ends_by_ctrl_c(version_1):
    def interrupted():
        with version_1.cage():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert not version_1.groups[0].exists()


def test_what_still_runs_in_the_group_is_killed_and_nobody_else(version_1, monkeypatch):
    """0 is how a process of another pid namespace reads; kill(2) takes it for our own process group."""
    killed = []
    monkeypatch.setattr(memory_cage.os, "kill", lambda pid, number: killed.append((pid, int(number))))

    with version_1.cage():
        (version_1.groups[0] / "cgroup.procs").write_text("0\n4711\n")

    assert killed == [(4711, 9)]


def test_a_group_that_stays_is_told(version_1, monkeypatch):
    monkeypatch.setattr(memory_cage, "_REMOVAL_TRIES", 2)
    monkeypatch.setattr(memory_cage, "_REMOVAL_PAUSE_S", 0)
    monkeypatch.setattr(memory_cage.os, "rmdir", lambda path: (_ for _ in ()).throw(OSError(16, "busy")))

    with pytest.raises(TransferError, match="cannot be removed"), version_1.cage():
        pass


def test_outside_its_block_there_is_no_cage(version_1):
    with pytest.raises(RuntimeError, match="with"):
        version_1.cage().command(["true"])


def test_the_command_is_passed_on_word_by_word(version_1):
    words = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "two words", "$HOME", "'"]

    with version_1.cage() as cage:
        done = subprocess.run(cage.command(words), capture_output=True, text=True)
        joined = read(version_1.groups[0], "cgroup.procs")

    assert done.stdout.strip() == str(["two words", "$HOME", "'"])
    assert joined.isdecimal()


def test_a_process_that_cannot_join_does_not_run_outside(version_1, monkeypatch):
    with version_1.cage() as cage:
        command = cage.command(["echo", "free"])
        done = subprocess.run([*command[:3], f"{command[3]}-gone", *command[4:]], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (125, "")


def test_a_way_out_that_is_closed_is_told(tmp_path):
    with pytest.raises(Unavailable, match="cannot leave"):
        leave_cage(str(tmp_path / "none" / "cgroup.procs"))


# From here on with the kernel of this machine.


@pytest.fixture
def cage_of():
    """The class `MemoryCage`; skips where no group may be made."""
    try:
        with MemoryCage(64_000_000):
            return MemoryCage
    except Unavailable as error:
        pytest.skip(str(error))


def python(code):
    return [sys.executable, "-P", "-c", code]


def test_a_process_within_its_limit_lives(cage_of):
    with cage_of(64_000_000) as cage:
        done = subprocess.run(cage.command(python("x = b'x' * 20_000_000")))
        held = cage.held()

    assert done.returncode == 0
    assert held.oom_kills == 0
    assert 20_000_000 < held.peak_bytes <= 64_000_000


def test_a_process_beyond_its_limit_is_killed_and_counted(cage_of):
    with cage_of(64_000_000) as cage:
        done = subprocess.run(cage.command(python("x = b'x' * 100_000_000; print('alive')")), capture_output=True)
        held = cage.held()

    assert (done.returncode, done.stdout) == (-9, b"")
    assert held.oom_kills == 1
    assert held.peak_bytes <= 64_000_000


def test_a_process_that_leaves_is_free_and_what_it_takes_then_is_not_counted(cage_of):
    code = """
import sys; from ecotta_rt.bench.memory_cage import leave_cage
leave_cage(sys.argv[1]); x = b'x' * 100_000_000; print('alive')
"""

    with cage_of(64_000_000) as cage:
        command = cage.command([*python(code), cage.way_out])
        done = subprocess.run(command, capture_output=True, text=True)
        held = cage.held()

    assert done.stdout == "alive\n"
    assert held.oom_kills == 0
    assert held.peak_bytes < 64_000_000


def test_a_process_that_outlives_the_block_is_ended_with_it(cage_of):
    with (
        cage_of(64_000_000) as cage,
        subprocess.Popen(
            cage.command(python("import signal; print('up', flush=True); signal.pause()")), stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout.readline() == b"up\n"
        cage.__exit__(None, None, None)
        assert process.wait() == -9
        cage.__enter__()  # for the end of the block


@pytest.mark.parametrize("engine", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_worker_of_the_bench_adapts_inside_its_cage(cage_of, small_network, engine):
    """A ResNet-20 two frames at a time: 64 MB would not do for either, nor 200 MB for torch."""
    limit_bytes = {"torch": 512_000_000, "onnx": 200_000_000}[engine]

    with cage_of(limit_bytes) as cage:
        outcome = measure_case(small_network.case("ecotta-k4", engine=engine), cage=cage)
        held = cage.held()

    assert isinstance(outcome, Row), outcome
    assert outcome.frames == 4
    assert outcome.process_peak_bytes < limit_bytes
    assert held.oom_kills == 0


def test_a_worker_that_the_kernel_kills_is_a_failure_with_limit_and_peak(cage_of, small_network):
    with cage_of(32_000_000) as cage:
        outcome = measure_case(small_network.case("ecotta-k4"), cage=cage)

    assert isinstance(outcome, Failure)
    assert outcome.exit_code == BudgetExceeded.exit_code
    assert outcome.message.startswith(
        "killed at 32 MB (30.5 MiB) by the kernel's out-of-memory killer, before the first"
    )
    assert "held 30.5 MiB at the most" in outcome.message
