"""Does it pay to rank source networks before one distils from them? Figures of DistillNearest and DistillWeighted.

    ECOTTA_DATA=... python benchmarks/train_ranking_sources.py FOLDER     the sources, see ranking_cases.py
    ECOTTA_DATA=... python benchmarks/measure_ranking.py digits FOLDER    results/student-ranking-digits.json
    ECOTTA_DATA=... python benchmarks/measure_ranking.py halves FOLDER    results/student-ranking-halves.json
    ECOTTA_DATA=... python benchmarks/measure_ranking.py pictures FOLDER

Five classes at 16x16, 10 labels a class (halves: ten, and 3), 2,000 training pictures without labels. Student: ResNet-8
from random weights, 250 steps (500 for pictures), some of digits once more with three times as many.
Two settings are tried by 500 pictures (on which no student is measured otherwise; the column "500 labels" ranks by
them) and a draw of labels of their own: for labels alone two step sizes, for all that have teachers two shares of the
labels' term in the loss, with one teacher. Of halves the power of DistillWeighted's weights is chosen alike, of two.

Rows are written one by one, and those that are there are kept, so the script may be stopped and begun again; a file of
other options or sources is refused. By CKA and LogME they have the setting that was found with PARC (halves: that of
the nearest by LogME). Frames are augmented by mirroring at most, and digits not at all: then each source has few
answers a picture, which are kept.
"""

import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.student.defaults import POWER
from ecotta_rt.student.evaluate import error_percent
from ecotta_rt.student.ranking import Ranking, rank, source_weights
from ecotta_rt.student.similarity import MEASURES
from ecotta_rt.student.similarity.ranks import spearman
from ecotta_rt.student.slimmable.recalibrate import recalibrate_on
from ecotta_rt.student.source_networks import SourceNetwork, find_source_networks, open_source_networks
from ecotta_rt.student.training import TrainingOptions, train
from ecotta_rt.student.weighted import Teaching, chosen_sources, source_steps
from ranking_cases import SIDE, SOURCES_BY_TARGET, Pictures, target

RESULTS = Path(__file__).resolve().parent / "results"
SEEDS = (0, 1, 2)
TUNING_SEED = 100
UNLABELLED, VALIDATION = 2000, 500
LABELS_A_CLASS = {"digits": 10, "pictures": 10, "halves": 3}
OPTIONS = {
    "digits": TrainingOptions(epochs=8, batch=64, rate="cosine", augmentation=Augmentation(())),
    "pictures": TrainingOptions(epochs=16, batch=64, rate="cosine", augmentation=Augmentation((("flip", 0.5),))),
}
OPTIONS["halves"] = OPTIONS["digits"]
LONGER = 3
NORMS = ", norms of all pictures"
"""Ends the name of a method whose norms are measured again on the pictures without labels, in the end."""
POWERS = {"halves": (POWER, 4 * POWER)}
"""Of the weights, where they are chosen."""
METHODS = {
    "digits": (
        "labels alone",
        "nearest",
        "weighted",
        "uniform",
        "nearest by cka",
        "weighted by cka",
        "weighted by logme",
    ),
    "halves": ("labels alone", f"labels alone{NORMS}", "nearest by logme", "weighted by logme", "uniform"),
}
METHODS["pictures"] = METHODS["digits"]
RATES = (0.03, 0.1)
SHARES = (0.3, 0.8)


@dataclass(frozen=True, eq=False)
class Remembered(SourceNetwork):
    """A source that keeps its answer to each frame."""

    kept: dict[bytes, Tensor] = field(default_factory=dict)

    def answers(self, frames: Tensor) -> Tensor:
        keys = [hashlib.blake2b(frame.numpy().tobytes(), digest_size=16).digest() for frame in frames]
        new = [place for place, key in enumerate(keys) if key not in self.kept]
        if new:
            for place, answer in zip(new, super().answers(frames[new]), strict=True):
                self.kept[keys[place]] = answer
        return torch.stack([self.kept[key] for key in keys])


@dataclass(frozen=True, eq=False)
class Bench:
    """The target's pictures, and the sources."""

    pool: Pictures
    validation: Pictures
    test: Pictures
    sources: Sequence[SourceNetwork]
    options: TrainingOptions
    labels_a_class: int
    powers: tuple[float, ...] = (POWER,)

    def labelled(self, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The few, drawn class by class."""
        draw = np.random.default_rng(seed)
        places = np.concatenate(
            [
                draw.permutation(np.flatnonzero(self.pool.labels == label))[: self.labels_a_class]
                for label in range(len(self.pool.classes))
            ]
        )
        return self.pool.frames[places], self.pool.labels[places]


def open_bench(name: str, folder: Path) -> Bench:
    training, test = target(name)
    order = np.random.default_rng(7).permutation(len(training.labels))

    def part(places: NDArray[np.int64]) -> Pictures:
        return Pictures(training.frames[places], training.labels[places], training.classes)

    pool, validation = part(order[:UNLABELLED]), part(order[UNLABELLED : UNLABELLED + VALIDATION])
    networks, _ = open_source_networks(
        [replace(spec, size=SIDE) for spec in find_source_networks([folder]) if spec.name in SOURCES_BY_TARGET[name]]
    )
    sources = [Remembered(one.name, one.tap, one.made_for, one.digest) for one in networks]
    powers = POWERS.get(name, (POWER,))
    return Bench(pool, validation, test, sources, OPTIONS[name], LABELS_A_CLASS[name], powers)


def main(name: str, folder: Path, out: Path | None = None) -> None:
    torch.set_num_threads(1)
    bench = open_bench(name, folder)
    out = out or RESULTS / f"student-ranking-{name}.json"
    rows = read_rows(out, about(bench)) | {
        "out": str(out),
        "measured": "ranking",
        "target": name,
        "labels": bench.labels_a_class * len(bench.pool.classes),
        "test_pictures": len(bench.test.labels),
    }
    few = {seed: ranked(bench, *bench.labelled(seed)) for seed in (*SEEDS, TUNING_SEED)}
    many = ranked(bench, bench.validation.frames, bench.validation.labels)
    rows["environment"] = asdict(read_environment(threads=1))
    rows["sources"] = {one.name: one.classes for one in bench.sources}
    rows["scores"] = {str(seed): scores(few[seed]) for seed in SEEDS} | {"500 labels": scores(many)}
    rows["errors"] = {one.name: one.error for one in few[SEEDS[0]].sources}
    save(rows)
    labels = tune(bench, few[TUNING_SEED], "labels alone", [(lr, 1.0) for lr in RATES], rows)
    settings = [(labels[0], share) for share in SHARES]
    nearest = next(method for method in METHODS[name] if method.startswith("nearest"))
    shared = tune(bench, few[TUNING_SEED], nearest, settings, rows)
    power = choose_power(bench, few[TUNING_SEED], shared, rows)
    for seed in SEEDS:
        for method in METHODS[name]:
            weights = weights_of(method, few[seed], bench.sources, power)
            measure(bench, seed, method, weights, shared if weights else labels, rows)
    if name != "halves":
        longer = replace(bench, options=replace(bench.options, epochs=LONGER * bench.options.epochs))
        for seed in SEEDS:
            for method in ("labels alone", "nearest by cka", "weighted by cka"):
                weights = weights_of(method, few[seed], bench.sources)
                measure(longer, seed, f"{method}, longer", weights, shared if weights else labels, rows)
    for source in bench.sources:
        measure(bench, SEEDS[0], f"only {source.name}", {source.name: 1.0}, shared, rows)
    correlate(rows, [one.name for one in bench.sources])
    save(rows)


def about(bench: Bench) -> dict[str, Any]:
    """What all rows of a file have in common."""
    counts = {
        "labels_a_class": bench.labels_a_class,
        "unlabelled": UNLABELLED,
        "validation": VALIDATION,
        "longer": LONGER,
    }
    power = bench.powers[0] if len(bench.powers) == 1 else bench.powers
    tried = {"rates": RATES, "shares": SHARES, "power": power, "tuning_seed": TUNING_SEED}
    sources = {one.name: one.digest for one in bench.sources}
    labels = {"labels_a_class": bench.labels_a_class}
    found: dict[str, Any] = json.loads(
        json.dumps({**labels, **counts, **tried, "options": asdict(bench.options), "sources": sources})
    )
    return found


def read_rows(path: Path, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are there; rows of other conditions would stand beside new ones as if they were alike."""
    if not path.exists():
        return {"schema": 1, "about": origin, "rows": []}
    rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if rows.get("about") != origin:
        raise SystemExit(f"{path} holds figures of other conditions ({rows.get('about')}); name another file")
    return rows


def ranked(bench: Bench, frames: NDArray[np.uint8], labels: NDArray[np.int64]) -> Ranking:
    return rank(bench.sources, frames, labels, tuple(MEASURES))


def scores(ranking: Ranking) -> dict[str, Mapping[str, float]]:
    return {one.name: dict(one.scores) for one in ranking.sources}


def weights_of(
    method: str, ranking: Ranking, sources: Sequence[SourceNetwork], power: float = POWER
) -> Mapping[str, float]:
    if method.startswith("labels alone"):
        return {}
    if method == "uniform":
        return {one.name: 1 / len(sources) for one in sources}
    measure = method.partition(" by ")[2] or "parc"
    power = math.inf if method.startswith("nearest") else power
    evidence = [MEASURES[measure].evidence(one.scores[measure]) for one in ranking.sources]
    weights = source_weights(evidence, power)
    return {one.name: float(weight) for one, weight in zip(ranking.sources, weights, strict=True) if weight > 0}


def tune(
    bench: Bench, ranking: Ranking, method: str, settings: Sequence[tuple[float, float]], rows: dict[str, Any]
) -> tuple[float, float]:
    """Step size and share that are best on the validation pictures."""
    weights = weights_of(method, ranking, bench.sources)
    found = {setting: validated(bench, method, weights, setting, rows) for setting in settings}
    return max(found, key=lambda key: found[key])


def choose_power(bench: Bench, ranking: Ranking, setting: tuple[float, float], rows: dict[str, Any]) -> float:
    """The one of `bench.powers` with which DistillWeighted by LogME is best on the validation pictures."""
    if len(bench.powers) == 1:
        return bench.powers[0]
    found = {}
    for power in bench.powers:
        weights = weights_of("weighted by logme", ranking, bench.sources, power)
        found[power] = validated(bench, f"weighted by logme, power {power:g}", weights, setting, rows)
    return max(found, key=lambda power: found[power])


def validated(
    bench: Bench, method: str, weights: Mapping[str, float], setting: tuple[float, float], rows: dict[str, Any]
) -> float:
    """Accuracy on the validation pictures."""
    row = known(rows, method=method, seed=TUNING_SEED, lr=setting[0], share=setting[1])
    if row is None:
        row = run(bench, TUNING_SEED, method, weights, setting, bench.validation)
        rows["rows"].append(row)
        save(rows)
    accuracy: float = row["accuracy"]
    return accuracy


def measure(
    bench: Bench,
    seed: int,
    method: str,
    weights: Mapping[str, float],
    setting: tuple[float, float],
    rows: dict[str, Any],
) -> None:
    if known(rows, method=method, seed=seed) is not None:
        return
    epochs = bench.options.epochs
    alike = known(rows, seed=seed, lr=setting[0], share=setting[1], epochs=epochs, sources=dict(weights))
    same = None if method.endswith(NORMS) else alike
    row = dict(same) | {"method": method} if same else run(bench, seed, method, weights, setting, bench.test)
    rows["rows"].append(row)
    save(rows)


def run(
    bench: Bench,
    seed: int,
    method: str,
    weights: Mapping[str, float],
    setting: tuple[float, float],
    judged: Pictures,
) -> dict[str, Any]:
    lr, share = setting
    options = replace(bench.options, lr=lr, seed=seed)
    row = trained(bench, bench.labelled(seed), weights, options, share, judged, norms=method.endswith(NORMS))
    row |= {
        "method": method,
        "seed": seed,
        "epochs": bench.options.epochs,
        "lr": lr,
        "share": share,
        "sources": dict(weights),
    }
    print(f"{method:22} seed {seed:3} lr {lr} share {share}  {row['accuracy']:.1f} %  {row['cpu_s']:.0f} s", flush=True)
    return row


def trained(
    bench: Bench,
    labelled: tuple[NDArray[np.uint8], NDArray[np.int64]],
    weights: Mapping[str, float],
    options: TrainingOptions,
    share: float,
    judged: Pictures,
    norms: bool = False,
) -> dict[str, Any]:
    began = time.process_time()
    torch.manual_seed(options.seed)
    student = build_network("resnet-8", classes=len(bench.pool.classes)).to(memory_format=torch.channels_last)
    teaching: tuple[Teaching, ...] = ()
    if weights:
        every = {one.name: weights.get(one.name, 0.0) for one in bench.sources}
        teaching = chosen_sources(bench.sources, every)
    train(source_steps(student, teaching, labelled, bench.pool.frames, options, share), options)
    if norms:
        recalibrate_on(student, bench.pool.frames)
    accuracy = 100 - error_percent(student, judged.frames, judged.labels)
    return {"accuracy": accuracy, "cpu_s": round(time.process_time() - began, 1)}


def known(rows: Mapping[str, Any], **wanted: Any) -> dict[str, Any] | None:
    return next((row for row in rows["rows"] if all(row.get(key) == value for key, value in wanted.items())), None)


def correlate(rows: dict[str, Any], names: Sequence[str]) -> None:
    """Spearman between what a measure says of the sources and what each gives as the only one."""
    gives = np.array([known(rows, method=f"only {name}")["accuracy"] for name in names])  # type: ignore[index]
    rows["rank_correlation"] = {
        measure: {
            draw: spearman(np.array([said[name][measure] for name in names]), gives)
            for draw, said in rows["scores"].items()
        }
        for measure in MEASURES
    }


def save(rows: Mapping[str, Any]) -> None:
    facts = {name: value for name, value in rows.items() if name != "out"}
    Path(rows["out"]).write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:4]))
