"""SlimDA: one slimmable network adapts to a target domain at all its widths at once.

In each step the largest width, the smallest and some random ones see the same batch (the sandwich rule), and their
gradients add up: each learns as fast as it would alone. Three classifiers stand on the features of each. Two confuse
the domains (SymNets, `L_dc`) and supply what the ensemble knows; the third, C_a, is the network's own, learns from the
ensemble alone (`L_seed`) once the first epochs, on the source, are over, and is the one that is used afterwards. So the
two objectives do not fight over one classifier (OSTC).

Source: SlimDA, Meng et al. 2022, arXiv 2206.06620; which loss reaches which classifier as in its figure 2. What its
public parts leave open, and how it is decided here: `L_seed` reaches the features, too, and its weight grows as that of
the target terms of `L_dc`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.errors import UsageError
from ecotta_rt.method.width.groups import Widths
from ecotta_rt.prepare.snapshot import RunIdentity, weights_digest
from ecotta_rt.student.alignment.domain_confusion import backbone_loss, heads_loss
from ecotta_rt.student.alignment.gradient_reversal import dann_coefficient
from ecotta_rt.student.batches import DomainBatch, batches, batches_an_epoch
from ecotta_rt.student.domains import Domains
from ecotta_rt.student.slimda.ensemble import CONFIDENCES, aggregated, seed_loss, sharpened
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.slimmable.widths import at_ratio, operations, random_widths
from ecotta_rt.student.training import History, Moment, Steps, StudentProgress, TrainingOptions, sgd, train

__all__ = [
    "SlimOptions",
    "confusion_heads",
    "require_widths",
    "sampled_widths",
    "slimda_steps",
    "train_bank",
]


@dataclass(frozen=True)
class SlimOptions:
    """What makes a bank.

    Attributes:
        least: Ratio of the channels at the smallest width; 1/8 is about 1/64 of the operations.
        sampled: Widths a step: the largest, the smallest, the rest random. 1: the largest alone.
        confidence: How much each width counts in the ensemble, one of `CONFIDENCES`.
        temperature: Of the sharpening of what it says.
        seed_weight: On `L_seed`, times a ramp from 0 to 1.
        source_share: Of the epochs, rounded: first ones in which all widths and all three classifiers learn the source
            alone. The paper begins with a backbone that was trained before; features that know nothing are confused
            before they are good for anything.
    """

    least: float = 0.125
    sampled: int = 4
    confidence: str = "rank"
    temperature: float = 0.5
    seed_weight: float = 1.0
    source_share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.least < 1:
            raise UsageError(f"least {self.least:g}: a share of the channels, between 0 and 1")
        if self.sampled < 1:
            raise UsageError(f"sampled {self.sampled}: at least 1 width a step; 4 is usual")
        if self.confidence not in CONFIDENCES:
            raise UsageError(f"confidence {self.confidence}: choose {', '.join(CONFIDENCES)}")
        if not 0 < self.temperature <= 1:
            raise UsageError(f"temperature {self.temperature:g}: above 0 and at most 1")
        if not 0 <= self.source_share < 1:
            raise UsageError(f"source share {self.source_share:g}: a share of the epochs, from 0 to below 1")
        if not 0 <= self.seed_weight < float("inf"):
            raise UsageError(f"seed weight {self.seed_weight:g}: 0 or more")


def confusion_heads(slimmable: Slimmable, seed: int) -> nn.Linear:
    """C_s and C_t as one layer of 2K outputs on the features of the full width. NetworkError as `classifier`."""
    own = slimmable.classifier()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(own.in_features, 2 * own.out_features)


def train_bank(
    slimmable: Slimmable,
    domains: Domains,
    options: TrainingOptions,
    slim: SlimOptions,
    *,
    report: Callable[[StudentProgress], None] | None = None,
    snapshot: Path | None = None,
) -> History:
    """Train a bank in place; see `slimda_steps` and `train`."""
    heads = confusion_heads(slimmable, options.seed)
    steps = slimda_steps(slimmable, heads, domains, options, slim, _identity(slimmable, domains))
    return train(steps, options, report=report, snapshot=snapshot)


def slimda_steps(
    slimmable: Slimmable,
    heads: nn.Linear,
    domains: Domains,
    options: TrainingOptions,
    slim: SlimOptions,
    identity: RunIdentity | None = None,
) -> Steps[DomainBatch]:
    """The method, for `train`.

    Args:
        slimmable: Trained in place.
        heads: From `confusion_heads`; trained in place.
        domains: Source and one target or several, which share what is learned.
        options: Of the run.
        slim: What makes it a bank.
        identity: More of what must be the same when the run is gone on with.

    Raises:
        UsageError: No target, more classes than the network has, a batch that the source does not fill, or as
            `require_widths`.
    """
    require_widths(slimmable, slim)
    classes = slimmable.classifier().out_features
    if not domains.targets:
        raise UsageError("a bank adapts to target domains: give at least one")
    if classes != len(domains.classes):
        raise UsageError(f"the network tells {classes} classes apart, and the source has {len(domains.classes)}")
    modules: dict[str, nn.Module] = {"network": slimmable, "heads": heads}
    both = nn.ModuleDict(modules)
    optimiser = sgd(both, options)
    slimmable.requires_grad_(True).train()

    def step(batch: DomainBatch, moment: Moment) -> Mapping[str, float]:
        losses = _losses(slimmable, heads, batch, moment, slim)
        optimiser.zero_grad(set_to_none=True)
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
        return {name: loss.item() for name, loss in losses.items()}

    def epoch(generator: torch.Generator) -> Iterator[DomainBatch]:
        return batches(domains, options.batch, generator, options.augmentation)

    whose: dict[str, Any] = {**vars(slim), **(identity or {})}
    per_epoch = batches_an_epoch(domains, options.batch)
    return Steps(
        modules, {"sgd": optimiser}, per_epoch, epoch, step, {name: str(value) for name, value in whose.items()}
    )


def require_widths(slimmable: Slimmable, slim: SlimOptions) -> None:
    """Refuse, with a UsageError, a bank whose smallest width is the whole network."""
    groups = slimmable.groups
    if slim.sampled > 1 and at_ratio(groups, slim.least) == groups.whole():
        sizes = ", ".join(str(group.size) for group in groups.groups.values())
        raise UsageError(
            f"least {slim.least:g} leaves all channels where they are (groups of {sizes}): a bank of one width is a "
            "network; give a smaller least ratio, or a network with more channels"
        )


def _identity(slimmable: Slimmable, domains: Domains) -> RunIdentity:
    """What must be the same when a run is gone on with: the network as it begins, and the data."""
    return {"network": weights_digest(slimmable.network)[:12], **domains.identity()}


def sampled_widths(slimmable: Slimmable, slim: SlimOptions) -> list[dict[str, int]]:
    """The largest, the smallest, and random ones, half of them with a ratio for each group; from torch's generator."""
    groups, smallest = slimmable.groups, at_ratio(slimmable.groups, slim.least)
    drawn = [
        random_widths(groups, slim.least, torch.default_generator, each=index % 2 == 0)
        for index in range(max(0, slim.sampled - 2))
    ]
    return [groups.whole(), *([smallest] if slim.sampled > 1 else []), *drawn]


def _losses(
    slimmable: Slimmable, heads: nn.Linear, batch: DomainBatch, moment: Moment, slim: SlimOptions
) -> dict[str, Tensor]:
    drawn = sampled_widths(slimmable, slim)
    first = round(slim.source_share * moment.epochs)
    if moment.epoch < first:
        losses = [_on_source(slimmable, heads, batch, widths) for widths in drawn]
        return {"L_source": torch.stack(losses).sum()}
    begin = first / moment.epochs
    ramp, target = dann_coefficient((moment.done - begin) / (1 - begin)), torch.cat(batch.targets)
    confusion, known, answers = list[Tensor](), list[Tensor](), list[Tensor]()
    for widths in drawn:
        loss, knows, answer = _at_width(slimmable, heads, batch, target, widths, ramp)
        confusion.append(loss)
        known.append(knows)
        answers.append(answer)
    costs = [operations(slimmable.groups, widths) for widths in drawn]
    taught = sharpened(aggregated(known, costs, slim.confidence), slim.temperature)
    seeds = torch.stack([seed_loss(answer, taught) for answer in answers]).sum()
    return {"L_dc": torch.stack(confusion).sum(), "L_seed": slim.seed_weight * ramp * seeds}


def _on_source(slimmable: Slimmable, heads: nn.Linear, batch: DomainBatch, widths: Widths) -> Tensor:
    """Cross-entropy of the three classifiers at one width, a mean."""
    features, places = slimmable.features(batch.source, widths)
    own = slimmable.classifier()
    confusing = F.linear(features, heads.weight[:, places], heads.bias).chunk(2, 1)
    three = (*confusing, F.linear(features, own.weight[:, places], own.bias))
    return torch.stack([F.cross_entropy(logits, batch.labels) for logits in three]).mean()


def _at_width(
    slimmable: Slimmable, heads: nn.Linear, batch: DomainBatch, target: Tensor, widths: Widths, ramp: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`L_dc` of one width, what C_s and C_t know of the target, and what C_a answers there."""
    on_source, places = slimmable.features(batch.source, widths)
    on_target, _ = slimmable.features(target, widths)
    weight, bias = heads.weight[:, places], heads.bias
    for_heads = heads_loss(
        F.linear(on_source.detach(), weight, bias), batch.labels, F.linear(on_target.detach(), weight, bias)
    )
    held, shift = weight.detach(), bias.detach()
    of_target = F.linear(on_target, held, shift)
    for_features = backbone_loss(F.linear(on_source, held, shift), batch.labels, of_target, ramp)
    of_source_head, of_target_head = of_target.detach().chunk(2, 1)
    knows = (of_source_head.softmax(1) + of_target_head.softmax(1)) / 2
    own = slimmable.classifier()
    return for_heads + for_features, knows, F.linear(on_target, own.weight[:, places], own.bias)
