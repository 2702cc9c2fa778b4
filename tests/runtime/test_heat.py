import pytest

from ecotta_rt.runtime.clock import ManualClock
from ecotta_rt.runtime.heat import THROTTLED_NOW, Firmware, highest_temperature_c


def zone(folder, number, text):
    path = folder / f"thermal_zone{number}" / "temp"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_the_hottest_zone_counts(tmp_path):
    zone(tmp_path, 0, "48312\n")
    zone(tmp_path, 1, "61000\n")

    assert highest_temperature_c(tmp_path) == 61.0


@pytest.mark.parametrize("text", ["", "N/A\n", "-274000\n", "255000\n"])
def test_a_sensor_that_is_asleep_or_broken_does_not_count(tmp_path, text):
    zone(tmp_path, 0, text)
    assert highest_temperature_c(tmp_path) is None

    zone(tmp_path, 1, "40000\n")
    assert highest_temperature_c(tmp_path) == 40.0


def test_a_machine_without_zones_tells_nothing(tmp_path):
    assert highest_temperature_c(tmp_path / "thermal") is None


@pytest.fixture
def vcgencmd(tmp_path):
    """Makes a program that stands for the firmware's, and counts its calls in a file beside it."""

    def make(script):
        path = tmp_path / "vcgencmd"
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
        path.chmod(0o755)
        return str(path)

    return make


def test_the_firmwares_program_is_asked_rarely(tmp_path, vcgencmd):
    clock = ManualClock()
    firmware = Firmware(vcgencmd("echo throttled=0x50005"), tmp_path / "none", every_s=5, clock=clock)

    answers = []
    for _ in range(3):
        answers.append(firmware.throttled())
        clock.advance_s(2.5)

    assert answers == [0x50005] * 3
    assert answers[0] & THROTTLED_NOW == 0x5, "under-voltage and throttled now; what was does not count"
    assert (tmp_path / "calls").read_text() == "get_throttled\n" * 2


@pytest.mark.parametrize("script", ["exit 1", "echo VCHI initialization failed", "echo throttled=what"])
def test_where_the_program_fails_the_kernels_file_is_read_from_then_on(tmp_path, vcgencmd, script):
    (tmp_path / "file").write_text("50000\n")
    firmware = Firmware(vcgencmd(script), tmp_path / "file", every_s=0, clock=ManualClock())

    assert [firmware.throttled() for _ in range(3)] == [0x50000] * 3
    assert (tmp_path / "calls").read_text() == "get_throttled\n"


@pytest.mark.parametrize("content", [None, "", "what"])
def test_where_there_is_nobody_to_ask_nothing_is_known(tmp_path, content):
    if content is not None:
        (tmp_path / "file").write_text(content)

    assert Firmware(str(tmp_path / "no-program"), tmp_path / "file").throttled() is None
