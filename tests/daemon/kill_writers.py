"""Kill writers of snapshots at random moments, and look at what they have left: kill_writers.py FOLDER KILLS SEED.

A writer is a fork of this process, so that a kill costs milliseconds. It plays a stream in which each batch takes a
second of its clock, and keeps the state as a daemon does: every 20 seconds, through the keeper and its thread. It says
each batch, and each state that is on the disk, in a pipe; what was said before the kill is known to this process.

Prints a JSON object: how many were killed, the most batches that were lost, and what was found wrong.
"""

import json
import os
import random
import re
import select
import signal
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np

from ecotta_rt.daemon.saving.keeper import Keeper
from ecotta_rt.daemon.saving.snapshots import Snapshots
from ecotta_rt.daemon.saving.writer import Writer
from ecotta_rt.events import BatchAnswered, StateSaved
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Level
from ecotta_rt.state import AdaptState

NETWORK = "ab" * 32
EVERY_S = 20
GENERATIONS = 3
MOST_S = 0.1  # until the kill; a save takes some milliseconds, or some ten on a busy disk
NUMBERS = 100_000
HANGS_S = 60.0


def state_of(batch):
    return AdaptState({"w": np.full(NUMBERS, batch, np.float32)}, {"w": np.zeros(1, np.float32)}, {}, NETWORK)


def write(folder, batch, pipe):
    """Until killed; from the batch that the last one had got to on the disk."""
    now = [batch]
    clock, writer = ManualClock(), Writer()

    def report(event):
        if isinstance(event, StateSaved):
            os.write(pipe, b"saved %d\n" % now[0])

    snapshots = Snapshots(folder, NETWORK, GENERATIONS)
    keeper = Keeper(
        "door",
        snapshots,
        lambda: state_of(now[0]),
        writer,
        report,
        every_s=EVERY_S,
        day_bytes=1 << 40,
        clock=clock,
    )
    keeper.begin_with(snapshots.newest())
    for now[0] in count(batch + 1):
        clock.advance_s(1)
        os.write(pipe, b"batch %d\n" % now[0])
        keeper.saw(BatchAnswered(1, 0, Level.STATISTICS, False, False, "off", followed=True))
        keeper.tick()
        assert writer.drain(HANGS_S)


def killed(folder, batch, wait_s):
    """What a writer has said until it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(folder, batch, writing)
        finally:
            os._exit(1)
    os.close(writing)
    select.select([reading], [], [], HANGS_S)  # it has begun
    time.sleep(wait_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    return os.WTERMSIG(status), {word: int(number) for word, number in re.findall(r"(batch|saved) (\d+)\n", said)}


def found(folder, before, said):
    """Where the next one goes on, and what is wrong with what was left."""
    start = Snapshots(folder, NETWORK, GENERATIONS).newest()
    batch = before if start.state is None else int(start.state.parameters["w"][0])
    wrong = [f"refused: {refused.why}" for refused in start.refused]
    if batch < said.get("saved", 0):
        wrong.append(f"batch {said['saved']} was on the disk, and {batch} is found")
    if said["batch"] - batch > EVERY_S:
        wrong.append(f"batch {said['batch']} was played, and {batch} is found")
    snapshots = Snapshots(folder, NETWORK).listed()
    names = sorted(os.listdir(folder)) if folder.exists() else []
    if names != sorted(snapshot.name for snapshot in snapshots) or len(names) > GENERATIONS:
        wrong.append(f"left: {names}")
    return batch, wrong


def main():
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    moments = random.Random(seed)
    batch, most_lost, wrong, half_written = 0, 0, [], 0
    for number in range(kills):
        ended_by, said = killed(folder, batch, moments.uniform(0, MOST_S))
        half_written += any(name.endswith(".tmp") for name in os.listdir(folder)) if folder.exists() else 0
        batch, errors = found(folder, batch, said)
        most_lost = max(most_lost, said["batch"] - batch)
        wrong += [f"kill {number}: {error}" for error in errors]
        wrong += [f"kill {number}: ended by {ended_by}"] * (ended_by != signal.SIGKILL)
    print(json.dumps({"kills": kills, "most_lost": most_lost, "half_written": half_written, "wrong": wrong}))


if __name__ == "__main__":
    main()
