"""What progressive distillation brings a small network in a domain without labels, beside its peers.

    python benchmarks/measure_distil.py digits     mnist -> usps, mnist -> mnistm, usps -> mnist
    python benchmarks/measure_distil.py targets    mnist -> usps, mnistm and street digits, all three at once
    python benchmarks/measure_distil.py pacs       photo -> art_painting

Small networks and few epochs: made for two cores. The student of every row begins with the same weights, sees as many
source frames and takes the recipe that all rows share; teachers begin at random too, learn in the run, and are measured
as they are at its end. The networks of the last epoch are measured on test images that no run has seen; their labels
choose nothing. Times are processor time, which other work on the machine changes less than others. Written to
benchmarks/results/student-distil-TRIAL.json after every row; what is there already is not run again.
"""

import argparse
import itertools
import json
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.student.domains import Domain, Domains, find_domains
from ecotta_rt.student.evaluate import error_percent
from ecotta_rt.student.methods import METHODS, DistilOptions, teachers_needed
from ecotta_rt.student.named_data import find_labelled
from ecotta_rt.student.progressive import distil
from ecotta_rt.student.training import TrainingOptions

DIGITS = {"mnist": "mnist32", "usps": "usps_native16", "mnistm": "mnistm32", "street": "streetdigits32"}
WIDTHS = {"teacher": (16, 32, 64), "student": (6, 12, 16)}
"""Channels of three 3x3 convolutions, each with batch norm, ReLU and a pooling by 2 but for the last."""
LR = {"student": 0.2, "teacher": 0.05}
TEST_SHARE = 0.2
"""Of PACS, which has no test part, held out of each domain, by a seed of its own."""


@dataclass(frozen=True)
class Row:
    """One line of a table: a method for one network.

    Attributes:
        name: As in the table.
        network: Which is trained, `teacher` or `student`.
        method: One of `METHODS`.
        changes: Of the distillation's options.
    """

    name: str
    network: str
    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)


PEERS = (
    Row("student, source only", "student", "source-only"),
    Row("student, DANN", "student", "adapted"),
)

KD_STDA = (
    Row("student, KD-STDA", "student", "kd-stda"),
    Row("student, KD-STDA with its own DANN", "student", "kd-stda", {"consistency": True}),
)


@dataclass(frozen=True)
class Trial:
    """Domains, sizes and rows.

    Attributes:
        pairs: Source and targets of each.
        rows: In the order they are run, for each seed and pair.
        size: Side of the frames.
        frames: At most so many of each domain.
        epochs: Passes over the source.
        batch: Frames of each domain.
        lr: Of students and of teachers, whatever the method; chosen by the error on the source with another seed.
        augment: Of all domains.
    """

    pairs: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[Row, ...]
    size: int
    frames: int
    epochs: int
    batch: int
    lr: Mapping[str, float]
    augment: str


TRIALS = {
    "digits": Trial(
        pairs=(("mnist", ("usps",)), ("mnist", ("mnistm",)), ("usps", ("mnist",))),
        rows=(*PEERS, *KD_STDA),
        size=16,
        frames=2000,
        epochs=12,
        batch=32,
        lr=LR,
        augment="none",
    ),
    "targets": Trial(
        pairs=(("mnist", ("usps", "mnistm", "street")),),
        rows=(*PEERS, Row("student, KD-MTDA", "student", "kd-mtda"), Row("student, MT-MTDA", "student", "mt-mtda")),
        size=16,
        frames=2000,
        epochs=12,
        batch=32,
        lr=LR,
        augment="none",
    ),
    "pacs": Trial(
        pairs=(("photo", ("art_painting",)),),
        rows=(*PEERS, *KD_STDA),
        size=32,
        frames=2000,
        epochs=15,
        batch=32,
        lr=LR,
        augment="jitter:0.4,blur:0.2,grey:0.1,flip:0.5,shift:0.125",
    ),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=TRIALS)
    parser.add_argument("--data", type=Path, required=True, help="folder with domains/")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="only so many of a trial's rows (all)")
    parser.add_argument("--store", type=Path, default=Path("measure-distil"), help="folder for decoded pictures")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/student-distil-TRIAL.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    trial = TRIALS[args.trial]
    out = args.out or Path(__file__).parent / "results" / f"student-distil-{args.trial}.json"
    read_rows(out, about(trial))  # what would be refused is refused now
    make = pacs if args.trial == "pacs" else digits
    for seed in args.seeds:
        for source, targets in trial.pairs:
            domains, tests = make(args, trial, source, targets)
            for row in trial.rows[: args.rows]:
                measure(trial, row, seed, source, targets, domains, tests, out)
    return 0


def about(trial: Trial) -> dict[str, Any]:
    """What all rows of a file have in common."""
    same = {name: value for name, value in asdict(trial).items() if name not in ("pairs", "rows")}
    widths = {name: list(channels) for name, channels in WIDTHS.items()}
    return {**same, "options": json.loads(json.dumps(asdict(DistilOptions()))), "widths": widths}


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
    return found.frames(frame, args.store / "digits"), tests


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


def measure(
    trial: Trial,
    row: Row,
    seed: int,
    source: str,
    targets: tuple[str, ...],
    domains: Domains,
    tests: dict[str, Domain],
    out: Path,
) -> None:
    origin = about(trial)
    name = f"{source} -> {', '.join(targets)}; {row.name}; seed {seed}"
    if name in read_rows(out, origin):
        return

    def network(model: str, place: int) -> nn.Module:
        torch.manual_seed(1000 * place + seed)
        return convolutions(WIDTHS[model], len(domains.classes))

    trained = network(row.network, 0)
    teachers = [network("teacher", 1 + place) for place in range(teachers_needed(row.method, len(targets)))]
    share = trial.lr["teacher"] / trial.lr[row.network]
    options = DistilOptions(method=row.method, teacher_lr=share, **row.changes)
    recipe = TrainingOptions(
        epochs=trial.epochs,
        batch=trial.batch,
        lr=trial.lr[row.network],
        augmentation=Augmentation.parse(trial.augment),
        seed=seed,
    )
    began_s, began_wall_s = time.process_time(), time.monotonic()
    history = distil(trained, teachers, domains, options, recipe)
    measured: dict[str, Any] = {
        "source": source,
        "targets": list(targets),
        "row": row.name,
        "network": row.network,
        "method": row.method,
        "title": METHODS[row.method].title,
        "seed": seed,
        "processor_minutes": (time.process_time() - began_s) / 60,
        "wall_minutes": (time.monotonic() - began_wall_s) / 60,
        "history": [dict(epoch) for epoch in history],
        "errors_percent": errors(trained, tests),
        "teacher_errors_percent": [errors(teacher, tests) for teacher in teachers],
        "environment": asdict(read_environment(1)),
    }
    on_targets = [measured["errors_percent"][target] for target in targets]
    measured["error_percent"] = sum(on_targets) / len(on_targets)
    print(f"{name}: {measured['error_percent']:.2f} %, {measured['processor_minutes']:.1f} min", flush=True)
    rows = read_rows(out, origin) | {name: measured}
    report = {"measured": "student-distil", "about": origin, "rows": rows}
    write_atomic(out, (json.dumps(report, indent=1) + "\n").encode())


def convolutions(widths: tuple[int, ...], classes: int) -> nn.Module:
    """A plain network for small frames in [0, 1]."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise((3, *widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    layers[-1] = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1], classes))


def errors(network: nn.Module, tests: Mapping[str, Domain]) -> dict[str, float]:
    """In percent, of the source and each target."""
    return {name: error_percent(network, test.frames, test.labels) for name, test in tests.items()}


def read_rows(path: Path, origin: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if report.get("about") != origin:
        raise SystemExit(f"{path} holds figures of other conditions ({report.get('about')}); --out names another file")
    rows: dict[str, dict[str, Any]] = report["rows"]
    return rows


if __name__ == "__main__":
    sys.exit(main())
