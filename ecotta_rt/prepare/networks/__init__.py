"""The networks defined here, by id.

Each takes float32 frames `[N, 3, H, W]` in [0, 1], normalises them itself, and returns logits `[N, classes]`. The
defaults are those of the checkpoints people have:

    model                checkpoints        classes   mean, std
    wrn-40-2             AugMix                  10   0.5, 0.5
    wrn-28-10            RobustBench             10   0, 1 (frames as they are)
    resnet-20 ... -56    akamaster               10   ImageNet's
    resnet-8             none: a small student   10   ImageNet's
    resnet-50            torchvision           1000   ImageNet's
    efficientnet-lite0   PyPI package          1000   127/255, 128/255

A network lists its residual blocks in `blocks` and the paper's partitions in `cuts`; see
`ecotta_rt.method.cut.partition`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.networks.cifar_resnet import CifarResNet
from ecotta_rt.prepare.networks.efficientnet_lite import EfficientNetLite0
from ecotta_rt.prepare.networks.resnet import ResNet50
from ecotta_rt.prepare.networks.wide_resnet import WideResNet

__all__ = ["MODELS", "Model", "build_network"]

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Model:
    """How to build one network, and the preprocessing its public checkpoints were trained with.

    Attributes:
        build: From classes, mean and std to a network with random weights.
        classes: Classes of its public checkpoints.
        mean: Mean of the frames per channel.
        std: Standard deviation of the frames per channel.
        frame_size: Height and width of the frames it is meant for.
    """

    build: Callable[[int, Vector, Vector], nn.Module]
    classes: int
    mean: Vector
    std: Vector
    frame_size: int


_HALF = (0.5, 0.5, 0.5)
_LITE_MEAN, _LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _cifar_resnet(depth: int) -> Model:
    return Model(lambda *given: CifarResNet(depth, *given), 10, _IMAGENET_MEAN, _IMAGENET_STD, 32)


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "wrn-40-2": Model(lambda *given: WideResNet(40, 2, *given), 10, _HALF, _HALF, 32),
        "wrn-28-10": Model(lambda *given: WideResNet(28, 10, *given), 10, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 32),
        **{f"resnet-{depth}": _cifar_resnet(depth) for depth in (8, 20, 32, 44, 56)},
        "resnet-50": Model(ResNet50, 1000, _IMAGENET_MEAN, _IMAGENET_STD, 224),
        "efficientnet-lite0": Model(EfficientNetLite0, 1000, _LITE_MEAN, _LITE_STD, 224),
    }
)
"""Model id -> how to build it."""


def build_network(
    model: str, *, classes: int | None = None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> nn.Module:
    """Build a network of this package with random weights.

    Args:
        model: One of `MODELS`.
        classes: Number of classes, at least 2; None takes that of the model's public checkpoints.
        mean: Mean of the training frames per channel, frames in [0, 1]; None takes the public checkpoints' one.
        std: Standard deviation per channel, positive; None as for `mean`.

    Returns:
        A network in training mode: float32 frames `[N, 3, H, W]` in [0, 1] to logits `[N, classes]`.

    Raises:
        UsageError: An unknown id, fewer than two classes, or a mean or std that is not three numbers.
    """
    if model not in MODELS:
        raise UsageError(f"unknown model {model!r}; known models: {', '.join(MODELS)}")
    defaults = MODELS[model]
    if classes is None:
        classes = defaults.classes
    if classes < 2:
        raise UsageError(f"classes={classes}: with fewer than 2 classes there is no entropy to minimise")
    return defaults.build(classes, _three("mean", mean, defaults.mean), _three("std", std, defaults.std))


def _three(name: str, given: Sequence[float] | None, default: Vector) -> Vector:
    values = default if given is None else tuple(float(value) for value in given)
    if len(values) != 3 or not all(-1e3 < value < 1e3 for value in values) or (name == "std" and min(values) <= 0):
        above = ", above 0" if name == "std" else ""
        raise UsageError(f"{name}={list(values)}: needs three finite numbers, one a channel{above}")
    return values
