"""Which states a node gives, and where it wants merged ones: its node configuration, and what lies on its disk.

state = "/var/lib/ecotta"           the state folder of its daemon, or one state's file
camera = "front-door"               of that folder only this one; else all
drop = "/srv/boards"                or a gateway's folder, with one state of a board too small for Flower in each file
name = "garage"                     what its boards are called here: "garage/front-door"
merged = "/var/lib/ecotta-merged"   where merged states are to be written; without it none is asked for
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ecotta_rt.daemon.saving.kept_states import cameras_in
from ecotta_rt.daemon.saving.snapshot_files import is_source
from ecotta_rt.errors import ConfigurationError, EcottaError, InputFileError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.fleet.folder import state_path, states_in
from ecotta_rt.fleet.shared import shared
from ecotta_rt.state import SECTIONS, AdaptState

__all__ = ["MERGED_SUFFIX", "Board", "board_of"]

MERGED_SUFFIX = ".merged.state.safetensors"

_MOST_BOARDS = 10_000
_MOST_BYTES = 64 << 20
_KEYS = ("state", "camera", "drop", "name", "merged")


@dataclass(frozen=True)
class Board:
    """A node, as its configuration has it.

    Attributes:
        state: The state folder of its daemon, or one state's file; None: it is a gateway.
        camera: Of that folder only this one; None: all.
        drop: A gateway's folder of states; None: it is a board.
        name: What comes before the names of its states; "": nothing.
        merged: The folder for merged states; None: none is asked for.
    """

    state: Path | None
    camera: str | None = None
    drop: Path | None = None
    name: str = ""
    merged: Path | None = None

    def given(self) -> tuple[dict[str, AdaptState], dict[str, str]]:
        """The states it gives by their names, newest and valid; and why others are not given."""
        states: dict[str, AdaptState] = {}
        missing: dict[str, str] = {}
        for name, found in self._found():
            if isinstance(found, str):
                missing[self._named(name)] = found
            else:
                states[self._named(name)] = shared(found)
        return states, missing

    def take(self, name: str, own: AdaptState | None, merged: bytes) -> Path:
        """Write a merged state, for the owner to adopt; whole or not at all.

        Args:
            name: As `given` has it.
            own: The state that it gives under that name; None: none.
            merged: The content of the merged one's file.

        Raises:
            InputFileError: It is none that could go on from the state of that name.
            TransferError: It cannot be written.
        """
        if own is None or self.merged is None:
            raise InputFileError(f"{name}: no merged state was asked for")
        state = AdaptState.from_bytes(merged, f"merged state for {name}")
        if state.network_digest != own.network_digest or _shapes(state) != _shapes(own):
            raise InputFileError(f"merged state for {name}: it belongs to another network; not written")
        path = state_path(self.merged, name, MERGED_SUFFIX)
        write_atomic(path, merged)
        return path

    def _named(self, name: str) -> str:
        return "/".join(part for part in (self.name, name) if part)

    def _found(self) -> Iterator[tuple[str, AdaptState | str]]:
        """Name, and state or why there is none."""
        if self.drop is not None:
            for name, path in islice(states_in(self.drop).items(), _MOST_BOARDS):
                yield name, _loaded(path)
            return
        assert self.state is not None
        if not self.state.is_dir():
            yield "" if self.name else self.state.name.partition(".")[0], _loaded(self.state)
            return
        cameras = [one for one in cameras_in(self.state) if self.camera in (None, one.camera)]
        for states in cameras:
            try:
                yield states.camera, states.learned()[1]
            except EcottaError as error:
                yield states.camera, str(error)
        if not cameras:
            yield self.camera or "", f"{self.state}: no states yet"


def board_of(config: Mapping[str, object]) -> Board:
    """Read a node's configuration; keys of others are left alone.

    Raises:
        ConfigurationError: It names nothing to give, or both kinds, or a value that is no text.
    """
    texts: dict[str, str] = {}
    for key in _KEYS:
        value = config.get(key)
        if value is not None and (not isinstance(value, str) or not value or "\0" in value):
            raise ConfigurationError(f"node configuration: {key}: expected a text, found {value!r}")
        if value is not None:
            texts[key] = value
    if ("state" in texts) == ("drop" in texts):
        raise ConfigurationError(
            'node configuration: give state="FOLDER" of a daemon, or drop="FOLDER" of a gateway, one of them: '
            "flower-supernode --node-config 'state=\"/var/lib/ecotta\"'"
        )
    paths = {key: Path(texts[key]) for key in ("state", "drop", "merged") if key in texts}
    return Board(paths.get("state"), texts.get("camera"), paths.get("drop"), texts.get("name", ""), paths.get("merged"))


def _loaded(path: Path) -> AdaptState | str:
    try:
        state = AdaptState.load(path, most_bytes=_MOST_BYTES)
    except InputFileError as error:
        return str(error)
    return state if not is_source(state) else f"{path}: it stands for the source, and nothing was learned"


def _shapes(state: AdaptState) -> dict[tuple[str, str], tuple[int, ...]]:
    return {(section, n): a.shape for section in SECTIONS for n, a in getattr(state, section).items()}
