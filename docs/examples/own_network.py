"""A network of your own: any torch module whose norms are batch norms and that torch.fx can trace.

ecotta prepare docs/examples/own_network.py:build --checkpoint weights.safetensors --data ...
"""

from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Float32 `[N, C, H, W]` to half the height and width."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Network(nn.Module):
    """Frames in [0, 1] to logits: what normalising they need is done here, no softmax is at the end."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.blocks = nn.Sequential(Block(16, 24), Block(24, 32), Block(32, 48), Block(48, 64))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(64, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Float32 `[N, 3, H, W]` to `[N, classes]`."""
        return self.head(self.pool(self.blocks(self.stem(frames * 4 - 2))).flatten(1))


def build() -> Network:
    """What `ecotta prepare FILE.py:build` calls."""
    return Network(classes=5)
