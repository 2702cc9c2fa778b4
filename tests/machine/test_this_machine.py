from contextlib import nullcontext

import pytest

from ecotta_rt.errors import UsageError
from ecotta_rt.machine import this_machine

MEMINFO = "MemTotal:         427008 kB\nMemFree:          223436 kB\nMemAvailable:     298598 kB\n"


@pytest.fixture
def proc(tmp_path):
    """A procfs of a Pi Zero 2 W, in a folder."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(MEMINFO)
    return folder


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_memory_is_read_in_bytes(proc):
    assert this_machine.total_memory_bytes(proc) == 427008 * 1024
    assert this_machine.available_memory_bytes(proc) == 298598 * 1024


def test_without_proc_psutil_answers(tmp_path):
    total = this_machine.total_memory_bytes(tmp_path)

    assert total == this_machine.total_memory_bytes()
    assert 0 < this_machine.available_memory_bytes(tmp_path) <= total


def test_the_least_limit_on_the_way_to_the_root_counts_in_version_2(proc, tmp_path):
    write(proc / "self" / "cgroup", "0::/system.slice/ecotta.service\n")
    groups = tmp_path / "cgroup"
    write(groups / "system.slice" / "ecotta.service" / "memory.max", "max\n")
    write(groups / "system.slice" / "memory.max", "209715200\n")

    assert this_machine.cgroup_limit_bytes(proc, groups) == 209715200


def test_version_1_has_its_own_hierarchy_and_a_huge_number_for_no_limit(proc, tmp_path):
    write(proc / "self" / "cgroup", "9:cpu:/\n4:memory:/docker/abc\n0::/\n")
    groups = tmp_path / "cgroup"
    write(groups / "memory" / "memory.limit_in_bytes", "9223372036854771712\n")

    assert this_machine.cgroup_limit_bytes(proc, groups) is None

    write(groups / "memory" / "docker" / "abc" / "memory.limit_in_bytes", "536870912\n")
    assert this_machine.cgroup_limit_bytes(proc, groups) == 536870912


def test_inside_a_container_the_mount_itself_is_our_group(proc, tmp_path):
    """The path is the host's there, and nothing of it is mounted."""
    write(proc / "self" / "cgroup", "4:memory:/kubepods/pod1/abc\n")
    write(tmp_path / "cgroup" / "memory" / "memory.limit_in_bytes", "268435456\n")

    assert this_machine.cgroup_limit_bytes(proc, tmp_path / "cgroup") == 268435456


@pytest.mark.parametrize("path", ["/../sibling", "/"])
def test_a_group_outside_the_namespace_is_no_error(proc, tmp_path, path):
    write(proc / "self" / "cgroup", f"0::{path}\n")

    assert this_machine.cgroup_limit_bytes(proc, tmp_path / "cgroup") is None


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        ("Features\t: fp asimd evtstrm crc32 cpuid\n", ("neon",)),
        ("Features\t: fp asimd atomics fphp asimdhp cpuid asimddp\n", ("dotprod", "fp16", "lse", "neon")),
        ("flags\t\t: fpu sse2 avx avx2 fma avx512f avx512_vnni\n", ("avx", "avx2", "avx512-vnni", "avx512f", "fma")),
        ("", ()),
    ],
)
def test_instruction_set_extensions_have_our_names(proc, cpuinfo, features):
    (proc / "cpuinfo").write_text(cpuinfo)

    assert this_machine.cpu_features(proc) == features


def test_a_processor_without_a_name_is_called_by_its_architecture(proc):
    (proc / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 38.40\n")
    assert this_machine.cpu_name(proc)

    (proc / "cpuinfo").write_text("model name\t: Some  CPU @ 2 GHz\n")
    assert this_machine.cpu_name(proc) == "Some CPU @ 2 GHz"


def test_at_least_one_core_is_usable():
    assert this_machine.usable_cores() >= 1


def zone(folder, number, text):
    path = folder / f"thermal_zone{number}" / "temp"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_the_hottest_zone_counts(tmp_path):
    zone(tmp_path, 0, "48312\n")
    zone(tmp_path, 1, "61000\n")

    assert this_machine.highest_temperature_c(tmp_path) == 61.0


@pytest.mark.parametrize("text", ["", "N/A\n", "-274000\n", "255000\n"])
def test_a_sensor_that_is_asleep_or_broken_does_not_count(tmp_path, text):
    zone(tmp_path, 0, text)
    assert this_machine.highest_temperature_c(tmp_path) is None

    zone(tmp_path, 1, "40000\n")
    assert this_machine.highest_temperature_c(tmp_path) == 40.0


def test_a_machine_without_zones_tells_nothing(tmp_path):
    assert this_machine.highest_temperature_c(tmp_path / "thermal") is None


def test_bfloat16_is_what_the_processor_says(proc, subtests):
    for text, expected in [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("processor\t: 0\n", None),
    ]:
        with subtests.test(text=text):
            write(proc / "cpuinfo", text)

            assert this_machine.has_bfloat16(proc) is expected
            with pytest.raises(UsageError, match="none of avx512_bf16") if expected is False else nullcontext():
                this_machine.require_bfloat16(proc)
