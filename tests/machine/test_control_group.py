import pytest

from ecotta_rt.machine.control_group import GroupMemory, control_groups, group_folders, tightest

MIB = 2**20


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path):
    """The folders of procfs and of the control groups."""
    return tmp_path / "proc", tmp_path / "cgroup"


def group_2(folder, limit, usage, stat=""):
    write(folder / "memory.max", limit)
    write(folder / "memory.current", usage)
    write(folder / "memory.stat", stat)


def group_1(folder, limit, usage, stat=""):
    write(folder / "memory.limit_in_bytes", limit)
    write(folder / "memory.usage_in_bytes", usage)
    write(folder / "memory.stat", stat)


def read(machine):
    return tightest(control_groups(*machine))


def test_the_group_that_uses_the_largest_share_counts_whatever_its_limit(machine):
    proc, groups = machine
    write(proc / "self" / "cgroup", "0::/system.slice/ecotta.service")
    group_2(groups / "system.slice" / "ecotta.service", 200 * MIB, 100 * MIB)
    group_2(groups / "system.slice", 400 * MIB, 380 * MIB)

    assert read(machine) == GroupMemory(380 * MIB, 400 * MIB)


@pytest.mark.parametrize(
    ("most", "high", "limit"), [(400, 300, 300), (400, 500, 400), (400, "max", 400), ("max", 300, 300)]
)
def test_above_the_high_mark_everything_crawls_so_the_lower_of_the_two_is_the_limit(machine, most, high, limit):
    proc, groups = machine
    write(proc / "self" / "cgroup", "0::/ours")
    group_2(groups / "ours", most, 200)
    write(groups / "ours" / "memory.high", high)

    assert read(machine) == GroupMemory(200, limit)


def test_a_limit_moved_while_we_run_is_seen(machine):
    proc, groups = machine
    write(proc / "self" / "cgroup", "0::/ours")
    group_2(groups / "ours", "max", 100 * MIB)
    found = control_groups(*machine)

    assert tightest(found) is None
    write(groups / "ours" / "memory.max", 110 * MIB)
    assert tightest(found) == GroupMemory(100 * MIB, 110 * MIB)


def test_page_cache_that_nobody_has_mapped_is_no_usage(machine, subtests):
    for stat, taken_off in [
        ("inactive_file 30\nactive_file 20\nfile_mapped 15\nanon 4000", 35),
        ("inactive_file 30\nactive_file 20", 50),
        ("inactive_file 5\nfile_mapped 15", 0),
        ("inactive_file many\nodd", 0),
        ("", 0),
    ]:
        with subtests.test(stat=stat):
            proc, groups = machine
            write(proc / "self" / "cgroup", "0::/ours")
            group_2(groups / "ours", 1000, 900, stat)

            assert read(machine) == GroupMemory(900 - taken_off, 1000)


def test_version_1_has_its_own_files_totals_and_a_huge_number_for_no_limit(machine):
    proc, groups = machine
    write(proc / "self" / "cgroup", "9:cpu:/\n4:memory:/docker/abc\n0::/")
    group_1(groups / "memory", 9223372036854771712, 900 * MIB)
    assert read(machine) is None

    stat = "inactive_file 1\ntotal_inactive_file 40\ntotal_active_file 10\ntotal_mapped_file 20"
    group_1(groups / "memory" / "docker" / "abc", 512, 400, stat)
    assert read(machine) == GroupMemory(370, 512)


def test_inside_a_container_the_mount_itself_is_our_group(machine):
    """The path is the host's there, and nothing of it is mounted."""
    proc, groups = machine
    write(proc / "self" / "cgroup", "4:memory:/kubepods/pod1/abc")
    group_1(groups / "memory", 512, 400)

    assert read(machine) == GroupMemory(400, 512)


def test_without_groups_nothing_is_known(machine, subtests):
    for text in ["", "nonsense", "0::/../sibling", "4:memory", "0:"]:
        with subtests.test(text=text):
            write(machine[0] / "self" / "cgroup", text)

            assert read(machine) is None


def test_a_group_that_has_gone_is_no_error(machine):
    proc, groups = machine
    write(proc / "self" / "cgroup", "0::/ours")
    group_2(groups / "ours", 1000, 900)
    found = control_groups(*machine)
    (groups / "ours" / "memory.current").unlink()

    assert tightest(found) is None


def test_this_machine_answers():
    memory = tightest(control_groups())

    assert memory is None or memory.limit_bytes > 0


def test_a_group_outside_the_namespace_is_the_mount_itself(machine):
    proc, groups = machine
    write(proc / "self" / "cgroup", "0::/../sibling")

    assert list(group_folders("cpu", *machine))[-1] == (2, groups)
