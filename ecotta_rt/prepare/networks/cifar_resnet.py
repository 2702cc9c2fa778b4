"""Residual networks for 32x32 frames with parameter-free shortcuts: ResNet-20, 32, 44 and 56, and 8.

Module names are those of the public checkpoints of akamaster/pytorch_resnet_cifar10 (`conv1`, `bn1`,
`layer1.0.conv1`, ..., `linear`), so those load without a key mapping.

Source: He, Zhang, Ren, Sun 2016, Deep Residual Learning for Image Recognition, arXiv 1512.03385, section 4.2, option A.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.method.cut.normalise import Normalise

__all__ = ["CifarResNet"]


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.added_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        activated: Tensor = self.relu2(out + self._shortcut(x))
        return activated

    def _shortcut(self, x: Tensor) -> Tensor:
        """Option A: every second pixel, and zeros for the new channels, half of them before the old ones."""
        if self.added_channels == 0:
            return x
        before = self.added_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added_channels - before))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(_Block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


class CifarResNet(nn.Module):
    """ResNet-`depth` on float32 frames `[N, 3, 32, 32]` in [0, 1]; returns logits `[N, classes]`.

    Args:
        depth: 6n + 2, n residual blocks a stage.
        classes: Number of classes.
        mean: Per-channel mean of the frames, subtracted inside the network.
        std: Per-channel standard deviation, divided by inside the network.

    Attributes:
        blocks: Paths of the residual blocks, in order.
    """

    def __init__(self, depth: int, classes: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.blocks = tuple(f"layer{stage}.{index}" for stage in (1, 2, 3) for index in range(blocks))
        self.normalise = Normalise(mean, std)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(self.normalise(frames))))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits
