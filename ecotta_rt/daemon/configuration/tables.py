"""The tables of a configuration whose fields are always the same; those of outputs are beside the outputs' code."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ecotta_rt.files.fields import Doc, Limit, Matches
from ecotta_rt.files.sizes import byte_size, size_fault
from ecotta_rt.options import AnswerKind

__all__ = ["STATE_SUFFIX", "CameraOptions", "LogOptions", "Name", "NetworkOptions", "SignsOptions", "StateOptions"]

STATE_SUFFIX = ".state"
_DAY_S = 86_400.0

Name = Annotated[
    str, Limit(most=64), Matches("[A-Za-z0-9][A-Za-z0-9_-]*", "letters, digits, - and _, a letter or a digit first")
]
"""What is named so is part of file names, topics and addresses."""


@dataclass(frozen=True)
class NetworkOptions:
    """The network that all cameras share, and how it is run."""

    bundle: Annotated[str, Doc("The exported network, a file .ecotta.", '"/etc/ecotta/net.ecotta"')]
    device: Annotated[
        str | None,
        Doc(
            "Keep to the limits of this device: an id of `ecotta devices`, or a profile .toml.", '"raspberry-pi-4-2gb"'
        ),
    ] = None
    threads: Annotated[
        int | None, Doc("Threads of the network. Without it: as the plan for the device says.", "2"), Limit(1, 1024)
    ] = None
    memory_limit: Annotated[
        str | None,
        Doc("What this process may have. Without it: the device's limit, where a device is named.", '"200MiB"'),
        size_fault,
    ] = None
    max_temperature: Annotated[
        float | None, Doc("Do less above this, in degrees Celsius. Without it: 80.", "70"), Limit(1, 149)
    ] = None
    answer: Annotated[
        AnswerKind | None,
        Doc(
            "The answer that is meant where one is: the network's own, or the one that is filtered by the frames "
            "around it; lines have both. Without it: as the bundle says.",
            '"unfiltered"',
        ),
    ] = None
    views: Annotated[
        Literal[1, 2] | None,
        Doc(
            "2: average the answers to a frame and to its mirror image, where mirroring keeps the class. Without it: "
            "as the bundle says.",
            "2",
        ),
    ] = None
    learning: Annotated[
        Literal["off", "on"] | None,
        Doc("Learn by gradients from each batch that is due, or never. Without it: as the bundle says.", '"on"'),
    ] = None
    adapt_every: Annotated[int, Doc("Learn by gradients from every n-th frame of a camera."), Limit(1, 1_000_000)] = 1
    batch: Annotated[Literal[1], Doc("Frames a step; the daemon answers one at a time.")] = 1

    @property
    def memory_limit_bytes(self) -> int | None:
        return byte_size(self.memory_limit)


@dataclass(frozen=True)
class CameraOptions:
    """A camera, or another source of frames. There may be several, each with a table of its own."""

    name: Annotated[Name, Doc("Its name in lines, topics, metrics and file names.", '"front-door"')]
    source: Annotated[
        str,
        Doc(
            "Where its frames come from: /dev/video0, rtsp://..., a film, a folder, as for `ecotta run`.",
            '"rtsp://${CAMERA_USER}:${CAMERA_PASSWORD}@192.168.1.20/stream1"',
        ),
    ]
    share: Annotated[
        float,
        Doc("Its part of the network's time, against the others', where there is not enough for all."),
        Limit(above=0, most=1000),
    ] = 1.0
    max_age_s: Annotated[
        float, Doc("A frame that is older, in seconds, is dropped and counted."), Limit(above=0, most=3600)
    ] = 2.0
    wait: Annotated[bool, Doc("Wait for a camera that is not there at the start; false: end with an error.")] = True
    adapt: Annotated[bool, Doc("Let the network follow this camera; false: its state is held.")] = True
    top: Annotated[
        int, Doc("Tell this many of the likeliest classes in each line; 0: the answer alone."), Limit(0, 100)
    ] = 0
    stretch: Annotated[bool, Doc("Squeeze frames into shape; false: as the bundle says.")] = False
    most_fps: Annotated[
        float | None,
        Doc("Answer at most so many frames a second. Without it: as many as come.", "5"),
        Limit(above=0, most=1000),
    ] = None


@dataclass(frozen=True)
class StateOptions:
    """Where what was learned is kept, and how often it is saved."""

    folder: Annotated[
        str | None,
        Doc(
            "Folder of the snapshots. Without it: the StateDirectory of the systemd unit, else beside the bundle, with "
            f"the suffix {STATE_SUFFIX}.",
            '"/var/lib/ecotta"',
        ),
    ] = None
    every_s: Annotated[float, Doc("Seconds between two snapshots while something changes."), Limit(1, _DAY_S)] = 300.0
    generations: Annotated[int, Doc("How many snapshots of each camera are kept."), Limit(1, 1000)] = 5
    day_limit: Annotated[
        str,
        Doc(
            "At most so much is written a day for each camera; snapshots become rarer where `every_s` would write more."
        ),
        size_fault,
    ] = "1GiB"
    fresh: Annotated[bool, Doc("Begin from the bundle's own state at each start; what was learned is kept.")] = False

    @property
    def day_bytes(self) -> int:
        limit = byte_size(self.day_limit)
        assert limit is not None
        return limit


@dataclass(frozen=True)
class SignsOptions:
    """Signs of whether the answers are still right."""

    every_s: Annotated[float, Doc("Seconds between two lines of signs."), Limit(1, _DAY_S)] = 60.0
    frozen_every: Annotated[
        int,
        Doc(
            "One frame in so many is shown to the frozen network, too, which takes as long as answering it; 0: none, "
            "and a collapse is not seen."
        ),
        Limit(0, 1_000_000),
    ] = 50
    most_error: Annotated[
        float, Doc("Answers are in doubt from this expected share of wrong ones on."), Limit(0.01, 1)
    ] = 0.5
    go_back: Annotated[bool, Doc("Put the last good state back where a camera's stream has collapsed.")] = True


@dataclass(frozen=True)
class LogOptions:
    """What the daemon says on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Doc("The least that is said.")] = "info"
    format: Annotated[Literal["text", "json"], Doc("Lines for people, or JSON, one object a line.")] = "text"
