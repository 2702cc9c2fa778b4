"""EcoTTA: a frozen network in K parts, and beside each a small meta group that learns.

    x~_k = BN_k(f_k(x~_{k-1})) + ReLU(BN'_k(Conv_k(x~_{k-1})))         f_k: the frozen part
    loss = mean over confident frames of H(softmax(logits))  +  lambda * sum_k mean |x~_k - f_k(x~_{k-1})|

Where nothing was warmed up, the scale and shift of the norms in f_k and in the head may learn beside the groups, as
TENT's do; f_k is still computed again part by part, so they cost no feature maps that would be kept.

Source:
    Song et al. 2023, EcoTTA, arXiv 2303.01904, sections 3.1 and 3.2, figure 3.
"""

from collections.abc import Collection, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.bundle.ports import ReportPort
from ecotta_rt.method.base import Gated, Loss, Method, Named
from ecotta_rt.method.cut.partition import Partition
from ecotta_rt.method.lean.frozen import norms_of
from ecotta_rt.method.losses import entropy_nats, entropy_threshold_nats
from ecotta_rt.method.plain import Plain
from ecotta_rt.method.statistics import Statistics
from ecotta_rt.options import StepOptions

__all__ = ["AdaptableNetwork", "MetaGroup"]

_LEARNS = ("norm.weight", "norm.bias", "conv.weight", "conv_norm.weight", "conv_norm.bias")
"""What one group learns, by name inside the group."""


class MetaGroup(nn.Module):
    """One meta group.

    Args:
        in_channels: Channels of the part's input.
        out_channels: Channels of the part's output.
        stride: The part's spatial ratio.
        kernel: Side of the convolution's window, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(out_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.conv_norm = nn.BatchNorm2d(out_channels)

    def forward(self, part_input: Tensor, part_output: Tensor) -> Tensor:
        """Both float32 `[N, C, H, W]`; returns the next part's input, of `part_output`'s shape."""
        normed: Tensor = self.norm(part_output)
        return normed + F.relu(self.conv_norm(self.conv(part_input)))


class AdaptableNetwork(Method):
    """A frozen network in K parts with a meta group beside each; made by `attach`.

    `forward` is ordinary modules with ordinary autograd, for the warm-up. Its norms use the statistics of the batch,
    and never move their buffers.

    Attributes:
        learning_norms: Names of the frozen norms whose scale and shift learn, too.
    """

    name = "ecotta"
    losses = (Loss("entropy", "kept"), Loss("l1", "frames", weight="l1_weight"))

    def __init__(
        self, partition: Partition, groups: list[MetaGroup], momenta: Mapping[str, float], norms_learn: bool = False
    ) -> None:
        super().__init__(partition)
        self.groups = nn.ModuleList(groups)
        self.meta_groups = tuple(groups)  # the same modules, by their type
        self.learning_norms = tuple(self._affine_norms()) if norms_learn else ()
        self.set_momenta(momenta)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits `[N, C]` of float32 frames `[N, C, H, W]`."""
        return self.forward_with_features(frames)[0]

    def forward_with_features(self, frames: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits, and for each part the pair (group's output, frozen part's own output)."""
        x = self.stem(frames)
        pairs = []
        for part, group in zip(self.parts, self.meta_groups, strict=True):
            own = part(x)
            x = group(x, own)
            pairs.append((x, own))
        return self.head(x), pairs

    def evaluate(
        self,
        form: Plain,
        options: StepOptions,
        parameters: Mapping[str, Tensor],
        statistics: Statistics,
        frames: Tensor,
        wanted: Collection[str] = (),
    ) -> tuple[Tensor, Named]:
        """See `Method`. `l1` is `[K]`, one distance a part."""

        def group(k: int, part_input: Tensor, part_output: Tensor) -> Tensor:
            meta, name = self.meta_groups[k], f"groups.{k}"
            normed = form.norm(f"{name}.norm", meta.norm, part_output, parameters, statistics)
            return normed + form.branch(f"{name}.conv", (meta.conv, meta.conv_norm), part_input, parameters, statistics)

        with torch.no_grad():  # nothing before the first group learns
            x = form.run([self.partition.stem], frames, statistics)
        distances = []
        parts = len(self.partition.parts)
        for k, part in enumerate(self.partition.parts):
            own, size = x, options.segment_cells
            for start in range(0, len(part.cells), size):
                again = k < parts - options.kept_parts(parts)
                own = form.run(part.cells[start : start + size], own, statistics, parameters, again)
            adapted = group(k, x, own)
            if "l1" in wanted:
                near = group(k, x.detach(), own.detach()) if options.l1_gradient == "local" else adapted
                distances.append(form.l1(near, own))
            x = adapted
        l1 = torch.stack(distances) if distances else torch.zeros(parts)
        return form.run([self.partition.head], x, statistics, parameters), {"l1": l1}

    def gate(self, logits: Tensor, options: StepOptions) -> Gated:
        """Only confident frames learn.

        Source:
            Niu et al. 2022, EATA, arXiv 2204.02610, section 3.1, without its redundancy filter.
        """
        entropy = entropy_nats(logits)
        kept = entropy.detach() < entropy_threshold_nats(logits.shape[1], options.entropy_margin)
        return Gated(entropy, kept, entropy)

    def report(self) -> tuple[ReportPort, ...]:
        """L1 `[K]`: how far each group's output lies from the frozen part's own."""
        return (ReportPort("l1", (len(self.meta_groups),)),)

    def norms(self) -> dict[str, nn.BatchNorm2d]:
        """Every norm by the name its statistics have in a state, frozen ones first."""
        found = super().norms()
        for index, group in enumerate(self.meta_groups):
            found[f"groups.{index}.norm"] = group.norm
            found[f"groups.{index}.conv_norm"] = group.conv_norm
        return found

    def learned_parameters(self) -> Named:
        """The groups' parameters, by name (`groups.0.conv.weight`); then those of `learning_norms`."""
        own = dict(self.groups.named_parameters(prefix="groups"))
        learned = {f"groups.{k}.{p}": own[f"groups.{k}.{p}"].detach() for k in range(len(self.groups)) for p in _LEARNS}
        norms = super().norms()
        for name in self.learning_norms:
            learned |= {f"{name}.weight": norms[name].weight.detach(), f"{name}.bias": norms[name].bias.detach()}
        return learned

    def _affine_norms(self) -> Iterator[str]:
        """Those behind the stem that have a scale and a shift: nothing before the first group learns."""
        behind = (*(part.module for part in self.partition.parts), self.partition.head)
        return (name for piece in behind for name, norm in norms_of(piece).items() if norm.affine)
