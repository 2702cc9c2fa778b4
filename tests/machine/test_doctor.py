"""Each check by itself: from a reading to a finding in plain words."""

import configparser
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.machine.control_group import memory_is_counted
from ecotta_rt.machine.device import load_device
from ecotta_rt.machine.doctor import memory, processor, software, surroundings
from ecotta_rt.machine.doctor.examination import Roots, check_board, examine
from ecotta_rt.machine.doctor.surroundings import Camera
from ecotta_rt.machine.this_machine import meminfo_bytes

MIB = 1 << 20
ONNXRUNTIME = next(package for package in software.PACKAGES if package.name == "onnxruntime")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def roots(tmp_path):
    """A Raspberry Pi Zero 2 W, in folders."""
    found = Roots(tmp_path / "proc", tmp_path / "sys", tmp_path / "dev")
    write(found.proc / "meminfo", "MemTotal: 427008 kB\nMemAvailable: 298598 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
    write(found.proc / "cpuinfo", "Features\t: fp asimd evtstrm crc32 cpuid\n")
    write(found.proc / "self" / "cgroup", "0::/system.slice/ecotta.service\n")
    write(found.sys / "class" / "thermal" / "thermal_zone0" / "temp", "48312\n")
    found.dev.mkdir()
    return found


def sentences(finding):
    """What is said and advised, with the advice there exactly when something has to be done."""
    assert (finding.status == "ok") == (finding.advice == "")
    return f"{finding.says}; {finding.advice}"


# --- software ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "bits", "status", "word"),
    [
        ((3, 11, 2), 64, "ok", "Python 3.11.2, 64-bit"),
        ((3, 14, 0), 64, "ok", "3.14.0"),
        ((3, 9, 2), 64, "problem", "3.11 or newer"),
        ((3, 11, 2), 32, "problem", "64-bit system"),
    ],
)
def test_python_must_have_wheels(version, bits, status, word):
    finding = software.check_python(version, bits)

    assert finding.status == status
    assert word in sentences(finding)


def test_architectures_without_wheels_are_named(subtests):
    for machine, bits, status, word in [
        ("aarch64", 64, "ok", "aarch64"),
        ("x86_64", 64, "ok", "x86_64"),
        ("armv7l", 32, "problem", "64-bit Arm only"),
        ("armv6l", 32, "problem", "Zero 2 W"),
        ("aarch64", 32, "problem", "a 32-bit system on it"),
        ("riscv64", 64, "warning", "riscv64"),
        ("", 64, "warning", "unknown"),
    ]:
        with subtests.test(machine=machine, bits=bits, status=status, word=word):
            finding = software.check_architecture(machine, bits)

            assert finding.status == status
            assert word in sentences(finding)


def test_the_c_library_is_new_enough_for_the_wheels(subtests):
    for name, status in [
        ("glibc 2.36", "ok"),
        ("glibc 2.28", "ok"),
        ("glibc 2.27", "problem"),  # the Jetson Nano's own system
        ("glibc 2.100", "ok"),
        ("", "warning"),
        ("musl", "warning"),
    ]:
        with subtests.test(name=name, status=status):
            assert software.check_c_library(name).status == status


def test_a_package_is_there_and_in_a_known_version(subtests):
    for version, status, word in [
        (ONNXRUNTIME.tested[-1], "ok", ONNXRUNTIME.tested[-1]),
        (None, "problem", "not installed"),
        ("1.21.0", "problem", "illegal instruction"),
        ("1.9", "problem", "older than 1.22"),
        ("1.22.0", "warning", "not tested"),
        ("99.0", "warning", ONNXRUNTIME.tested[-1]),
        ("1.22.0rc1", "warning", "not tested"),
    ]:
        with subtests.test(version=version, status=status, word=word):
            finding = software.check_package(ONNXRUNTIME, version)

            assert finding.status == status
            assert word in sentences(finding)
            if status != "ok":
                assert f"pip install 'onnxruntime=={ONNXRUNTIME.tested[-1]}'" in finding.advice


@given(st.text(max_size=20))
def test_any_version_gets_a_finding(version):
    assert software.check_package(ONNXRUNTIME, version).status in ("ok", "warning", "problem")


def test_the_allow_list_is_that_of_setup_cfg_and_constraints(checkout):
    parser = configparser.ConfigParser()
    parser.read(checkout / "setup.cfg", encoding="utf-8")
    required = dict(
        re.match(r"(\S+) >= ([^,]+),", line).groups()
        for line in parser["options"]["install_requires"].split("\n")
        if line
    )
    constraints = (checkout / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in constraints if "==" in line)

    assert {package.name: package.least for package in software.PACKAGES} == required
    assert {package.name: package.tested[-1] for package in software.PACKAGES} == {
        name: pinned[name] for name in required
    }


# --- memory --------------------------------------------------------------------------------------------------------


def test_memory_is_judged_by_what_a_small_network_needs(subtests):
    for available_mib, status in [(292, "ok"), (91, "ok"), (90, "warning"), (51, "warning"), (50, "warning")]:
        with subtests.test(available_mib=available_mib, status=status):
            finding = memory.check_memory({"MemTotal": 416 * MIB, "MemAvailable": available_mib * MIB})

            assert finding.status == status
            assert f"{available_mib} MiB available of 416 MiB" in sentences(finding)


def test_memory_that_is_short_for_the_moment_makes_no_running_daemon_sick(roots, tmp_path):
    """A health check asks while the daemon has its share already."""
    write(roots.proc / "meminfo", "MemTotal: 427008 kB\nMemAvailable: 30000 kB\n")

    told = {finding.about: finding for finding in examine(tmp_path, quick=True, roots=roots)}

    assert "numpy and onnxruntime alone take" in told["memory"].says
    assert told["memory"].status == "warning"


def test_a_system_that_does_not_tell_its_memory_is_a_warning():
    assert memory.check_memory({}).status == "warning"


def test_a_control_groups_limit_is_judged_too(subtests):
    for limit, counted, status, word in [
        (None, True, "ok", "none set"),
        (None, None, "ok", "none set"),
        (None, False, "warning", "cgroup_enable=memory"),
        (200 * MIB, True, "ok", "200 MiB"),
        (64 * MIB, True, "warning", "MemoryMax="),
        (32 * MIB, True, "problem", "--memory"),
    ]:
        with subtests.test(limit=limit, counted=counted, status=status, word=word):
            finding = memory.check_group_limit(limit, counted)

            assert finding.status == status
            assert word in sentences(finding)


@pytest.mark.parametrize(
    ("total_mib", "free_mib", "status"), [(0, 0, "ok"), (512, 512, "ok"), (512, 256, "ok"), (512, 100, "warning")]
)
def test_a_system_that_swaps_is_a_warning(total_mib, free_mib, status):
    assert memory.check_swap({"SwapTotal": total_mib * MIB, "SwapFree": free_mib * MIB}).status == status


def test_whether_limits_are_enforced_is_read_from_either_version(roots):
    assert memory_is_counted(roots.proc, roots.sys / "fs" / "cgroup") is None

    write(roots.proc / "cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t66\t0\n")
    assert memory_is_counted(roots.proc, roots.sys / "fs" / "cgroup") is False

    write(roots.sys / "fs" / "cgroup" / "cgroup.controllers", "cpuset cpu io memory pids\n")
    assert memory_is_counted(roots.proc, roots.sys / "fs" / "cgroup") is True


@given(st.text(max_size=200))
def test_meminfo_of_any_text_is_sizes(text):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "meminfo").write_text(text, encoding="utf-8")
        assert all(size >= 0 for size in meminfo_bytes(Path(folder)).values())


# --- processor -----------------------------------------------------------------------------------------------------


def test_the_processor_is_described_by_what_its_kernels_use(subtests):
    for machine, features, status, word in [
        ("aarch64", ("neon",), "ok", "ARMv8.0"),
        ("aarch64", ("dotprod", "fp16", "lse", "neon"), "ok", "dotprod"),
        ("aarch64", (), "warning", "emulator"),
        ("aarch64", ("avx2", "fma"), "warning", "emulator"),
        ("x86_64", ("avx2",), "ok", "avx2"),
        ("x86_64", (), "ok", "no extensions"),
    ]:
        with subtests.test(machine=machine, features=features, status=status, word=word):
            finding = processor.check_features(machine, features)

            assert finding.status == status
            assert word in sentences(finding)


def test_a_quota_below_the_cores_is_a_warning(subtests):
    for usable, quota, status, word in [
        (4, None, "ok", "4 cores"),
        (1, None, "ok", "1 core usable"),
        (4, 4.0, "ok", "4 cores"),
        (4, 1.5, "warning", "--threads 1"),
        (4, 0.25, "warning", "--threads 1"),
        (8, 2.0, "warning", "--threads 2"),
    ]:
        with subtests.test(usable=usable, quota=quota, status=status, word=word):
            finding = processor.check_cores(usable, quota)

            assert finding.status == status
            assert word in sentences(finding)


def test_the_least_quota_on_the_way_to_the_root_counts_in_version_2(roots):
    groups = roots.sys / "fs" / "cgroup"
    write(groups / "system.slice" / "ecotta.service" / "cpu.max", "max 100000\n")
    assert processor.cpu_quota_cores(roots.proc, roots.sys) is None

    write(groups / "system.slice" / "cpu.max", "150000 100000\n")
    assert processor.cpu_quota_cores(roots.proc, roots.sys) == 1.5


def test_version_1_writes_a_negative_number_for_no_quota(roots):
    write(roots.proc / "self" / "cgroup", "3:cpu,cpuacct:/docker/abc\n0::/\n")
    group = roots.sys / "fs" / "cgroup" / "cpu" / "docker" / "abc"
    write(group / "cpu.cfs_period_us", "100000\n")
    write(group / "cpu.cfs_quota_us", "-1\n")
    assert processor.cpu_quota_cores(roots.proc, roots.sys) is None

    write(group / "cpu.cfs_quota_us", "50000\n")
    assert processor.cpu_quota_cores(roots.proc, roots.sys) == 0.5


# --- surroundings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("celsius", "status"), [(None, "ok"), (48.3, "ok"), (-5.0, "ok"), (80.0, "warning")])
def test_a_board_about_to_slow_down_is_a_warning(celsius, status):
    assert surroundings.check_temperature(celsius).status == status


def test_cameras_are_listed_by_number_with_their_names(roots):
    for name in ("video10", "video2", "video", "video1x"):
        write(roots.dev / name, "")
    write(roots.sys / "class" / "video4linux" / "video2" / "name", "USB 2.0 Camera\n")

    assert surroundings.cameras(roots.dev, roots.sys) == (
        Camera(roots.dev / "video2", "USB 2.0 Camera", usable=True),
        Camera(roots.dev / "video10", "", usable=True),
    )


def test_a_camera_that_this_user_may_not_open_is_a_warning(roots):
    camera, closed = (Camera(roots.dev / f"video{number}", "cam", usable=not number) for number in (0, 1))

    assert surroundings.check_cameras(()).status == "ok"
    assert surroundings.check_cameras((camera,)).status == "ok"
    finding = surroundings.check_cameras((camera, closed))
    assert finding.status == "warning"
    assert "video1" in finding.says and "video0" not in finding.says
    assert "usermod -aG video" in finding.advice


def test_the_state_folder_is_tried_by_writing(tmp_path):
    finding = surroundings.check_state_folder(tmp_path)

    assert finding.status == "ok"
    assert not list(tmp_path.iterdir())


def test_a_missing_state_folder_is_a_problem(tmp_path):
    assert "is no folder" in surroundings.check_state_folder(tmp_path / "none").says


def test_a_state_folder_that_refuses_is_a_problem(tmp_path, monkeypatch):
    def refuse(**arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(surroundings.tempfile, "TemporaryFile", refuse)
    finding = surroundings.check_state_folder(tmp_path)

    assert finding.status == "problem"
    assert "Read-only file system" in finding.says


def test_a_nearly_full_state_folder_is_a_warning(tmp_path, monkeypatch):
    space = os.statvfs(tmp_path)
    monkeypatch.setattr(surroundings, "_ROOM_BYTES", space.f_bavail * space.f_frsize * 2)

    assert surroundings.check_state_folder(tmp_path).status == "warning"


# --- the board and the whole ---------------------------------------------------------------------------------------

ZERO = "raspberry-pi-zero-2w"


def test_the_board_that_it_is_said_to_be_is_recognised():
    finding = check_board(load_device(ZERO), {"MemAvailable": 292 * MIB}, ("neon",), 4)

    assert finding.status == "ok"


@pytest.mark.parametrize(
    ("meminfo", "features", "cores", "word"),
    [
        ({"MemAvailable": 100 * MIB}, ("neon",), 4, "100 MiB are available"),
        ({}, ("avx2",), 4, "lacks neon"),
        ({}, ("neon",), 2, "2 usable cores, not 4"),
    ],
)
def test_another_board_is_a_warning_that_names_the_difference(meminfo, features, cores, word):
    finding = check_board(load_device(ZERO), meminfo, features, cores)

    assert finding.status == "warning"
    assert word in finding.says


def test_a_phones_profile_cannot_be_compared():
    assert "no Python" in check_board(load_device("iphone-13"), {}, (), 6).says


def test_a_quick_examination_starts_no_process(roots, tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.run", None)

    findings = examine(tmp_path, quick=True, profile=load_device(ZERO), roots=roots)

    told = {finding.about: finding for finding in findings}
    assert "291 MiB available of 417 MiB" in told["memory"].says
    assert told["temperature"].says.startswith("48 °C")
    assert {"python", "C library", "onnxruntime", "state folder", ZERO} <= told.keys()
    assert "cameras" not in told
