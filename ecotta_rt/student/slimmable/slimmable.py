"""One set of weights, run at any width.

    network  ->  Slimmable  ->  slimmable(frames, widths)      the answer of narrow(groups, widths), with shared weights

A width takes the first channels of each group, weight[:out, :in]. Norms share scale and shift, take the statistics of
the batch, and keep no running ones, which would be of no width. A width that is to be used gets statistics of its own:
`narrow`, then `recalibrate`.

Source:
    Yu and Huang 2019, Universally Slimmable Networks, arXiv 1903.05134, sections 3.1 and 3.3.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.tracing import describe
from ecotta_rt.method.width.groups import Widths, find_groups
from ecotta_rt.method.width.narrow import SliceOf, shrunk, sizes_at, slices_at

__all__ = ["Slimmable"]

_WHOLE = slice(None)


class Slimmable(nn.Module):
    """A network that runs at any width.

    Args:
        network: Frames to logits; taken over. Anything `ecotta prepare` can trace.
        example_frames: float32 `[N, C, H, W]`; its size counts.

    Attributes:
        network: The network at full width; its weights are the shared ones.
        groups: Its channel groups.

    Raises:
        NetworkError: It cannot be traced, or none of its channels can be removed; the message names the node.
    """

    def __init__(self, network: nn.Module, example_frames: Tensor) -> None:
        super().__init__()
        self.groups = find_groups(network, example_frames)
        self.network = self.groups.network

    @classmethod
    def for_frame(cls, network: nn.Module, frame: FrameSpec) -> "Slimmable":
        """As the class, for frames like these."""
        return cls(network, torch.zeros(1, frame.channels, *frame.size))

    def forward(self, frames: Tensor, widths: Widths) -> Tensor:
        """Logits `[N, classes]` of float32 frames `[N, C, H, W]` in [0, 1], norms by the statistics of this batch.

        Raises:
            UsageError: A width outside 1 to the group's size.
        """
        logits: Tensor = _AtWidths(self, widths).run(frames)
        return logits

    def features(self, frames: Tensor, widths: Widths) -> tuple[Tensor, SliceOf]:
        """What its classifier gets at these widths `[N, features]`, and which inputs of the classifier these are."""
        run = _AtWidths(self, widths)
        run.run(frames)
        assert run.features is not None
        _, places = run.slices.get(run.classifier or "", (_WHOLE, None))
        return run.features, _WHOLE if places is None else places

    def classifier(self) -> nn.Linear:
        """The linear layer that gives the logits.

        Raises:
            NetworkError: They come from something else.
        """
        last = self.groups.graph.output_node().all_input_nodes[0]
        module = self.network.get_submodule(str(last.target)) if last.op == "call_module" else None
        if not isinstance(module, nn.Linear):
            raise NetworkError(
                f"node '{last.name}' ({describe(last)}) gives the logits and is no nn.Linear: a bank of widths needs a "
                "linear classifier, beside which its two others are put"
            )
        return module


class _AtWidths(fx.Interpreter):
    """Runs the graph at some widths."""

    def __init__(self, slimmable: Slimmable, widths: Widths) -> None:
        groups = slimmable.groups
        super().__init__(slimmable.network, graph=groups.graph)
        self.extra_traceback = False
        kept = groups.kept(widths)
        self.slices = slices_at(groups, kept)
        self._changed = dict(sizes_at(groups, kept))
        last = groups.graph.output_node().all_input_nodes[0]
        self.classifier = str(last.target) if last.op == "call_module" else None
        self.features: Tensor | None = None

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        if n not in self._changed:
            return super().fetch_args_kwargs_from_env(n)
        args, kwargs = self._changed[n]
        return self.map_nodes_to_values(args, n), self.map_nodes_to_values(kwargs, n)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target == self.classifier:
            self.features = args[0]
        module = self.module.get_submodule(target)
        if target in self.slices:
            module = shrunk(module, *self.slices[target])
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            return nn.functional.batch_norm(args[0], None, None, module.weight, module.bias, True, 0.0, module.eps)
        return module(*args, **kwargs)
