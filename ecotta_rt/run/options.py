"""What a run is asked for, whoever asks: a command line, a configuration."""

from dataclasses import dataclass
from os.path import realpath  # Path.resolve calls a circle of links a RuntimeError
from pathlib import Path
from typing import Any, Literal

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.atomic import check_target
from ecotta_rt.fleet.folder import STATE_SUFFIX
from ecotta_rt.options import AnswerKind

__all__ = ["RunOptions"]


@dataclass(frozen=True)
class RunOptions:
    """One bundle over one source.

    The attributes are the options of `ecotta run`, whose help explains them; `memory_limit_bytes` is its
    `--memory-limit`. `source` is what `open_source` takes, `out` what `open_sink` takes; None: standard output.
    """

    bundle: Path
    source: str
    out: str | None = None
    limit: int | None = None
    realtime: bool = False
    stretch: bool = False
    adapt_every: int = 1
    no_adapt: bool = False
    learning: Literal["off", "on"] | None = None
    answer: AnswerKind | None = None
    views: int | None = None
    batch: int | None = None
    frame_by_frame: bool = False
    fast: bool = False
    state: Path | None = None
    no_state: bool = False
    fresh: bool = False
    save_every: float = 60.0
    device: str | None = None
    threads: int | None = None
    memory_limit_bytes: int | None = None
    max_temperature: float | None = None
    trial: Literal["first", "always", "off"] = "first"
    guard: Literal["on", "off"] = "on"

    @property
    def learns(self) -> bool:
        """Whether a state will be written; one that is only read may lie where nobody can write."""
        return not (self.no_state or self.no_adapt)

    @property
    def state_path(self) -> Path:
        return self.state or self.bundle.with_suffix(STATE_SUFFIX)

    def limit_bytes(self) -> int | None:
        """What the process may have; raises UsageError for an unknown device."""
        from ecotta_rt.machine.device import load_device

        if self.memory_limit_bytes is not None or self.device is None:
            return self.memory_limit_bytes
        return load_device(self.device).default_limit_bytes

    def ways(self) -> dict[str, Any]:
        """Keywords of `Runtime.load`."""
        return {
            "batch": self.batch,
            "frame_by_frame": self.frame_by_frame,
            "fast": self.fast,
            "adapt": self._adapt,
            "answer": self.answer,
            "views": self.views,
            "device": self.device,
            "threads": self.threads,
            "memory_limit_bytes": self.limit_bytes(),
        }

    @property
    def _adapt(self) -> bool | None:
        """Whether to learn by gradients; None: as the bundle says."""
        if self.no_adapt:
            return False
        return None if self.learning is None else self.learning == "on"

    def check(self) -> None:
        """Find out before the first frame what could not be done after the last.

        Raises:
            UsageError, InputFileError, TransferError: A number or a path that cannot be meant, read or written.
        """
        self._check_numbers()
        if not self.bundle.exists():
            raise InputFileError(f"{self.bundle}: no such file; expected a bundle (.ecotta)")
        if self.bundle.is_dir():
            raise InputFileError(f"{self.bundle}: this is a folder; expected a bundle (.ecotta)")
        self._check_outputs()

    def _check_numbers(self) -> None:
        if self.no_adapt and self.learning == "on":
            raise UsageError("--no-adapt with --learning on: leave out one of the two")
        if not self.no_adapt and self.adapt_every < 1:
            raise UsageError(f"--adapt-every {self.adapt_every}: give 1 or more; --no-adapt never learns")
        for option in ("limit", "threads", "batch"):
            number = getattr(self, option)
            if number is not None and number < 1:
                raise UsageError(f"--{option} {number}: give 1 or more")
        if not self.save_every > 0:
            raise UsageError(f"--save-every {self.save_every:g}: give seconds above 0; --no-state never saves")
        if self.guard == "off" and (self.memory_limit_bytes, self.max_temperature) != (None, None):
            raise UsageError(
                "--memory-limit and --max-temperature are for the guard; leave out either them or --guard off"
            )

    def _check_outputs(self) -> None:
        from ecotta_rt.sinks.opening import check_sink

        state = None if self.no_state else self.state_path
        for option, path in {"--out": self.out, "--state": state}.items():
            if path is not None and realpath(path) == realpath(self.bundle):
                raise UsageError(f"{option} {path} would replace the bundle; name another file")
        if self.out is not None and state is not None and realpath(self.out) == realpath(state):
            raise UsageError(f"--out {self.out} is the file of the state; name another")
        if self.out is not None:
            check_sink("--out", self.out, self.source)
        if state is not None and self.learns:
            check_target(state)
