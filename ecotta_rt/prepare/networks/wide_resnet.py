"""Wide residual networks for 32x32 frames: WRN-40-2 and WRN-28-10.

Pre-activation blocks, widths 16k, 32k, 64k after a 16-channel stem. Module names are those of the public AugMix and
RobustBench checkpoints (`block1.layer.0.conv1`, `convShortcut`), so those load without a key mapping.

Source: Zagoruyko and Komodakis 2016, Wide Residual Networks, arXiv 1605.07146.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.method.cut.normalise import Normalise

__all__ = ["WideResNet"]

# K -> blocks per part: EcoTTA (Song et al. 2023, arXiv 2303.01904), Table 13 as the public reference code has it.
_CUTS = {40: {4: (3, 3, 6, 6), 5: (3, 3, 3, 3, 6)}, 28: {4: (2, 2, 4, 4), 5: (2, 2, 2, 2, 4)}}


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.changes_width = in_channels != out_channels
        if self.changes_width:
            self.convShortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu1(self.bn1(x))
        # A block that changes width takes its shortcut after the activation, the others before it.
        shortcut: Tensor = self.convShortcut(activated) if self.changes_width else x
        residual: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(activated))))
        return shortcut + residual


class _Stage(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = _Block(in_channels, out_channels, stride)
        self.layer = nn.Sequential(first, *(_Block(out_channels, out_channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """WRN-`depth`-`width` on float32 frames `[N, 3, 32, 32]` in [0, 1]; returns logits `[N, classes]`.

    Attributes:
        blocks: Paths of the residual blocks, in order.
        cuts: The paper's partitions: K -> blocks per part.
        ignored_keys: Prefixes of checkpoint keys that no forward uses: RobustBench's networks inherit from TRADES a
            second first stage, `sub_block1`, that is saved but never called.

    Args:
        depth: 6n + 4, n residual blocks a stage.
        width: Widening factor k.
        classes: Number of classes.
        mean: Per-channel mean of the frames, subtracted inside the network.
        std: Per-channel standard deviation, divided by inside the network.
    """

    ignored_keys = ("sub_block1.",)

    def __init__(
        self,
        depth: int,
        width: int,
        classes: int = 10,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.blocks = tuple(f"block{stage}.layer.{index}" for stage in (1, 2, 3) for index in range(blocks))
        self.cuts = _CUTS.get(depth, {})
        self.normalise = Normalise(mean, std)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = _Stage(16, 16 * width, blocks, stride=1)
        self.block2 = _Stage(16 * width, 32 * width, blocks, stride=2)
        self.block3 = _Stage(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(64 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.conv1(self.normalise(frames))
        x = self.block3(self.block2(self.block1(x)))
        x = F.adaptive_avg_pool2d(self.relu(self.bn1(x)), 1)
        logits: Tensor = self.fc(torch.flatten(x, 1))
        return logits
