"""What progressive distillation brings a small network in a domain without labels, beside its peers.

    python benchmarks/measure_distil.py tune digits     choose each method's constants
    python benchmarks/measure_distil.py run digits      mnist -> usps, mnist -> mnistm, usps -> mnist

and the same with `targets` (mnist -> usps, mnistm and street digits, all three at once), `targets-longer` (the
students with teachers in three times the epochs), `pacs` (photo -> art_painting, art_painting -> cartoon) and
`pacs-published` (the same, with --models FOLDER: larger frames, and networks that begin as published for CIFAR-10).

Small networks and few epochs: made for two cores. The student of every row begins with the same weights, trained
on the source, and takes as many steps; so do teachers, which learn in the run, and are measured as they are at its end.

`tune` looks at no test picture and at no label of a target: every method tries as many settings as any other with a
seed that is not reported, on a source of which some training frames are held out, and takes the one whose student errs
least on these: on the first pair of a trial, for all its pairs; those of targets take what `digits` chose. With
`pacs-published` peers try two settings and methods with a teacher, for time, one; of settings within one standard error
of the least error that one is taken whose answers tell most about the target's unlabelled training frames: the entropy
of their mean less their mean entropy.

`run` measures the networks of the last epoch on test pictures that nothing has seen; every row also after its norms
were measured again on unlabelled training frames, of source and target or of the target alone. Times are processor
time. All is written to benchmarks/results/student-distil-TRIAL.json row by row, and what is there is not run again.
"""

import argparse
import copy
import itertools
import json
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distil_trials import DIGITS, TRIALS, WIDTHS, Published, Row, Setting, Trial
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.checkpoint import load_checkpoint
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.student.batches import frame_batches
from ecotta_rt.student.domains import Domain, Domains, find_domains
from ecotta_rt.student.evaluate import error_percent, logits_of
from ecotta_rt.student.methods import METHODS, DistilOptions, teachers_needed
from ecotta_rt.student.named_data import find_labelled
from ecotta_rt.student.progressive import distil
from ecotta_rt.student.slimmable.recalibrate import recalibrate
from ecotta_rt.student.training import TrainingOptions
from student_tables import chosen

SEEDS = (0, 1, 2)
TUNING_SEED = 100
TEST_SHARE = 0.2
"""Of PACS, which has no test part, held out of each domain, by a seed of its own."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("tune", "run"))
    parser.add_argument("trial", choices=TRIALS)
    parser.add_argument("--data", type=Path, required=True, help="folder with domains/")
    parser.add_argument("--models", type=Path, help="folder with the published weights of `pacs-published`")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS), help="of run")
    parser.add_argument("--rows", nargs="*", metavar="NAME", help="those of the trial alone; a later call goes on")
    parser.add_argument("--store", type=Path, default=Path("measure-distil"), help="folder for decoded pictures")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder of the files")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    trial = TRIALS[args.trial]
    report = Report(args.results, args.trial)
    if args.rows:
        trial = replace(trial, rows=tuple(row for row in trial.rows if row.name in args.rows))
    make = digits if trial.tuned_in == "digits" else pacs
    if trial.published and args.models is None:
        parser.error(f"{args.trial} takes --models: where its published weights are")
    if args.stage == "tune":
        if trial.tuned_in != args.trial:
            raise SystemExit(f"{args.trial} takes the settings of {trial.tuned_in}: tune that")
        tune(trial, make(args, trial, *trial.pairs[0])[0], report, args.models)
        return 0
    tuned = report if trial.tuned_in == args.trial else Report(args.results, trial.tuned_in)
    report.parts["tune"] = tuned.parts["tune"]
    for seed in args.seeds:
        for source, targets in trial.pairs:
            measure(trial, seed, *make(args, trial, source, targets), report, args.models)
    return 0


class Report:
    """The file of a trial: the conditions, what each setting came to, and the measured rows."""

    def __init__(self, folder: Path, trial: str) -> None:
        about = json.loads(json.dumps(TRIALS[trial].conditions()))
        self._path = folder / f"student-distil-{trial}.json"
        self.parts: dict[str, Any] = {"measured": "student-distil", "about": about, "tune": {}, "rows": {}}
        if self._path.exists():
            self.parts = json.loads(self._path.read_text(encoding="utf-8"))
            if self.parts.get("about") != about:
                raise SystemExit(f"{self._path} holds figures of other conditions; --results names another folder")

    def add(self, part: str, name: str, figures: Mapping[str, Any]) -> None:
        self.parts[part][name] = figures
        write_atomic(self._path, (json.dumps(self.parts, indent=1) + "\n").encode())

    def chosen(self, row: Row) -> Setting:
        """The setting with the smallest error on held-out frames of the source; of equal ones the first.

        Of an `informed` trial that with the most information among those within a standard error. Where there is only
        one, it need not be tried.
        """
        if len(row.settings) == 1:
            return row.settings[0]
        tried = [self.parts["tune"].get(_tuned_name(row, setting)) for setting in row.settings]
        if None in tried:
            raise SystemExit(f"{row.name} is not tuned yet: the stage `tune` comes first")
        return row.settings[chosen(self.parts["about"], tried)]


def tune(trial: Trial, domains: Domains, report: Report, models: Path | None = None) -> None:
    """Try each setting of each row, by error on held-out frames of the source."""
    order = np.random.default_rng(TUNING_SEED).permutation(len(domains.labels))
    held, kept = order[: trial.held_out], order[trial.held_out :]
    source, labels = domains.source, domains.labels
    smaller = replace(domains, source=Domain(source.name, source.frames[kept], labels[kept]))
    whole = len(order) / len(kept)  # as many steps on fewer frames
    as_long = replace(trial, epochs=round(trial.epochs * whole))
    starts = Starts(trial, TUNING_SEED, smaller, models)
    for row, setting in [(each, setting) for each in trial.rows for setting in each.settings]:
        name = _tuned_name(row, setting)
        if name in report.parts["tune"]:
            continue
        student, teachers, figures = train(as_long, row, setting, starts)
        errors = [error_percent(network, source.frames[held], labels[held]) for network in (student, *teachers)]
        last = figures.pop("history")[-1]
        signs = {name: last[name] for name in ("agreement", "confidence") if name in last}
        if trial.informed:
            signs["target_information_nats"] = information(student, domains.targets[0])
        figures |= {"held_out_error_percent": errors[0], "teachers_held_out_error_percent": errors[1:], **signs}
        report.add("tune", name, figures)
        print(f"{name}: held-out source {errors}, {signs}, {figures['processor_minutes']:.2f} min", flush=True)


def arithmetic(trial: Trial) -> torch.autocast:
    """In which networks run, forward and backward; weights and steps are float32 always.

    Converted weights are not kept: within one context they would stay those of the first step.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=trial.bfloat16, cache_enabled=False)


def information(network: nn.Module, target: Domain) -> float:
    """What its answers tell about frames, as mutual information: entropy of their mean less their mean entropy."""
    p = logits_of(network, target.frames).float().softmax(1)
    of_mean, mean_of = (-torch.special.xlogy(q, q).sum(-1) for q in (p.mean(0), p))
    return float(of_mean - mean_of.mean())


def measure(
    trial: Trial,
    seed: int,
    domains: Domains,
    tests: Mapping[str, Domain],
    report: Report,
    models: Path | None = None,
) -> None:
    """Run each row with the setting that was chosen, and measure it on test pictures."""
    starts = Starts(trial, seed, domains, models)
    for row in trial.rows:
        name = f"{_pair(domains)}; {row.name}; seed {seed}"
        if name in report.parts["rows"]:
            continue
        student, teachers, figures = train(trial, row, report.chosen(row), starts)
        norms = {"source and target": (domains.source, *domains.targets), "target": domains.targets}
        with arithmetic(trial):
            recalibrated = {
                of: errors(recalibrate(copy.deepcopy(student), frame_batches(those)), tests)
                for of, those in norms.items()
            }
            measured = {
                **figures,
                "errors_percent": errors(student, tests),
                "recalibrated_errors_percent": recalibrated,
                "teacher_errors_percent": [errors(teacher, tests) for teacher in teachers],
            }
        report.add("rows", name, measured)
        told = ", ".join(f"{target} {measured['errors_percent'][target]:.1f}" for target in figures["targets"])
        print(f"{name}: {told}, {measured['processor_minutes']:.2f} min", flush=True)


class Starts:
    """The networks that all rows of a seed begin with: trained on the source, once, when first asked for."""

    def __init__(self, trial: Trial, seed: int, domains: Domains, models: Path | None = None) -> None:
        self.seed, self.domains, self._trial, self._models = seed, domains, trial, models
        self._made: dict[str, nn.Module] = {}

    def network(self, model: str) -> nn.Module:
        """A copy of the `teacher` or the `student`."""
        if model not in self._made:
            torch.manual_seed(1000 * list(WIDTHS).index(model) + self.seed)
            network = self._first_weights(model, len(self.domains.classes))
            recipe = TrainingOptions(
                epochs=self._trial.start_epochs,
                batch=self._trial.batch,
                lr=self._trial.start_lr,
                rate="cosine",
                augmentation=Augmentation.parse(self._trial.augment),
                seed=self.seed,
            )
            with arithmetic(self._trial):
                distil(network, [], self.domains, DistilOptions(method="source-only"), recipe)
            self._made[model] = network
        return copy.deepcopy(self._made[model])

    def _first_weights(self, model: str, classes: int) -> nn.Module:
        if self._trial.published is None or self._models is None:
            return convolutions(WIDTHS[model], classes)
        network = published(self._trial.published[model], self._models, classes)
        for part in self._trial.resting:
            network.get_submodule(part).requires_grad_(False)
        return network


def train(
    trial: Trial, row: Row, setting: Setting, starts: Starts
) -> tuple[nn.Module, list[nn.Module], dict[str, Any]]:
    """The student, its teachers, and how they came to be."""
    targets = [target.name for target in starts.domains.targets]
    student = starts.network("student")
    teachers = [starts.network("teacher") for _ in range(teachers_needed(row.method, len(targets)))]
    given = {"temperature": setting.temperature, "gamma": setting.gamma}
    constants = {name: value for name, value in given.items() if value is not None}
    learns = row.teacher_learns
    options = DistilOptions(method=row.method, teacher_lr=trial.teacher_share, teacher_learns=learns, **constants)
    recipe = TrainingOptions(
        # Of the other methods a pass over the source is as many steps as there are targets.
        epochs=trial.epochs * (len(targets) if METHODS[row.method].targets == "none" else 1),
        batch=trial.batch,
        lr=setting.lr,
        rate=trial.rate,
        augmentation=Augmentation.parse(trial.augment),
        seed=starts.seed,
    )
    began_s = time.process_time()
    with arithmetic(trial):
        history = distil(student, teachers, starts.domains, options, recipe)
    figures = {
        "source": starts.domains.source.name,
        "targets": targets,
        "row": row.name,
        "method": row.method,
        "seed": starts.seed,
        "setting": setting.facts(),
        "told": setting.told(),
        "processor_minutes": (time.process_time() - began_s) / 60,
        "history": [dict(epoch) for epoch in history],
        "environment": asdict(read_environment(1)),
    }
    return student, teachers, figures


def digits(
    args: argparse.Namespace, trial: Trial, source: str, targets: tuple[str, ...]
) -> tuple[Domains, dict[str, Domain]]:
    frame = FrameSpec(3, trial.size, trial.size)
    places = {name: args.data / "domains" / f"{DIGITS[name]}.npz" for name in (source, *targets)}
    found = find_domains(places[source], {name: places[name] for name in targets}, count=trial.frames)
    tests = {}
    for name in places:
        test = find_labelled(places[name], found.classes, split="test").frames(frame, args.store / name).training
        tests[name] = Domain(name, test.frames, test.labels)
    domains = found.frames(frame, args.store / "digits")
    return replace(domains, source=replace(domains.source, name=source)), tests


def pacs(
    args: argparse.Namespace, trial: Trial, source: str, targets: tuple[str, ...]
) -> tuple[Domains, dict[str, Domain]]:
    folder = args.store / "pacs"
    if not folder.is_dir():
        with zipfile.ZipFile(args.data / "domains" / "pacs96.zip") as archive:
            archive.extractall(folder)
    frame = FrameSpec(3, trial.size, trial.size)
    training, tests = [], {}
    for name in (source, *targets):
        labelled = find_labelled(folder / name)
        data = labelled.frames(frame, args.store / f"pacs-{name}").training
        order = np.random.default_rng(0).permutation(len(data.labels))
        held = round(TEST_SHARE * len(order))
        kept = order[held : held + trial.frames]
        training.append(Domain(name, data.frames[kept], data.labels[kept]))
        tests[name] = Domain(name, data.frames[order[:held]], data.labels[order[:held]])
    unlabelled = tuple(Domain(domain.name, domain.frames) for domain in training[1:])
    return Domains(training[0], unlabelled, labelled.classes), tests


def convolutions(widths: tuple[int, ...], classes: int) -> nn.Module:
    """A plain network for small frames in [0, 1]."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise((3, *widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    layers[-1] = nn.AdaptiveAvgPool2d(1)
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1], classes))
    return network.to(memory_format=torch.channels_last)  # a third less time


def published(which: Published, models: Path, classes: int) -> nn.Module:
    """With somebody's weights but for the classifier."""
    network = build_network(which.model)
    load_checkpoint(network, models / which.checkpoint)
    network.linear = nn.Linear(network.linear.in_features, classes)
    return network.to(memory_format=torch.channels_last)


def errors(network: nn.Module, tests: Mapping[str, Domain]) -> dict[str, float]:
    """In percent, of the source and each target."""
    return {name: error_percent(network, test.frames, test.labels) for name, test in tests.items()}


def _pair(domains: Domains) -> str:
    return f"{domains.source.name} -> {', '.join(target.name for target in domains.targets)}"


def _tuned_name(row: Row, setting: Setting) -> str:
    """All methods with a teacher that learns are tuned as the one with one target and one teacher."""
    method = "kd-stda" if teachers_needed(row.method, 1) else row.method
    return f"{method if row.teacher_learns else 'frozen teacher'}; {setting.told()}"


if __name__ == "__main__":
    sys.exit(main())
