"""What merging networks of one checkpoint brings on several domains, and by what networks of other origins are told.

    python benchmarks/measure_merging.py tuned --data $ECOTTA_DATA     tuned with labels by small steps
    python benchmarks/measure_merging.py far --data $ECOTTA_DATA       the same by steps five times as large
    python benchmarks/measure_merging.py wrn --data $ECOTTA_DATA       `tuned` for a residual network
    python benchmarks/measure_merging.py dann --data $ECOTTA_DATA      adapted without labels of the domains, by DANN
    python benchmarks/measure_merging.py origins --data $ECOTTA_DATA   cosines and barriers of one origin and of several

A network is trained on MNIST, then tuned from there to USPS, to MNIST-M and to street digits, one network each. These
are merged, with each rule for the norms' statistics; beside them are the start and each network alone, with their own
statistics and with measured ones, and one that was tuned to the three together in as many steps. Errors are those on
test images that no run has seen. Trained networks are kept in --store and used again; figures go to
benchmarks/results/merging-TRIAL.json after each seed.
"""

import argparse
import copy
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distil_trials import DIGITS
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.merging.connectivity import HIGHEST_BARRIER, LEAST_COSINE, Barrier, barriers, likenesses
from ecotta_rt.merging.members import Member
from ecotta_rt.merging.networks import find_head, merge_networks
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.student.domains import Domain, Domains
from ecotta_rt.student.methods import DistilOptions
from ecotta_rt.student.named_data import find_labelled
from ecotta_rt.student.progressive import distil
from ecotta_rt.student.slimmable.recalibrate import recalibrate_on
from ecotta_rt.student.training import TrainingOptions
from measure_distil import convolutions, errors

START, TARGETS = "mnist", ("usps", "mnistm", "street")
CLASSES = tuple("0123456789")
FRAME = FrameSpec(3, 16, 16)
FRAMES, BATCH = 2000, 32
EPOCHS = {"mnist": 8, "usps": 8, "mnistm": 8, "street": 20}
"""Passes; street digits are 619 pictures."""
JOINT_EPOCHS = 10
"""Over all three together: as many steps as the three have."""
UNLABELLED = 250
"""Pictures of each domain by which statistics are measured and barriers looked for; labels are left alone."""
SMALL_STEP = 0.2
"""Share of the step size of training from random weights."""


@dataclass(frozen=True)
class Trial:
    """How networks are tuned.

    Attributes:
        network: One of `NETWORKS`.
        share: Of the network's step size.
        labels: With labels of the domains; else by DANN, with those of MNIST.
    """

    network: str = "bn"
    share: float = SMALL_STEP
    labels: bool = True


TRIALS = {
    "tuned": Trial(),
    "far": Trial(share=1.0),
    "wrn": Trial(network="wrn"),
    "dann": Trial(labels=False),
}

LR = {"bn": 0.05, "gn": 0.02, "wrn": 0.05}
TITLES = {"bn": "3 convolutions, BatchNorm", "gn": "3 convolutions, GroupNorm", "wrn": "WRN-10-1"}


def make(network: str, seed: int) -> nn.Module:
    """One of `TITLES` with random weights."""
    torch.manual_seed(seed)
    if network == "wrn":
        return WideResNet(10, 1, 10)
    made = convolutions((16, 32, 64), 10)
    if network == "gn":
        for place, layer in enumerate(made):
            if isinstance(layer, nn.BatchNorm2d):
                made[place] = nn.GroupNorm(4, layer.num_features)
    return made


@dataclass
class Zoo:
    """Trained networks, each kept in a file by its name.

    Attributes:
        training: A domain each.
        tests: The same of test images.
        store: The folder.
        seconds: Of a core, that those which were asked for took when they were trained.
    """

    training: Mapping[str, Domain]
    tests: Mapping[str, Domain]
    store: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def get(self, name: str, train: Callable[[], nn.Module], like: str) -> nn.Module:
        path, told = (self.store / f"{name}.{kind}" for kind in ("pt", "seconds"))
        if not path.exists():
            before = sum(self.seconds.values())  # of a start that is trained on the way
            began_s = time.process_time()
            state = train().state_dict()
            spent_s = time.process_time() - began_s - (sum(self.seconds.values()) - before)
            told.write_text(f"{spent_s:.1f}")
            torch.save(state, path)
            print(f"{name}: {spent_s:.1f} s of a core", flush=True)
        self.seconds[name] = float(told.read_text())
        network = make(like, 0)
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()

    def start(self, network: str, seed: int) -> nn.Module:
        return self.get(
            f"{network}-start-{seed}", lambda: self._learn(make(network, seed), network, START, seed), network
        )

    def tuned(self, trial: Trial, domain: str, seed: int) -> nn.Module:
        """From the start, to one domain or, as `joint`, to all."""
        how = "labels" if trial.labels else "dann"
        name = f"{trial.network}-{how}-{trial.share:g}-{domain}-{seed}"

        def train() -> nn.Module:
            network = self.start(trial.network, seed)
            if trial.labels:
                return self._learn(network, trial.network, domain, 10 + seed, trial.share)
            places = TARGETS if domain == "joint" else (domain,)
            targets = tuple(Domain(place, self.training[place].frames) for place in places)
            return self._run(network, trial, Domains(self.training[START], targets, CLASSES), seed)

        return self.get(name, train, trial.network)

    def scratch(self, network: str, domain: str, seed: int) -> nn.Module:
        """From random weights of its own."""
        first = 100 + 10 * seed + (START, *TARGETS).index(domain)
        name = f"{network}-scratch-{domain}-{seed}"
        return self.get(name, lambda: self._learn(make(network, first), network, domain, first), network)

    def unlabelled(self, domains: tuple[str, ...]) -> np.ndarray:
        return np.concatenate([self.training[domain].frames[:UNLABELLED] for domain in domains])

    def _learn(self, network: nn.Module, kind: str, domain: str, seed: int, share: float = 1.0) -> nn.Module:
        recipe = self._recipe(JOINT_EPOCHS if domain == "joint" else EPOCHS[domain], share * LR[kind], seed)
        distil(network, [], Domains(self._joined(domain), (), CLASSES), DistilOptions(method="source-only"), recipe)
        return network

    def _run(self, network: nn.Module, trial: Trial, domains: Domains, seed: int) -> nn.Module:
        recipe = self._recipe(EPOCHS[START], trial.share * LR[trial.network], 10 + seed)
        distil(network, [], domains, DistilOptions(method="adapted"), recipe)
        return network

    def _joined(self, domain: str) -> Domain:
        if domain != "joint":
            return self.training[domain]
        parts = [self.training[name] for name in TARGETS]
        return Domain("joint", *(np.concatenate([getattr(p, what) for p in parts]) for what in ("frames", "labels")))

    @staticmethod
    def _recipe(epochs: int, lr: float, seed: int) -> TrainingOptions:
        return TrainingOptions(epochs=epochs, batch=BATCH, lr=lr, augmentation=Augmentation.parse("none"), seed=seed)


def member(name: str, network: nn.Module) -> Member:
    return Member(name, lambda: copy.deepcopy(network))


def merged_rows(zoo: Zoo, start: nn.Module, tuned: Mapping[str, nn.Module]) -> dict[str, dict[str, float]]:
    """Errors in percent of all ways of merging, by domain."""
    names, members = tuple(tuned), [member(name, network) for name, network in tuned.items()]
    found = merge_networks(members)
    own = merge_networks(members, head=find_head(start))
    pooled = found.fill(copy.deepcopy(start))
    with_heads = {name: own.fill(copy.deepcopy(start), place) for place, name in enumerate(names)}
    measured = recalibrate_on(copy.deepcopy(pooled), zoo.unlabelled(names))
    at_home = {
        name: recalibrate_on(copy.deepcopy(network), zoo.unlabelled((name,))) for name, network in with_heads.items()
    }
    rows = {
        "merged, norms of the start": errors(with_norms(pooled, start), zoo.tests),
        "merged, norms of the first": errors(with_norms(pooled, tuned[names[0]]), zoo.tests),
        "merged, norms pooled": errors(pooled, zoo.tests),
        "merged, norms measured": errors(measured, zoo.tests),
        "merged, own heads": own_errors(zoo, with_heads),
        "merged, own heads, norms measured at home": own_errors(zoo, at_home),
    }
    for pair in itertools.combinations(names, 2):
        two = merge_networks([member(name, tuned[name]) for name in pair]).fill(copy.deepcopy(start))
        rows[f"merged, {' + '.join(pair)}"] = errors(two, zoo.tests)
    return rows


def with_norms(network: nn.Module, other: nn.Module) -> nn.Module:
    """`network` with the norms' statistics of `other`."""
    buffers = {key: value for key, value in other.state_dict().items() if "running_" in key}
    changed = copy.deepcopy(network)
    changed.load_state_dict(buffers, strict=False)
    return changed


def own_errors(zoo: Zoo, networks: Mapping[str, nn.Module]) -> dict[str, float]:
    """Each network on the domain of its head."""
    return {name: errors(network, {name: zoo.tests[name]})[name] for name, network in networks.items()}


def harmonic_mean(by_domain: Mapping[str, float]) -> float:
    """Of the accuracies in the three domains, in percent; 0 where one is 0."""
    rights = [100 - by_domain[name] for name in TARGETS]
    return statistics.harmonic_mean(rights)


def measure(trial_name: str, zoo: Zoo, seed: int, out: Path) -> None:
    """All rows of one seed."""
    trial = TRIALS[trial_name]
    zoo.seconds.clear()
    start = zoo.start(trial.network, seed)
    tuned = {domain: zoo.tuned(trial, domain, seed) for domain in TARGETS}
    rows = {"start": errors(start, zoo.tests)}
    rows |= {f"tuned to {domain} alone": errors(network, zoo.tests) for domain, network in tuned.items()}
    for name, network in {"start": start, **{f"tuned to {domain} alone": one for domain, one in tuned.items()}}.items():
        measured_anew = recalibrate_on(copy.deepcopy(network), zoo.unlabelled(TARGETS))
        rows[f"{name}, norms measured"] = errors(measured_anew, zoo.tests)
    rows |= merged_rows(zoo, start, tuned)
    rows["tuned to all three together"] = errors(zoo.tuned(trial, "joint", seed), zoo.tests)
    members = [member(name, network) for name, network in tuned.items()]
    walls = barriers(members, zoo.unlabelled(TARGETS))
    measured = {
        "seed": seed,
        "errors_percent": rows,
        "harmonic_mean_percent": {name: harmonic_mean(row) for name, row in rows.items()},
        "cosines": [one.cosine for one in likenesses(members)],
        "barriers": [wall.share for wall in walls],
        "processor_seconds": dict(zoo.seconds),
        "environment": asdict(read_environment(1)),
    }
    for name, mean in measured["harmonic_mean_percent"].items():
        print(f"{trial_name} {seed}  {name}: H {mean:.1f}", flush=True)
    keep(out, "merging", about(trial), str(seed), measured)


def measure_origins(zoo: Zoo, seed: int, network: str, out: Path) -> None:
    """Every pair of a zoo: one origin, or two."""
    kinds: dict[str, tuple[str, nn.Module]] = {"start": (START, zoo.start(network, seed))}
    for share, how in ((SMALL_STEP, "tuned"), (1.0, "far")):
        trial = Trial(network, share)
        kinds |= {f"{how}-{domain}": (domain, zoo.tuned(trial, domain, seed)) for domain in TARGETS}
    own = {f"scratch-{domain}": (domain, zoo.scratch(network, domain, seed)) for domain in (START, *TARGETS)}
    pairs = []
    for (one, (at, first)), (two, (there, second)) in itertools.combinations((kinds | own).items(), 2):
        places = tuple(dict.fromkeys((at, there)))
        members = [member(one, first), member(two, second)]
        (wall,) = barriers(members, zoo.unlabelled(places))
        (alike,) = likenesses(members)
        pairs.append({"pair": [one, two], "one_origin": not {one, two} & own.keys(), **_signs(alike.cosine, wall)})
    accuracies = {name: 100 - errors(made, {at: zoo.tests[at]})[at] for name, (at, made) in (kinds | own).items()}
    measured = {"network": network, "seed": seed, "pairs": pairs, "accuracy_at_home_percent": accuracies}
    keep(
        out,
        "merging-origins",
        about(None),
        f"{network} {seed}",
        {**measured, "environment": asdict(read_environment(1))},
    )
    for same in (True, False):
        few = [pair for pair in pairs if pair["one_origin"] == same]
        for sign in ("cosine", "barrier"):
            values = [pair[sign] for pair in few if pair[sign] is not None]
            print(
                f"{network} {seed} {same} {sign}: {min(values):.2f} to {max(values):.2f} of {len(values)}", flush=True
            )


def _signs(cosine: float, wall: Barrier) -> dict[str, Any]:
    told = wall.share if wall.told else None
    return {"cosine": cosine, "barrier": told, "common": wall.common, "pictures": wall.pictures}


def about(trial: Trial | None) -> dict[str, Any]:
    """What all rows of a file have in common."""
    same = {
        "size": FRAME.height,
        "frames": FRAMES,
        "batch": BATCH,
        "epochs": EPOCHS,
        "unlabelled": UNLABELLED,
        "lr": LR,
    }
    limits = {"least_cosine": LEAST_COSINE, "highest_barrier": HIGHEST_BARRIER}
    return {**same, "joint_epochs": JOINT_EPOCHS, **(limits if trial is None else asdict(trial))}


def read_rows(out: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """What is there already; figures of other conditions are not mixed with ours."""
    if not out.exists():
        return {}
    report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    if report["about"] != origin:
        raise SystemExit(f"{out} holds figures of other conditions ({report['about']}); --out names another file")
    rows: dict[str, Any] = report["rows"]
    return rows


def keep(out: Path, what: str, origin: dict[str, Any], name: str, measured: dict[str, Any]) -> None:
    """Write a row into the file at once."""
    rows = read_rows(out, origin) | {name: measured}
    report = {"measured": what, "about": origin, "rows": rows}
    write_atomic(out, (json.dumps(report, indent=1) + "\n").encode())


def load(args: argparse.Namespace, split: str) -> dict[str, Domain]:
    """The domains, as many frames of each as are learned from; all of the test images."""
    found = {}
    for name in (START, *TARGETS):
        place, count = args.data / "domains" / f"{DIGITS[name]}.npz", FRAMES if split == "train" else None
        labelled = find_labelled(place, CLASSES, split=split, count=count)
        data = labelled.frames(FRAME, args.store / name).training
        mixed = np.random.default_rng(0).permutation(len(data.labels))
        found[name] = Domain(name, data.frames[mixed], data.labels[mixed])
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=(*TRIALS, "origins"))
    parser.add_argument("--data", type=Path, required=True, help="folder with domains/")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="*", default=list(TITLES), choices=TITLES, help="of `origins` (all)")
    parser.add_argument("--store", type=Path, default=Path("measure-merging"), help="folder for trained networks")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/merging-TRIAL.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    args.store.mkdir(parents=True, exist_ok=True)
    out = args.out or Path(__file__).parent / "results" / f"merging-{args.trial}.json"
    zoo = Zoo(load(args, "train"), load(args, "test"), args.store)
    for seed in args.seeds:
        if args.trial == "origins":
            for network in args.networks:
                measure_origins(zoo, seed, network, out)
        else:
            measure(args.trial, zoo, seed, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
