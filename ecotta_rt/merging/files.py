"""Merged networks as files that `ecotta prepare` takes like those that went in."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ecotta_rt.merging.networks import MergedNetworks
from ecotta_rt.prepare.checkpoint import read_network_file, save_network
from ecotta_rt.prepare.narrowed import channels_in
from ecotta_rt.prepare.networks import MODELS
from ecotta_rt.prepare.storing import inner
from ecotta_rt.prepare.weights import has_safetensors, read_safetensors, write_safetensors

__all__ = ["save_merged"]

_SUFFIX = ".safetensors"


def save_merged(
    network: nn.Module,
    path: Path,
    merged: MergedNetworks,
    *,
    name: str,
    checkpoint: Path | None = None,
    frame: tuple[int, int] | None = None,
) -> None:
    """Write one: a network file of ours where it is one, else tensors for its factory, in float32 and with its counts.

    What it was made of stands in it by digest and weight, not by name.

    Args:
        network: Filled by `MergedNetworks.fill`.
        path: An existing file is replaced.
        merged: What it is filled with.
        name: As for `open_network`: the file of ours whose head it has, a model id, or a factory.
        checkpoint: The file whose head it has, with a model id or a factory.
        frame: Height and width that all inputs say they are made for; None: they do not, or not the same.

    Raises:
        TransferError: It cannot be written; `path` is as it was before.
    """
    parts = [{"digest": part.digest, "weight": part.weight, "count": part.count} for part in merged.parts]
    recipe: dict[str, Any] = {"merged": parts} | ({} if frame is None else {"frame": list(frame)})
    channels = channels_in(Path(name) if checkpoint is None else checkpoint)
    if name in MODELS or name.endswith(_SUFFIX):
        model = name if name in MODELS else read_network_file(name).model
        save_network(inner(network), path, model=model, recipe=recipe, channels=channels)
        return
    assert checkpoint is not None
    metadata: Mapping[str, str] = {"factory": name, "recipe": json.dumps(recipe)}
    if channels is not None and has_safetensors(checkpoint):
        ours = read_safetensors(checkpoint)[1]
        metadata = {**metadata, "channels": ours["channels"], "frame": ours["frame"]}
    tensors = {key: value.clone() for key, value in inner(network).state_dict().items()}  # tied ones would be refused
    write_safetensors(path, tensors, metadata)
