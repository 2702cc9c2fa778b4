"""Networks that somebody trained for other tasks, found in a folder or described in a TOML file.

    find_source_networks([folder, "others.toml"])  ->  specs  ->  open_source_networks(specs, frame)

Of a folder our own network files are taken, which hold no code. Checkpoints of others do not say which network they
belong to; a TOML file says it, a table a network, paths relative to the file:

    [birds]
    network = "zoo.py:birds"        # FACTORY is called; or PACKAGE.MODULE:FACTORY, a model id, a file of ours
    checkpoint = "birds.pth"
    mean = [0.485, 0.456, 0.406]    # where the network does not normalise its frames itself
    std = [0.229, 0.224, 0.225]
    size = 224                      # where neither the network nor the file says it

A TOML file in a folder is never read unless it is named itself: with it the code would run that it names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import EcottaError, InputFileError, NetworkError, UsageError
from ecotta_rt.files.fields import Limit
from ecotta_rt.files.toml_text import read_toml
from ecotta_rt.prepare.narrowed import LARGEST_SIDE
from ecotta_rt.prepare.open_network import frame_channels, made_for, open_network
from ecotta_rt.prepare.snapshot import weights_digest
from ecotta_rt.sources.images import in_natural_order
from ecotta_rt.student.feature_tap import FeatureTap

__all__ = [
    "LeftOut",
    "SourceNetwork",
    "SourceSpec",
    "find_source_networks",
    "largest_frame",
    "open_source_networks",
]

_CHECKPOINTS = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin")
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class _Described:
    """A table of the TOML file."""

    network: str
    checkpoint: str | None = None
    classes: Annotated[int, Limit(2, 32_768)] | None = None
    mean: Annotated[tuple[float, ...], Limit(most=3)] = ()
    std: Annotated[tuple[float, ...], Limit(most=3)] = ()
    size: Annotated[int, Limit(1, LARGEST_SIDE)] | None = None


@dataclass(frozen=True)
class SourceSpec:
    """A source network that has been found and not opened yet; fields as for `open_network`."""

    name: str
    network: str
    checkpoint: Path | None = None
    classes: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: int | None = None


@dataclass(frozen=True)
class LeftOut:
    """A source that cannot be used, and why."""

    name: str
    why: str


@dataclass(frozen=True, eq=False)
class SourceNetwork:
    """A source network, frozen, in evaluation mode.

    Attributes:
        name: Of its file or table.
        tap: Its features and logits for frames of the target.
        made_for: Height and width that it was made for; other frames are resized to it. None: any.
        digest: Of its weights.
    """

    name: str
    tap: FeatureTap
    made_for: tuple[int, int] | None
    digest: str

    @property
    def classes(self) -> int:
        """How many it tells apart."""
        return self.tap.classes

    @torch.no_grad()
    def answers(self, frames: Tensor) -> Tensor:
        """Its softmax for float32 `[N, C, H, W]` in [0, 1]: `[N, classes]`."""
        return self.tap(frames).logits.softmax(1)


class _Fitted(nn.Module):
    """A network that takes the target's frames: resized and recoloured to those that it was made for."""

    def __init__(self, network: nn.Module, size: tuple[int, int] | None, channels: int) -> None:
        super().__init__()
        self.network, self._size, self._channels = network, size, channels

    def forward(self, frames: Tensor) -> Tensor:
        if self._channels == 1 and frames.shape[1] == 3:
            frames = (frames * frames.new_tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        elif self._channels == 3 and frames.shape[1] == 1:
            frames = frames.expand(-1, 3, -1, -1)
        if self._size is not None and frames.shape[2:] != self._size:
            frames = F.interpolate(frames, self._size, mode="bilinear", antialias=True, align_corners=False)
        logits: Tensor = self.network(frames)
        return logits


def find_source_networks(places: Sequence[str | Path]) -> tuple[SourceSpec, ...]:
    """Look what there is, in folders, in TOML files and in single files of ours.

    Raises:
        UsageError: Two of the same name.
        InputFileError: A place that is not there, or a folder without checkpoints.
        ConfigurationError, TransferError: As `read_toml` and `Document.read`.
    """
    specs = [spec for place in places for spec in _found(Path(place))]
    names = [spec.name for spec in specs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two source networks are called {twice!r}; rename one of the files, or its table")
    return tuple(specs)


def open_source_networks(
    specs: Sequence[SourceSpec],
    frame: FrameSpec | None = None,
    *,
    leave_out: bool = False,
    tell: Callable[[str], None] | None = None,
) -> tuple[tuple[SourceNetwork, ...], tuple[LeftOut, ...]]:
    """Open them all and try each once. **Runs the user's own code** where a spec names a factory.

    Args:
        specs: From `find_source_networks`.
        frame: The target's; None: what `largest_frame` says.
        leave_out: Leave out those that cannot be used, instead of refusing all.
        tell: Hears of changes that were made so that weights fit.

    Returns:
        The networks, and those left out.

    Raises:
        InputFileError: One that cannot be used; the message names every such one. Or none is left.
    """
    opened: list[tuple[SourceSpec, nn.Module]] = []
    left: list[LeftOut] = []
    for spec in specs:
        try:
            opened.append((spec, _opened(spec, tell)))
        except EcottaError as error:
            left.append(LeftOut(spec.name, str(error)))
    frame = frame or _largest([_made_for(spec, network) for spec, network in opened])
    networks: list[SourceNetwork] = []
    for spec, network in opened:
        try:
            networks.append(_fitted(spec, network, frame))
        except EcottaError as error:
            left.append(LeftOut(spec.name, str(error)))
    if left and (not leave_out or not networks):
        advice = " Mend, describe (a checkpoint of others needs a TOML file) or remove them"
        advice += ", or leave them out" if networks else ""
        listed = "\n".join(f"  {one.name}: {one.why}" for one in left)
        raise InputFileError(f"{len(left)} of {len(specs)} source networks cannot be used:\n{listed}\n{advice}")
    return tuple(networks), tuple(left)


def largest_frame(networks: Sequence[SourceNetwork]) -> FrameSpec | None:
    """Colour frames of the largest size that one of them was made for; None where none says any."""
    return _largest([network.made_for for network in networks])


def _largest(sizes: Sequence[tuple[int, int] | None]) -> FrameSpec | None:
    known = [size for size in sizes if size is not None]
    if not known:
        return None
    height, width = max(known, key=lambda size: size[0] * size[1])
    return FrameSpec(3, height, width)


def _found(place: Path) -> list[SourceSpec]:
    if place.suffix == ".toml":
        return _described(place)
    if place.suffix == ".safetensors" and place.is_file():
        return [SourceSpec(place.stem, str(place))]
    if not place.is_dir():
        raise InputFileError(f"{place}: no such folder of network files, and no .toml that describes some")
    try:
        inside = [one for one in place.iterdir() if one.suffix in _CHECKPOINTS and not one.name.startswith(".")]
    except OSError as error:
        raise InputFileError(f"{place}: cannot be read ({error.strerror or error})") from error
    if not inside:
        raise InputFileError(f"{place}: no network file in it ({', '.join(_CHECKPOINTS)})")
    return [SourceSpec(one.stem, str(one)) for one in sorted(inside, key=in_natural_order)]


def _described(path: Path) -> list[SourceSpec]:
    document = read_toml(path)
    if not document.values:
        raise InputFileError(f"{path}: no table in it; expected [NAME] with network = ... for each source network")
    return [_spec(name, document.part(name).read(_Described), path.parent) for name in document.values]


def _spec(name: str, table: _Described, folder: Path) -> SourceSpec:
    network = table.network
    place = network.rpartition(":")[0]
    if place.endswith(".py") or network.endswith(".safetensors"):
        network = str(folder / network)
    checkpoint = None if table.checkpoint is None else folder / table.checkpoint
    return SourceSpec(name, network, checkpoint, table.classes, table.mean, table.std, table.size)


def _opened(spec: SourceSpec, tell: Callable[[str], None] | None) -> nn.Module:
    path = Path(spec.network)
    if path.suffix in _CHECKPOINTS and path.suffix != ".safetensors":
        raise InputFileError(
            f"{path}: does not say which network it belongs to; describe it in a TOML file "
            f'([{spec.name}], network = "FILE.py:FACTORY", checkpoint = "{path.name}") and name that file instead'
        )

    def tell_named(line: str) -> None:
        if tell:
            tell(f"{spec.name}: {line}")

    network = open_network(
        spec.network,
        classes=spec.classes,
        checkpoint=spec.checkpoint,
        mean=spec.mean,
        std=spec.std,
        tell=tell_named,
    )
    return network.eval().requires_grad_(False)


def _made_for(spec: SourceSpec, network: nn.Module) -> tuple[int, int] | None:
    return (spec.size, spec.size) if spec.size is not None else made_for(spec.network, network)


def _fitted(spec: SourceSpec, network: nn.Module, frame: FrameSpec | None) -> SourceNetwork:
    size = _made_for(spec, network)
    if frame is None:
        raise NetworkError("no source network says what frames it takes; give a size, or size = N in the TOML file")
    fitted = _Fitted(network, size, frame_channels(network)).eval()
    tap = FeatureTap(fitted, (frame.channels, frame.height, frame.width))
    return SourceNetwork(spec.name, tap, size, weights_digest(network))
