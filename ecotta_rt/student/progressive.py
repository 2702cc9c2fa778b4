"""Progressive distillation: a small network learns from large ones while these adapt to where it will live.

Three methods and their peers are values for one loop (`ecotta_rt.student.methods`); with one target, KD-MTDA and
MT-MTDA are KD-STDA.

    for each mini-batch, for each lesson (a teacher and frames of a target):
        teacher   (1 - beta) (CE on source + gamma alignment)
        student   beta (KD on source + KD on target)            beta grows from 0.1 to 0.9 over the run

    KD on source = alpha T^2 KL + (1 - alpha) CE         KD on target = T^2 KL

Sources:
    Nguyen-Meidine et al. 2020, Joint Progressive Knowledge Distillation and Unsupervised Domain Adaptation, arXiv
    2005.07839, and 2021, arXiv 2101.07308 (KD-STDA, KD-MTDA); 2021, Unsupervised Multi-Target Domain Adaptation Through
    Knowledge Distillation, arXiv 2007.07077 (MT-MTDA, Algorithm 1), constants as in its public code.

Unlike that code: KL is that of teacher to student unless asked otherwise, the teacher answers without gradients and
with its running statistics, every network sees source and target frames in one batch, so that a norm's statistics in
training are those it will answer with, and the network of the last epoch is the result: the best one by target test
labels would be chosen by what nobody has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.snapshot import weights_digest
from ecotta_rt.student.alignment import ALIGNMENTS
from ecotta_rt.student.batches import DomainBatch, batches, batches_an_epoch
from ecotta_rt.student.domains import Domains
from ecotta_rt.student.evaluate import example_frames, logits_of
from ecotta_rt.student.feature_tap import FeatureTap
from ecotta_rt.student.methods import METHODS, DistilOptions, lessons, teachers_needed
from ecotta_rt.student.training import History, Moment, Steps, StudentProgress, TrainingOptions, sgd, train

__all__ = ["distil", "distillation"]


def distillation(
    student: Tensor, teacher: Tensor, temperature: float, kl: Literal["forward", "reverse"] = "forward"
) -> Tensor:
    """`T^2` times the divergence of the softened answers, summed over classes, mean over frames.

    Args:
        student: Logits `[N, K]`.
        teacher: Logits `[N, K]`; gets no gradient.
        temperature: T; its square keeps the size of the gradient as T grows.
        kl: `forward` is KL(teacher || student), `reverse` KL(student || teacher).
    """
    q, p = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher.detach()))
    of, to = (p, q) if kl == "forward" else (q, p)
    return temperature**2 * (of.exp() * (of - to)).sum(1).mean()


def distil(
    student: nn.Module,
    teachers: Sequence[nn.Module],
    domains: Domains,
    options: DistilOptions,
    training: TrainingOptions,
    *,
    report: Callable[[StudentProgress], None] | None = None,
    snapshot: Path | None = None,
) -> History:
    """Train a student in place, and its teachers with it.

    Args:
        student: Frames of `domains` to logits; for `source-only` and `adapted` any network, a teacher too.
        teachers: As many as `teachers_needed`, each a network of its own.
        domains: What from; labels of targets are neither there nor wanted.
        options: Which method, and its constants.
        training: The recipe.
        report: As for `train`.
        snapshot: As for `train`.

    Returns:
        An entry an epoch: losses, and where there are targets `confidence`, the mean largest probability of the
        student's answers there; with teachers `agreement`, the share of target frames to which both answer the same.

    Raises:
        UsageError: Teachers, targets or classes that do not fit the method or each other; else as `train`.
        NetworkError: A network that does not take the frames, or has no classifier at its end.
    """
    run = _Distillation(student, teachers, domains, options, training)
    try:
        return train(run.steps(), training, report=report, snapshot=snapshot)
    finally:
        run.close()


class _Learner:
    """A network with its alignment and its optimiser."""

    def __init__(
        self,
        network: nn.Module,
        domains: Domains,
        options: DistilOptions,
        training: TrainingOptions,
        *,
        share: float = 1.0,
        trains: bool = True,
    ) -> None:
        height, width, channels = domains.source.frames.shape[1:]
        self.network, self.tap = network, FeatureTap(network, (channels, height, width), trains=trains)
        if self.tap.classes != len(domains.classes):
            raise UsageError(
                f"{type(network).__name__} tells {self.tap.classes} classes apart, the source has "
                f"{len(domains.classes)}: teacher, student and source must have the same"
            )
        make = ALIGNMENTS.get(options.alignment)
        self.alignment = None if make is None else make(self.tap.width, self.tap.classes)
        self.module = nn.ModuleList([network] + ([] if self.alignment is None else [self.alignment]))
        self.optimiser = sgd(self.module, training, share)

    def forward(self, source: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features and logits of the source, then of the target, made in one batch."""
        features, logits = self.tap(source if target is None else torch.cat([source, target]))
        count = len(source)
        return features[:count], logits[:count], features[count:], logits[count:]

    def aligned(self, source: Tensor, target: Tensor, labels: Tensor, done: float) -> Tensor:
        """The alignment's loss; 0 where there is none."""
        if self.alignment is None:
            return source.new_zeros(())
        loss: Tensor = self.alignment(source, target, labels, done)
        return loss

    def learn(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()


class _Distillation:
    """The steps of `distil`."""

    def __init__(
        self,
        student: nn.Module,
        teachers: Sequence[nn.Module],
        domains: Domains,
        options: DistilOptions,
        training: TrainingOptions,
    ) -> None:
        _require_fitting(teachers, domains, options)
        self._domains, self._options, self._training = domains, options, training
        self._method = METHODS[options.method]
        digests = [weights_digest(network)[:12] for network in (student, *teachers)]
        self._identity = {
            **{name: str(value) for name, value in asdict(options).items()},
            **domains.identity(),
            "student": digests[0],
            "teachers": " ".join(digests[1:]),
        }
        with torch.random.fork_rng(devices=[]):  # alignments draw their first weights
            torch.manual_seed(training.seed)
            self._student = _Learner(student, domains, options, training)
            self._teachers = [
                _Learner(teacher, domains, options, training, share=options.teacher_lr, trains=options.teacher_learns)
                for teacher in teachers
            ]
        self._looked_at = [example_frames(domain.frames) for domain in domains.targets]

    def steps(self) -> Steps[DomainBatch]:
        learners = {"student": self._student}
        learners |= {f"teacher {place}": teacher for place, teacher in enumerate(self._teachers)}
        training = self._training
        return Steps(
            modules={name: learner.module for name, learner in learners.items()},
            optimisers={name: learner.optimiser for name, learner in learners.items()},
            per_epoch=batches_an_epoch(self._domains, training.batch),
            batches=lambda generator: batches(self._domains, training.batch, generator, training.augmentation),
            step=self._step,
            identity=self._identity,
            after_epoch=self._signs if self._method.targets != "none" else None,
        )

    def close(self) -> None:
        """Leave the networks in evaluation mode."""
        for learner in (self._student, *self._teachers):
            learner.network.eval()

    def _step(self, batch: DomainBatch, moment: Moment) -> Mapping[str, float]:
        told: dict[str, list[float]] = {}
        for place, target in lessons(self._method, batch.targets):
            for name, value in self._lesson(batch, target, place, moment).items():
                told.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in told.items()}

    def _lesson(self, batch: DomainBatch, target: Tensor | None, place: int, moment: Moment) -> Mapping[str, float]:
        if not self._teachers or target is None:
            loss = self._adaptation(self._student, batch, target, moment)
            self._student.learn(loss)
            return {"loss": loss.item()}
        teacher, beta = self._teachers[place], self._options.beta.at(moment)
        told = {}
        if self._options.teacher_learns:
            loss = self._adaptation(teacher, batch, target, moment)
            teacher.learn((1 - beta) * loss)
            told["teacher loss"] = loss.item()
        loss = self._distilled(teacher, batch, target, moment)
        self._student.learn(beta * loss)
        return {**told, "loss": loss.item()}

    def _adaptation(self, learner: _Learner, batch: DomainBatch, target: Tensor | None, moment: Moment) -> Tensor:
        """Cross-entropy on the source, and alignment with the target."""
        learner.module.train()
        source_features, source_logits, target_features, _ = learner.forward(batch.source, target)
        loss = F.cross_entropy(source_logits, batch.labels)
        if target is None:
            return loss
        return loss + self._options.gamma * learner.aligned(source_features, target_features, batch.labels, moment.done)

    def _distilled(self, teacher: _Learner, batch: DomainBatch, target: Tensor, moment: Moment) -> Tensor:
        options = self._options
        with torch.no_grad():
            teacher.module.eval()
            _, source_answers, _, target_answers = teacher.forward(batch.source, target)
        self._student.module.train()
        source_features, source_logits, target_features, target_logits = self._student.forward(batch.source, target)
        on_source = distillation(source_logits, source_answers, options.temperature, options.kl)
        on_target = distillation(target_logits, target_answers, options.temperature, options.kl)
        loss = options.alpha * on_source + (1 - options.alpha) * F.cross_entropy(source_logits, batch.labels)
        if options.consistency:
            aligned = self._student.aligned(source_features, target_features, batch.labels, moment.done)
            loss = loss + options.alpha * aligned
        return loss + on_target

    def _signs(self) -> Mapping[str, float]:
        """What can be seen without labels of a target, means over targets."""
        agreement, confidence = [], []
        for place, frames in enumerate(self._looked_at):
            ours = logits_of(self._student.network, frames)
            confidence.append(float(ours.softmax(1).amax(1).mean()))
            if self._teachers:
                theirs = logits_of(self._teachers[place % len(self._teachers)].network, frames)
                agreement.append(float((ours.argmax(1) == theirs.argmax(1)).float().mean()))
        signs = {"confidence": sum(confidence) / len(confidence)}
        return {**signs, "agreement": sum(agreement) / len(agreement)} if agreement else signs


def _require_fitting(teachers: Sequence[nn.Module], domains: Domains, options: DistilOptions) -> None:
    targets = len(domains.targets)
    if METHODS[options.method].targets != "none" and targets == 0:
        raise UsageError(f"{options.method} needs pictures of a target, and none is given")
    if options.method == "kd-stda" and targets > 1:
        raise UsageError(f"kd-stda is for one target, and there are {targets}: choose kd-mtda or mt-mtda")
    needed = teachers_needed(options.method, targets)
    if len(teachers) != needed:
        raise UsageError(f"{options.method} over {targets} targets takes {needed} teachers; {len(teachers)} are given")
    if len({id(network) for network in teachers}) < len(teachers):
        raise UsageError("each teacher must be a network of its own: they adapt to different targets")
