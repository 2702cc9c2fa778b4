"""Write the source network as an inference-only graph: the denominator of "a step costs x forward passes" in onnx.

No meta groups, and every norm that can be is merged into the convolution before it. It is a plain ONNX file with its
weights beside it, which onnxruntime maps; so it is not at a disadvantage against a bundle.
"""

import tempfile
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from ecotta_rt.bench.peers.forward_time import fold_norms
from ecotta_rt.exporter.liveness import infer_shapes, live_bytes
from ecotta_rt.exporter.lowering import lower
from ecotta_rt.exporter.passes.fold_constants import fold_constants
from ecotta_rt.exporter.traced import Traced
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.temporary import temporary_folder

__all__ = ["export_forward"]


def export_forward(network: nn.Module, frames: Tensor, path: Path) -> None:
    """Write `path` (.onnx) and its weights (`path` with .bin), whole or not at all.

    The file's metadata has `parameters` (of the network), `classes`, and `step_peak_bytes`, the most bytes of tensors
    alive at any moment as planned.

    Args:
        network: Takes frames, returns logits `[N, classes]`. Not changed.
        frames: float32 `[N, C, H, W]`: the size of every run.
        path: Where to.

    Raises:
        NetworkError: An operator that has no ONNX rule.
        TransferError: It cannot be written.
    """
    folded = fold_norms(network, frames)
    with torch.no_grad():
        traced = make_fx(lambda frames: (folded(frames),))(frames)
        classes = folded(frames[:1]).shape[1]
    model = lower(Traced(traced, ("frames",), ("logits",)), "forward")
    fold_constants(model)
    infer_shapes(model)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    facts = {"parameters": parameters, "classes": classes, "step_peak_bytes": live_bytes(model).peak_bytes}
    model.metadata_props.update({name: str(value) for name, value in facts.items()})
    weights = path.with_suffix(".bin")
    with temporary_folder(tempfile.gettempdir(), "ecotta-export-") as folder:
        ir.save(model, folder / path.name, external_data=weights.name)
        # The graph last: where it is, its weights are.
        for name in (weights.name, path.name):
            written = folder / name
            if written.is_file():  # a toy network has no weight that is worth a file
                write_atomic(path.with_name(name), written.read_bytes())
