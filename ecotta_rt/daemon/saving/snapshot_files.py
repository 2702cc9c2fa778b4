"""The file of one adapted state of a camera: its name, what is in it, and the folder that it is in.

00000042-20261129T012345Z-abababababab-0123456789abcdef.safetensors
generation, wall clock (UTC), network, SHA-256 of the content; `.good` or `.before-reset` before the suffix: pinned
"""

import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ecotta_rt.errors import InputFileError
from ecotta_rt.files.digest import sha256
from ecotta_rt.state import MOST_BYTES, AdaptState, state_content

__all__ = [
    "BEFORE_RESET",
    "GOOD",
    "Snapshot",
    "camera_folder",
    "camera_of",
    "foreign",
    "is_source",
    "new_snapshot",
    "read_snapshot",
    "snapshots_in",
]

GOOD = "good"
"""A pin: the last good one, while newer ones are in doubt."""

BEFORE_RESET = "before-reset"
"""A pin: what was learned before somebody let the camera begin anew."""

_NAME = re.compile(
    rf"(\d{{8,}})-(\d{{8}}T\d{{6}}Z)-([0-9a-f]{{12}})-([0-9a-f]{{16}})(?:\.({GOOD}|{BEFORE_RESET}))?\.safetensors",
    re.ASCII,
)
_TIME = "%Y%m%dT%H%M%SZ"
_OURS = ("snapshot.why", "snapshot.time")
_PLAIN = re.compile(r"[^\w.-]|^\.")
_QUOTED = re.compile(rb"(%[0-9A-F]{2})")
_LONGEST_FOLDER = 200
"""Bytes; file systems have room for 255."""


@dataclass(frozen=True, order=True)
class Snapshot:
    """One generation, as its file's name tells it; the order is that of generations.

    Attributes:
        generation: From 1.
        time: By the wall clock when it was written, as `20261129T012345Z`.
        name: Of the file.
        path: The file.
        network: The first 12 digits of its network's digest.
        sha256: The first 16 of its content's.
        pin: Why it stays whatever comes after it, `GOOD` or `BEFORE_RESET`; "": it does not.
    """

    generation: int
    time: str
    name: str
    path: Path
    network: str
    sha256: str
    pin: str

    def path_with(self, pin: str) -> Path:
        """Its path with another pin."""
        stem = self.name.removesuffix(".safetensors").removesuffix(f".{self.pin}")
        return self.path.with_name(f"{stem}{pin and f'.{pin}'}.safetensors")

    def __str__(self) -> str:
        return f"generation {self.generation}"


def new_snapshot(folder: Path, state: AdaptState, generation: int, why: str, time_s: float) -> tuple[Snapshot, bytes]:
    """A new one and its bytes, which are still to be written.

    Args:
        folder: Of its camera.
        state: It.
        generation: From 1.
        why: It is written, in a few words.
        time_s: Seconds since 1970.

    Raises:
        UsageError: It holds NaN or infinity.
    """
    moment = time.gmtime(time_s)
    said = dict(zip(_OURS, (why, time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)), strict=True))
    content = replace(state, metadata={**state.metadata, **said}).to_bytes()
    digest = sha256(content).hexdigest()[:16]
    name = f"{generation:08d}-{time.strftime(_TIME, moment)}-{state.network_digest[:12]}-{digest}.safetensors"
    new = _parsed(folder / name)
    assert new is not None
    return new, content


def snapshots_in(folder: str | Path) -> list[Snapshot]:
    """All there are of one camera, oldest first, by their names alone; those of several networks.

    A folder that is not there or cannot be read has none.
    """
    folder = Path(folder)
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(found for name in names if (found := _parsed(folder / name)) is not None)


def read_snapshot(
    snapshot: Snapshot, network: str | None = None, most_bytes: int = MOST_BYTES
) -> tuple[AdaptState, str]:
    """The state in a snapshot, and why it was written.

    Args:
        snapshot: It.
        network: Digest of the network that is to go on from it; None: any.
        most_bytes: A longer file is refused before it is read.

    Raises:
        InputFileError: It is damaged, truncated, no regular file, of another network, or cannot be read.
    """
    if network is not None and snapshot.network != network[:12]:
        raise InputFileError(f"{snapshot.path}: {foreign(snapshot.network, network)}")
    content = state_content(snapshot.path, most_bytes)
    if (digest := sha256(content).hexdigest()[:16]) != snapshot.sha256:
        raise InputFileError(
            f"{snapshot.path}: damaged: its {len(content)} bytes have SHA-256 {digest}..., and were written with "
            f"{snapshot.sha256}...; is the card failing?"
        )
    state = AdaptState.from_bytes(content, str(snapshot.path))
    if network is not None and state.network_digest != network:
        raise InputFileError(f"{snapshot.path}: {foreign(state.network_digest, network)}")
    metadata = dict(state.metadata)
    why, _ = (metadata.pop(name, "") for name in _OURS)
    return replace(state, metadata=metadata), why


def is_source(state: AdaptState) -> bool:
    """Whether a state has no arrays, and so stands for the network's own one."""
    return not (state.parameters or state.momentum or state.statistics or state.adaptation)


def camera_folder(folder: str | Path, camera: str) -> Path:
    """Where a camera's snapshots are below the state folder: a name for each camera, whatever it holds.

    >>> camera_folder("/var/lib/ecotta", "door 1/2").name
    'door%201%2F2'
    """
    name = _PLAIN.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), camera) or "%"
    if len(_bytes(name)) > _LONGEST_FOLDER:
        name = f"%{sha256(_bytes(camera)).hexdigest()}"
    return Path(folder) / name


def camera_of(folder: Path) -> str:
    """The camera whose snapshots are in a folder, or the folder's own name where that cannot be told.

    >>> camera_of(Path("/var/lib/ecotta/door%201%2F2"))
    'door 1/2'
    """
    try:
        parts = _QUOTED.split(folder.name.encode())
        return b"".join(bytes.fromhex(part[1:].decode()) if part[:1] == b"%" else part for part in parts).decode()
    except ValueError:  # also where the name is no UTF-8, or a digest
        return folder.name


def foreign(digest: str, ours: str) -> str:
    """What is wrong with a state of another network, by their digests."""
    return f"belongs to network {digest[:12]}, and this one is {ours[:12]}"


def _parsed(path: Path) -> Snapshot | None:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    return Snapshot(int(match[1]), match[2], path.name, path, match[3], match[4], match[5] or "")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
