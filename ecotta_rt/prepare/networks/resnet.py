"""ResNet-50 for frames of ImageNet size.

Module names are torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, `fc`), and so is the stride:
on the 3x3 convolution of a bottleneck, not on its first 1x1, so torchvision's checkpoints load without a key mapping.

Source: He, Zhang, Ren, Sun 2016, Deep Residual Learning for Image Recognition, arXiv 1512.03385, table 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.method.cut.normalise import Normalise

__all__ = ["ResNet50"]

_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # inner width, blocks

# K -> blocks per part: EcoTTA (Song et al. 2023, arXiv 2303.01904), Table 13 as the public reference code has it.
_CUTS = {4: (3, 3, 5, 5), 5: (2, 2, 4, 4, 4)}

_EXPANSION = 4


class _Bottleneck(nn.Module):
    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = _EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu3 = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        activated: Tensor = self.relu3(out + (x if self.downsample is None else self.downsample(x)))
        return activated


def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Bottleneck(in_channels, width, stride)
    return nn.Sequential(first, *(_Bottleneck(_EXPANSION * width, width, 1) for _ in range(blocks - 1)))


class ResNet50(nn.Module):
    """ResNet-50 on float32 frames `[N, 3, H, W]` in [0, 1], usually 224x224; returns logits `[N, classes]`.

    Args:
        classes: Number of classes.
        mean: Per-channel mean of the frames, subtracted inside the network.
        std: Per-channel standard deviation, divided by inside the network.

    Attributes:
        blocks: Paths of the residual blocks, in order.
        cuts: The paper's partitions: K -> blocks per part.
    """

    def __init__(self, classes: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        stages = enumerate(_STAGES, start=1)
        self.blocks = tuple(f"layer{stage}.{index}" for stage, (_, blocks) in stages for index in range(blocks))
        self.cuts = _CUTS
        self.normalise = Normalise(mean, std)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, *_STAGES[0], stride=1)
        self.layer2 = _stage(256, *_STAGES[1], stride=2)
        self.layer3 = _stage(512, *_STAGES[2], stride=2)
        self.layer4 = _stage(1024, *_STAGES[3], stride=2)
        self.fc = nn.Linear(2048, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.normalise(frames)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits
