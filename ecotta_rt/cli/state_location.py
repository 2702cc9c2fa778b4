"""What the WHERE of `ecotta state` leads to: cameras with generations, or a single file; and their bundle."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from ecotta_rt.bundle import Bundle, read_bundle
from ecotta_rt.daemon.configuration.tables import STATE_SUFFIX as FOLDER_SUFFIX
from ecotta_rt.daemon.saving.kept_states import CameraStates, KeptState, cameras_in, chosen
from ecotta_rt.daemon.saving.snapshot_files import camera_folder, foreign, is_source, snapshots_in
from ecotta_rt.errors import ConfigurationError, EcottaError, InputFileError, UsageError
from ecotta_rt.fleet.folder import STATE_SUFFIX as FILE_SUFFIX
from ecotta_rt.fleet.folder import states_in
from ecotta_rt.state import SECTIONS, AdaptState

__all__ = ["StateLocation", "state_location"]

_BUNDLE_SUFFIX = ".ecotta"
SOURCE = "source"
_NAMED = 12

Named = tuple[str, AdaptState]
"""A state, and what to call it."""


@dataclass(frozen=True)
class StateLocation:
    """What an owner has named.

    Attributes:
        where: As it was named.
        bundle: The network's; None: not known.
        cameras: Those that have states there.
        file: A single state; then there are no cameras.
        boards: Files of single states in a folder that has no cameras, by their boards' names.
        hint: What to try where there is nothing.
    """

    where: Path
    bundle: Bundle | None
    cameras: tuple[CameraStates, ...] = ()
    file: Path | None = None
    boards: Mapping[str, Path] = field(default_factory=dict)
    hint: str = ""

    @cached_property
    def source(self) -> AdaptState | None:
        """The bundle's own state."""
        return None if self.bundle is None else self.bundle.initial_state()

    def source_of(self, state: AdaptState) -> AdaptState | None:
        """The source of a state, where it is known."""
        return self.source if _digest(self.bundle) == state.network_digest else None

    def require_network(self, state: AdaptState, name: str) -> None:
        """Raise `InputFileError` where a state is of another network than the bundle's."""
        asked = _digest(self.bundle)
        if asked not in (None, state.network_digest):
            raise InputFileError(f"{name}: belongs to network {state.network_digest[:12]}, not to {asked[:12]}")

    def require_held(self, state: AdaptState, name: str) -> None:
        """Raise `InputFileError` where norms that boards hold are not the bundle's: a run would refuse the state."""
        if self.bundle is None or (source := self.source_of(state)) is None or is_source(state):
            return
        for array in self.bundle.manifest.layout.held:
            found = state.statistics.get(array.name)
            if found is None or not np.array_equal(found, source.statistics[array.name]):
                raise InputFileError(
                    f"{name}: its {array.name} is not the bundle's: a norm that boards hold, so they refuse the state; "
                    "it comes from another warm-up"
                )

    @property
    def why_no_source(self) -> str:
        """Why the source of a state is not known, and what to try."""
        if self.bundle is not None:
            return f"it belongs to another network than the bundle, {self.bundle.manifest.network_digest[:12]}"
        if self.where.suffix == ".toml":
            return "the configuration's bundle cannot be read from here; name it with --bundle"
        return "name the bundle with --bundle, or the configuration in place of this"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the network's classes; none where they are not known."""
        return () if self.bundle is None else self.bundle.manifest.classes

    def camera(self, name: str | None) -> CameraStates:
        """The one that is meant.

        Raises:
            UsageError: None of that name, several and no name, or single files.
        """
        if self.file is not None:
            raise UsageError(
                f"{self.file} is a single state and has no generations; `ecotta run --fresh` begins at the source, and "
                "a copy of the file put back is a rollback"
            )
        if self.boards:
            raise UsageError(
                f"{self.where} has states of boards, each a file without generations: {_some(self.boards)}; name one, "
                f"such as `ecotta state show {self.where} {next(iter(self.boards))}`"
            )
        if not self.cameras:
            raise UsageError(f"{self.where}: no states{self.hint}")
        return chosen(self.cameras, name, self.where)

    def camera_to_be(self, name: str | None) -> CameraStates:
        """The one that is meant; below a state folder without any it may be one that has no states yet.

        Raises:
            UsageError: As `camera`; or that folder is one camera's, or not there, or has other cameras: then a new
                name may be a slip, and only a configuration tells.
        """
        known = self.file is not None or any(name in (None, one.camera) for one in self.cameras)
        if name is None or known or not self.where.is_dir() or snapshots_in(self.where):
            return self.camera(name)
        if self.cameras:
            names = ", ".join(one.camera for one in self.cameras)
            raise UsageError(
                f"--camera {name}: there are no states of it in {self.where}, but of {names}; for a new camera name "
                "the configuration in place of the folder"
            )
        return CameraStates(name, camera_folder(self.where, name), _digest(self.bundle))

    def to_adopt(self, states: CameraStates, file: str) -> tuple[int | None, AdaptState]:
        """The generation that counts now, None where there is none; and the state in a file, which can take its place.

        Raises:
            UsageError: There is no such file, or its state stands for the source.
            InputFileError: It cannot be read, or the camera's network cannot go on from it.
        """
        if not os.path.lexists(file):
            raise UsageError(f"{file}: there is no such file; adopt takes a state's")
        valid = [(kept.snapshot.generation, kept.state) for kept in states.all() if kept.state is not None]
        like = next((state for _, state in valid if not is_source(state)), self.source)
        state = AdaptState.load(file)
        if is_source(state):
            raise UsageError(f"{file} has no arrays and stands for the source: `ecotta state reset` begins there")
        network = _digest(self.bundle) or next((one.network_digest for _, one in valid), None) or self._network()
        if network is not None and state.network_digest != network:
            raise InputFileError(f"{file}: {foreign(state.network_digest, network)}")
        if like is not None and (strange := _first_unlike(state, like)):
            raise InputFileError(f"{file}: {strange} is not as the camera's network has it; it cannot be gone on from")
        self.require_held(state, file)
        return (valid[0][0] if valid else None), state

    def _network(self) -> str | None:
        """The digest of the network that other cameras have; None: not known."""
        every = (kept.state for camera in self.cameras for kept in camera.all())
        return next((state.network_digest for state in every if state is not None), None)

    def state(self, camera: str | None, which: str | None) -> Named:
        """A state by a generation, a board's name, a file's or `source`; None: the newest valid one.

        Raises:
            UsageError: There is no such thing.
            InputFileError: It cannot be read.
        """
        if which == SOURCE:
            return SOURCE, self._require_source()
        if which is None and self.file is not None:
            return str(self.file), AdaptState.load(self.file)
        board = which if which is not None else camera
        if board is not None and board in self.boards:
            return board, AdaptState.load(self.boards[board])
        if which is None or which.isdecimal():
            states = self.camera(camera)
            return self._named(states, states.newest() if which is None else states.of(int(which)))
        if not os.path.lexists(which):
            known = f"; the boards are {_some(self.boards)}" if self.boards else ""
            raise UsageError(f"{which}: neither a generation, nor a state's file, nor `{SOURCE}`{known}")
        return which, AdaptState.load(which)

    def pair(self, camera: str | None, which: Sequence[str]) -> tuple[Named, Named]:
        """The two that are to be compared; where the user has named fewer, the newest is the second.

        Raises:
            UsageError: There are no two, or they belong to different networks.
            InputFileError: One of them cannot be read.
        """
        first, second = self._pair(camera, which)
        one, other = first[1].network_digest, second[1].network_digest
        if one != other:
            raise UsageError(f"{first[0]} belongs to network {one[:12]}, {second[0]} to {other[:12]}: not comparable")
        return first, second

    def _pair(self, camera: str | None, which: Sequence[str]) -> tuple[Named, Named]:
        if len(which) == 2:
            return self.state(camera, which[0]), self.state(camera, which[1])
        if which or self.file is not None:
            if not which:
                raise UsageError(f"diff {self.file}: with what? name another state's file, or `{SOURCE}`")
            return self.state(camera, which[0]), self.state(camera, None)
        states = self.camera(camera)
        valid = [kept for kept in states.all() if kept.state is not None]
        if len(valid) < 2:
            raise UsageError(f"{states.camera!r} has {_count(valid)}; two are compared, or one with `{SOURCE}`")
        return self._named(states, valid[1]), self._named(states, valid[0])

    def rollback_from(self, states: CameraStates, which: str | None) -> tuple[int, KeptState]:
        """The generation that counts now, and the older one that is to count instead.

        Raises:
            UsageError: There is no such generation, or no older one.
            InputFileError: It cannot be gone on from.
        """
        if which is not None and not which.isdecimal():
            raise UsageError(f"rollback {which}: give the number of a generation, as `ecotta state list` shows it")
        every = states.all()
        valid = [kept for kept in every if kept.state is not None]
        newest = max((kept.snapshot.generation for kept in valid), default=0)
        if which is not None:
            return newest, states.of(int(which))
        if len(valid) < 2:
            raise UsageError(
                f"{states.camera!r} has {_count(valid)} and so none before the newest; `ecotta state reset` "
                "begins at the source"
            )
        return newest, valid[1]

    def _named(self, states: CameraStates, kept: KeptState) -> Named:
        assert kept.state is not None
        label = f"{states.camera}, {kept.snapshot}"
        if is_source(kept.state):
            return f"{label} (the source)", self._require_source()
        return label, kept.state

    def _require_source(self) -> AdaptState:
        if self.source is None:
            raise UsageError("the source is the bundle's own state: name the bundle with --bundle")
        return self.source


def state_location(where: Path, bundle: Path | None) -> StateLocation:
    """Find out what is there.

    Args:
        where: A state folder or one camera's in it, a configuration, or a state's file.
        bundle: The network's; None: it is looked for.

    Raises:
        UsageError: Nothing is there, or something else.
        ConfigurationError: The configuration cannot be meant.
        InputFileError: `bundle` cannot be read.
    """
    given = None if bundle is None else read_bundle(bundle, verify=False)
    if where.suffix == ".toml":
        return _of_configuration(where, given)
    if where.is_dir():
        found = given or _beside(where.with_suffix(_BUNDLE_SUFFIX) if where.suffix == FOLDER_SUFFIX else None)
        hint = "; `ecotta serve` keeps them in the folder that its configuration names"
        cameras = tuple(cameras_in(where, _digest(found)))
        return StateLocation(where, found, cameras, boards={} if cameras else states_in(where), hint=hint)
    if not os.path.lexists(where):
        raise UsageError(f"{where}: there is no such file or folder")
    if where.suffix == _BUNDLE_SUFFIX:
        raise UsageError(f"{where} is a bundle; name a state folder, a configuration or a state's file, see --help")
    stem = where.name.removesuffix(FILE_SUFFIX)
    found = given or _beside(where.with_name(stem + _BUNDLE_SUFFIX) if stem != where.name else None)
    return StateLocation(where, found, file=where)


def _of_configuration(path: Path, given: Bundle | None) -> StateLocation:
    from ecotta_rt.daemon.configuration.config_reading import read_locations
    from ecotta_rt.daemon.configuration.environment_file import environment_of

    try:
        places = read_locations(path, environment_of(path, os.environ))
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}\n  or name the state folder itself instead of {path}") from error
    found = given or _beside(Path(places.bundle))
    folder = places.state_folder
    hint = f" in {folder}; a service keeps them in its StateDirectory, such as /var/lib/ecotta: name that"
    there = cameras_in(folder, _digest(found), places.cameras) if folder.is_dir() else []
    return StateLocation(path, found, tuple(there), hint=hint)


def _beside(path: Path | None) -> Bundle | None:
    """A bundle that nobody has named: where it cannot be read it is not missed."""
    try:
        return None if path is None or not path.exists() else read_bundle(path, verify=False)
    except (EcottaError, OSError):
        return None


def _first_unlike(state: AdaptState, like: AdaptState) -> str | None:
    """The name of an array that only one of the two has, or that has another shape there."""
    for section in SECTIONS:
        found, expected = ({n: a.shape for n, a in getattr(one, section).items()} for one in (state, like))
        for name in sorted({*found, *expected}):
            if found.get(name) != expected.get(name):
                return f"{section}/{name}"
    return None


def _count(valid: Sequence[KeptState]) -> str:
    return f"{len(valid)} valid state{'s' * (len(valid) != 1)}"


def _some(names: Iterable[str]) -> str:
    """The first dozen."""
    first = [*islice(names, _NAMED + 1)]
    return ", ".join(first[:_NAMED]) + ", ..." * (len(first) > _NAMED)


def _digest(bundle: Bundle | None) -> str | None:
    return None if bundle is None else bundle.manifest.network_digest
