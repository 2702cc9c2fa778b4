"""The steps that `ecotta profile` measures, each ready to run once on random frames.

step      trains                          kept by autograd
train     every parameter                 everything the network does
tent      scale and shift of the norms    nearly as much: their gradients flow through all the rest
ecotta    the meta groups beside a part   what the meta groups need, and a little of the frozen parts
forward   nothing                         nothing
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecotta_rt.errors import EcottaError, NetworkError, UsageError
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.losses import entropy_nats
from ecotta_rt.method.state import StepState
from ecotta_rt.method.step import Step
from ecotta_rt.options import COUPLED, StepOptions

__all__ = [
    "STEPS",
    "ProfiledStep",
    "StepMaker",
    "forward_step",
    "make_ecotta_step",
    "random_frames",
    "tent_step",
    "train_step",
]


@dataclass(frozen=True)
class ProfiledStep:
    """One step to measure.

    Attributes:
        run: Runs it; may be called again.
        network: The module that gives the names.
    """

    run: Callable[[], object]
    network: nn.Module


StepMaker = Callable[[nn.Module, Tensor], ProfiledStep]
"""From a network and float32 frames `[N, C, H, W]` to a step. The network is changed: it is made for this one use."""


def random_frames(shape: tuple[int, ...], device: str = "cpu") -> Tensor:
    """Frames in [0, 1] to run a step on; memory depends on their shape only.

    Args:
        shape: `(N, C, H, W)`.
        device: `cpu`, or `meta` for frames without memory.

    Raises:
        UsageError: This machine has no room for them.
    """
    try:
        return torch.rand(shape, device=device)
    except RuntimeError as error:
        raise UsageError(f"frames {'x'.join(map(str, shape))} do not fit into memory; try a smaller batch") from error


def train_step(network: nn.Module, frames: Tensor) -> ProfiledStep:
    """Supervised training: cross-entropy, SGD with momentum over every parameter that requires a gradient.

    Raises:
        NetworkError: The network does not run on such frames, does not return logits `[N, classes]`, or has nothing to
            train.
    """
    classes = _count_classes(network, frames)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise NetworkError(f"no parameter of {type(network).__name__} requires a gradient: there is nothing to train")
    labels = torch.arange(len(frames), device=frames.device) % classes
    optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    network.train()

    def run() -> None:
        _descend(optimiser, F.cross_entropy(network(frames), labels))

    return ProfiledStep(_explained(run, frames), network)


def tent_step(network: nn.Module, frames: Tensor) -> ProfiledStep:
    """Entropy minimisation over scale and shift of the batch norms, which use the statistics of the batch.

    Raises:
        NetworkError: As for `train_step`, or there is no BatchNorm with scale and shift.

    Source:
        Wang et al. 2021, Tent, arXiv 2006.10726.
    """
    _count_classes(network, frames)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    parameters = [parameter for norm in norms for parameter in norm.parameters()]
    if not parameters:
        raise NetworkError(f"{type(network).__name__} has no BatchNorm with scale and shift: TENT has nothing to adapt")
    network.eval().requires_grad_(False)
    for norm in norms:
        norm.requires_grad_(True)
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = None
    optimiser = torch.optim.Adam(parameters, lr=1e-3)

    def run() -> None:
        _descend(optimiser, entropy_nats(network(frames)).mean())

    return ProfiledStep(_explained(run, frames), network)


def forward_step(network: nn.Module, frames: Tensor) -> ProfiledStep:
    """Inference, without gradients."""
    network.eval()

    def run() -> None:
        with torch.no_grad():
            network(frames)

    return ProfiledStep(_explained(run, frames), network)


def make_ecotta_step(parts: int = 4, kernel: int = 3, options: StepOptions | None = None) -> StepMaker:
    """EcoTTA's step with fresh meta groups.

    Args:
        parts: K, the number of parts and of meta groups.
        kernel: Side of the meta convolutions' window.
        options: How the step adapts.

    Returns:
        A function like `tent_step`. It raises `NetworkError` for a network that can't be cut into so many parts.
    """
    options = options or StepOptions()

    def ecotta_step(network: nn.Module, frames: Tensor) -> ProfiledStep:
        if frames.is_meta:
            raise UsageError("the EcoTTA step packs bits with numpy, which needs real memory: leave --dry away")
        if options.normalisation in COUPLED and len(frames) == 1:
            raise UsageError("a batch of 1 with normalisation 'batch': choose 'running', or a larger batch")
        adaptable = attach(partition(network.eval(), frames[:1], parts), kernel)
        # Not through the engine: that copies the parameters, and their memory is what tells whose work an operator is.
        parameters = adaptable.learned_parameters()
        momentum = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        state = StepState(parameters, momentum, adaptable.source_statistics())
        step = Step(adaptable, options)
        return ProfiledStep(_explained(lambda: step(state, frames), frames), adaptable)

    return ecotta_step


STEPS: Mapping[str, StepMaker] = MappingProxyType(
    {"train": train_step, "tent": tent_step, "forward": forward_step, "ecotta": make_ecotta_step()}
)
"""Step id -> how to make it from a network and its frames."""


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    torch.autograd.backward(loss)
    optimiser.step()
    optimiser.zero_grad()


def _count_classes(network: nn.Module, frames: Tensor) -> int:
    with _explaining(frames), torch.no_grad():
        logits = network.eval()(frames[:1])
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(
            f"{type(network).__name__} returns {found} for one frame, and a loss needs logits [N, classes]"
        )
    return logits.shape[1]


def _explained(run: Callable[[], object], frames: Tensor) -> Callable[[], object]:
    def run_explained() -> object:
        with _explaining(frames):
            return run()

    return run_explained


@contextmanager
def _explaining(frames: Tensor) -> Iterator[None]:
    """Any network may be profiled, so what torch raises here is about the network or the frames, not about us."""
    try:
        yield
    except EcottaError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        shape = "x".join(map(str, frames.shape))
        raise NetworkError(
            f"the network fails on frames {shape} ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "is the frame size right, and the batch large enough?"
        ) from error
