"""Write a trained network as a file that every command takes in the place of the one it came from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.method.cut.normalise import Normalised
from ecotta_rt.prepare.checkpoint import read_network_file, save_network
from ecotta_rt.prepare.narrowed import channels_in, save_narrowed
from ecotta_rt.prepare.networks import MODELS
from ecotta_rt.prepare.weights import stored_tensors, write_safetensors

__all__ = ["inner", "save_like"]

_SUFFIX = ".safetensors"


def save_like(
    network: nn.Module,
    path: Path,
    *,
    name: str,
    checkpoint: Path | None,
    recipe: Mapping[str, Any],
    frame: FrameSpec,
) -> None:
    """A network file of ours where it is one, else weights for its factory, to be given as its `--checkpoint`.

    Args:
        network: From `open_network`, trained since.
        path: Ends in `.safetensors`; an existing file is replaced.
        name: As given to `open_network`.
        checkpoint: As given to it; that of a narrower network makes this the file of a narrower one.
        recipe: How it was made; JSON values.
        frame: What it takes.

    Raises:
        UsageError: It holds NaN.
        TransferError: It cannot be written; `path` is as it was before.
    """
    network = inner(network)
    origin = Path(name) if name.endswith(_SUFFIX) else checkpoint
    channels = None if origin is None else channels_in(origin)
    if name in MODELS or name.endswith(_SUFFIX):
        model = name if name in MODELS else read_network_file(name).model
        save_network(network, path, model=model, recipe=recipe, channels=channels)
        return
    about = {"factory": name, "recipe": json.dumps(dict(recipe))}
    if channels is not None:
        save_narrowed(network, path, channels=channels, frame=(frame.channels, *frame.size), more=about)
    else:
        tensors = {key: value.clone() for key, value in stored_tensors(network).items()}  # tied ones would be refused
        write_safetensors(path, tensors, about)


def inner(network: nn.Module) -> nn.Module:
    """The network whose tensors are those of its file: without the layer that normalises its frames (--mean)."""
    return network.network if isinstance(network, Normalised) else network
