"""Signals while the main thread hears of none: in native code, or in a write that nobody reads."""

import gc
import os
import signal
import subprocess
import sys
from queue import SimpleQueue

import pytest

from ecotta_rt.cli.signals import ended_by_signals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")

WAIT_S = 30

# Its handlers are there, and its main thread blocks where they do not run.
PROGRAM = """
import ctypes, os, signal, sys
from ecotta_rt.cli.signals import ended_by_signals

numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
for number in numbers:
    signal.signal(number, lambda *_: None)
libc = ctypes.CDLL(None)

def give_up(seconds):
    os.write(2, f"given up after {seconds:g} s\\n".encode())

with ended_by_signals(numbers, give_up, grace_s=0.05):
    os.write(2, b"ready\\n")
    if sys.argv[1] == "native":
        while True:
            libc.usleep(100_000_000)  # interrupted by a signal; a handler in Python would have to come back
    else:
        print("x" * 10_000_000, flush=True)
"""


@pytest.fixture
def start():
    running = []

    def start(what):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stderr.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("what", ["native", "full pipe"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends_the_process_at_once_without_a_traceback(start, what, number):
    process = start(what)

    process.send_signal(number)
    assert process.stderr.readline() == "given up after 0.05 s\n"
    process.send_signal(number)

    assert process.wait(WAIT_S) == 128 + number
    assert "Traceback" not in process.stderr.read()


def test_a_second_sighup_ends_nothing_since_shell_and_kernel_both_tell_of_a_terminal_that_goes(start):
    process = start("native")

    process.send_signal(signal.SIGHUP)
    assert process.stderr.readline() == "given up after 0.05 s\n"
    process.send_signal(signal.SIGHUP)

    assert process.stderr.readline() == "given up after 1.05 s\n"
    assert process.poll() is None


@pytest.fixture
def handled():
    """SIGUSR1 and SIGUSR2 with handlers that do nothing."""
    numbers = (signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    yield numbers
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_it_asks_again_until_the_block_ends_and_then_watches_no_more(handled):
    asked = SimpleQueue()

    with ended_by_signals(handled[:1], asked.put, grace_s=0.01, leave=asked.put):
        os.kill(os.getpid(), handled[0])
        assert [asked.get(timeout=WAIT_S) for _ in range(2)] == pytest.approx([0.01, 1.01])
    os.kill(os.getpid(), handled[0])

    assert asked.empty()


def test_a_batch_that_ends_in_time_is_not_given_up_and_other_signals_are_let_pass(handled):
    asked = SimpleQueue()

    with ended_by_signals(handled[:1], asked.put, grace_s=WAIT_S, leave=asked.put):
        os.kill(os.getpid(), handled[1])
        os.kill(os.getpid(), handled[0])
        os.kill(os.getpid(), handled[1])

    assert asked.empty()


def test_the_pipe_of_before_is_put_back(handled):
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write)
    try:
        with ended_by_signals(handled, lambda _: None):
            pass
        os.kill(os.getpid(), handled[0])
        assert os.read(read, 1) == bytes([handled[0]])
    finally:
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)


def test_nothing_stays_open(handled):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # what earlier tests left open would be closed in between
    before = descriptors()
    for _ in range(20):
        with ended_by_signals(handled, lambda _: None):
            pass

    assert descriptors() < before + 20  # threads of earlier tests may open or close one meanwhile
