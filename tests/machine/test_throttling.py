import pytest

from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.machine.throttling import THROTTLED_NOW, Firmware


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
