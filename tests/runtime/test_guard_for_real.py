"""A real bundle, the real readings of this process, and a limit that moves while it runs, as a phone's does."""

from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.machine.process_memory import held_memory
from ecotta_rt.machine.throttling import Firmware
from ecotta_rt.machine.vitals import VitalsReader
from ecotta_rt.records import Frame
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.runtime.guard import Guard
from ecotta_rt.runtime.guard_policy import GuardPolicy
from ecotta_rt.runtime.loop import Loop
from fixtures.kept import played

FRAMES, LOWERED, RAISED = 140, 22, 46


class Camera:
    """A frame each half second; from one frame on the limit is what this process holds, from another there is none."""

    dropped = 0

    def __init__(self, pixels):
        self.pixels, self.clock = pixels, ManualClock()
        self.lowered = False

    def __iter__(self):
        for index, pixels in enumerate(self.pixels):
            self.clock.advance_s(0.5)
            self.lowered = LOWERED <= index < RAISED
            yield Frame(pixels, index, self.clock.now_s(), f"frame-{index}")

    def close(self):
        pass

    def limit_bytes(self):
        return held_memory().pss_bytes if self.lowered else None


def run(tiny, tmp_path, **keywords):
    path, pixels = tiny.bundle("running"), tiny.frames(FRAMES, seed=5)
    runtime, camera = Runtime.load(path, **keywords), Camera(pixels)
    # Nothing but the limit: this machine may be hot or short of memory, and its group's limit is not ours to move.
    read = VitalsReader(sys=tmp_path, firmware=Firmware("none", tmp_path / "none"), clock=camera.clock)
    policy = GuardPolicy(limit_bytes=camera.limit_bytes, least_available_bytes=0)
    sink, tally = played(Loop(camera, runtime, clock=camera.clock, guard=Guard(policy, read, camera.clock)))
    return runtime, tally, sink


def test_a_limit_lowered_at_run_time_is_met_at_the_next_batch_and_nothing_is_lost(tiny, tmp_path):
    _, tally, sink = run(tiny, tmp_path, batch=4)

    steps = [(event.frame, str(event.before), str(event.level)) for event in sink.steps]
    # Whatever it gives back, the limit is there already: so it goes on to the rung that drops.
    assert steps[0] == (LOWERED, "full", "statistics")
    assert steps[1] == (LOWERED + 1, "statistics", "inference")
    assert steps[2] == (LOWERED + 2, "inference", "drop")
    assert [step[1:] for step in steps[3:]] == [
        ("drop", "inference"),
        ("inference", "statistics"),
        ("statistics", "sparse"),
        ("sparse", "full"),
    ]
    assert tally.frames + tally.dropped == FRAMES
    accepted = [index for index in range(FRAMES) if not LOWERED + 2 <= index < steps[3][0]]
    assert [answer.frame for answer in sink.answers] == accepted
    assert sink.answers[-1].why != "off", "it learns again"


def test_the_adapted_state_is_that_of_a_run_that_merely_skipped_learning(tiny, tmp_path):
    runtime, _, sink = run(tiny, tmp_path, batch=1)
    twin, pixels = Runtime.load(tiny.bundle("running"), batch=1), tiny.frames(FRAMES, seed=5)
    held = {event.frame: event.level.name for event in sink.steps}

    level = "FULL"
    for answer in sink.answers:
        level = next((held[index] for index in range(answer.frame, -1, -1) if index in held), level)
        frames = pixels[answer.frame][None]
        if level == "INFERENCE":
            expected = twin.predict(frames, hold_statistics=True)
        else:
            expected = twin.predict(frames) if answer.why == "off" else twin(frames)
        assert answer.class_index == expected.labels[0]
        assert answer.adapted == expected.adapted

    # Graphs that have the parameters as constants round otherwise.
    assert max(twin.state.compare(runtime.state).values()) < 1e-5
