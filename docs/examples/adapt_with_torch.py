"""The library on the host: the same step in torch, then compiled for a device.

python docs/examples/adapt_with_torch.py        beside weights.pt, and net.ecotta-k4.safetensors of `ecotta prepare`
"""

from pathlib import Path

import torch

from ecotta_rt import AdaptState, ExportOptions, TorchEngine, attach, export, open_network, partition
from ecotta_rt.options import ON_DEVICE

frozen = open_network("docs/examples/own_network.py:build", checkpoint=Path("weights.pt"))
network = attach(partition(frozen, torch.zeros(1, 3, 96, 96), parts=4))
engine = TorchEngine(network, ON_DEVICE, state=AdaptState.load("net.ecotta-k4.safetensors"))
for _ in range(10):
    frames = torch.rand(1, 3, 96, 96)  # float32 in [0, 1]; your stream goes here
    labels = engine(frames).argmax(dim=1)  # answered first, then learned from
engine.state.save("adapted.safetensors")

classes = ["dog", "elephant", "giraffe", "guitar", "horse"]
export(network, engine.state, "adapted.ecotta", ExportOptions(model="mine", classes=classes, step=ON_DEVICE))
