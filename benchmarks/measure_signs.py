"""How well do signs without labels say how often a network is wrong, and how often are they wrong themselves?

    python benchmarks/measure_signs.py record wrn-40-2.ecotta resnet-56.ecotta --data cifar-10-batches-bin
    python benchmarks/measure_signs.py evaluate          writes benchmarks/results/signs.json

`record` plays streams frame by frame, and keeps in --recordings what signs are made of (see play_signs.py); what is
there is not played again. Test images for what is measured: eight protocols, 15 corruptions, 100 frames each, three
seeds, statistics following. Training images for what is fitted and chosen: a stream of 60 frames a corruption, to which
each network's temperature is fitted, and the same protocols under six corruptions that are none of the 15
(other_corruptions.py), by which limits are chosen. Nothing is fitted to a test image, and no limit is chosen by one.
Of streams that never change, 5,625 frames for each corruption and each of two orders of classes, only what drift is
noticed by is kept.

`evaluate` cuts each stream into windows of 100 and of 200 frames, half over each other. For each sign: Spearman's rank
correlation with the error of the filtered answer over the windows of all streams of one seed, as mean and standard
deviation over the seeds, and within each stream, of which the median is given. For the expected error also the mean
absolute difference from the error, beside that of the best constant, and what chance alone does to a window:
sqrt(e (1 - e) / n) sqrt(2 / pi). Frames that are garbage have no error, and are in the signs.

Then what doubt and drift do, on training images and on test images: see sign_alarms.py.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.adapt.signs import entropies
from ecotta_rt.adapt.temperature import fitted_temperature
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.streams.pixels import frames_of
from ecotta_rt.data.image_sets import find_image_set
from ecotta_rt.errors import EcottaError
from ecotta_rt.files.atomic import write_atomic
from play_signs import FRAMES, PROTOCOLS, played_keys, record, steady_streams, streams_of, write_recording
from sign_alarms import FRAMES_PER_S, doubt_alarms, drift_alarms

HERE = Path(__file__).parent
WINDOWS = (100, 200)
LIMITS = (0.3, 0.4, 0.5)
"""Of the expected error, tried for the doubt rule."""

Arrays = Mapping[str, NDArray[Any]]
Sign = Callable[[Arrays], float]


def of_frozen(window: Arrays, value: Callable[[Arrays], float]) -> float:
    """Of the frames to which the frozen network answered, too."""
    asked = np.isfinite(window["frozen"][:, 0])
    return value({name: array[asked] for name, array in window.items()})


def concentration(probabilities: NDArray[Any]) -> float:
    shares = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1]) / len(probabilities)
    return float(shares @ shares)


def differ(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float((one.argmax(axis=1) != other.argmax(axis=1)).mean())


def contradiction(window: Arrays) -> float:
    other = window["filtered"].argmax(axis=1) != window["frozen"].argmax(axis=1)
    return float((other & (entropies(window["frozen"]) <= 0.4)).mean())


def nuclear_norm(probabilities: NDArray[Any]) -> float:
    """As a part of the largest there can be."""
    frames, classes = probabilities.shape
    return float(np.linalg.norm(probabilities.astype(np.float64), "nuc") / np.sqrt(min(frames, classes) * frames))


def marginal(window: Arrays) -> float:
    return float(entropies(window["unfiltered"].mean(axis=0, keepdims=True))[0])


SIGNS: dict[str, Sign] = {
    "expected error": lambda w: float(w["expected"].mean()),
    "1 - confidence of the answer": lambda w: 1 - float(w["filtered"].max(axis=1).mean()),
    "evidence of the filter, negative": lambda w: -float(w["evidence"][-1]),
    "entropy": lambda w: float(entropies(w["unfiltered"]).mean()),
    "1 - certain": lambda w: 1 - float((entropies(w["unfiltered"]) <= 0.4).mean()),
    "1 - confidence of the network": lambda w: 1 - float(w["unfiltered"].max(axis=1).mean()),
    "the same, at its temperature": lambda w: float(w["expected unfiltered"].mean()),
    "nuclear norm, negative": lambda w: -nuclear_norm(w["unfiltered"]),
    "mutual information, negative": lambda w: float(entropies(w["unfiltered"]).mean()) - marginal(w),
    "concentration": lambda w: concentration(w["filtered"]),
    "answers changed by the filter": lambda w: differ(w["unfiltered"], w["filtered"]),
    "distance": lambda w: float(w["distances"].mean()),
    "distance of the first norm": lambda w: float(w["distances"][:, 0].mean()),
    "disagreement": lambda w: of_frozen(w, lambda f: differ(f["filtered"], f["frozen"])),
    "contradiction": lambda w: of_frozen(w, contradiction),
    "entropy of the frozen network": lambda w: of_frozen(w, lambda f: float(entropies(f["frozen"]).mean())),
}
"""All so that more means worse."""


def at_temperature(stream: Arrays, temperature: float) -> dict[str, NDArray[Any]]:
    """The stream and, for each frame, how probable it is that its answer is wrong, and the filter's evidence."""
    answers, rows = stream["filtered"].argmax(axis=1), np.arange(len(stream["labels"]))
    classes = stream["filtered"].shape[1]
    beliefs, usual = AnswerFilter(classes, temperatures=(temperature,)), AnswerFilter(classes)
    expected, evidence = [], []
    for frame in stream["unfiltered"]:
        expected.append(beliefs(frame[None])[0])
        usual(frame[None])
        evidence.append(float(usual.evidence.max()))
    heated = np.maximum(stream["unfiltered"].astype(np.float64), 1e-30) ** (1 / temperature)
    return {
        **stream,
        "expected": 1 - np.array(expected)[rows, answers],
        "expected unfiltered": 1 - heated.max(axis=1) / heated.sum(axis=1),
        "evidence": np.array(evidence),
    }


def windows(stream: Arrays, size: int) -> Iterator[dict[str, NDArray[Any]]]:
    for start in range(0, len(stream["labels"]) - size + 1, size // 2):
        yield {name: array[start : start + size] for name, array in stream.items()}


def error_of(window: Arrays) -> float:
    valid = window["labels"] >= 0
    return float((window["filtered"].argmax(axis=1) != window["labels"])[valid].mean())


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """From 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[inverse], np.float64)


def spearman(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Rank correlation; 0 where one of the two never changes."""
    a, b = (ranks(values) - ranks(values).mean() for values in (one, other))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def ranking(streams: Mapping[str, Arrays], size: int) -> list[dict[str, Any]]:
    """A row a sign."""
    cut = {name: list(windows(stream, size)) for name, stream in streams.items()}
    errors = {name: np.array([error_of(window) for window in found]) for name, found in cut.items()}
    by_seed = [[name for name in cut if seed_of(name) == seed] for seed in sorted({*map(seed_of, cut)})]
    rows = []
    for sign, value in SIGNS.items():
        values = {name: np.array([value(window) for window in found]) for name, found in cut.items()}
        within = [spearman(values[name], errors[name]) for name in cut]
        everywhere = [
            spearman(*(np.concatenate([of[name] for name in names]) for of in (values, errors))) for names in by_seed
        ]
        rows.append(
            {
                "sign": sign,
                "all": round(float(np.mean(everywhere)), 3),
                "deviation": round(float(np.std(everywhere, ddof=1)), 3) if len(everywhere) > 1 else None,
                "median within": round(float(np.median(within)), 3),
            }
        )
    return rows


def seed_of(name: str) -> str:
    return name.partition("-seed-")[2]


def expectation(streams: Mapping[str, Arrays], size: int) -> list[dict[str, Any]]:
    """How near the expected error comes, a row a protocol and one for all."""
    by_protocol: dict[str, list[Any]] = defaultdict(list)
    for name, stream in streams.items():
        for window in windows(stream, size):
            found = (float(window["expected"].mean()), error_of(window), seed_of(name))
            by_protocol[name.split("-seed-")[0]].append(found)
            by_protocol["all"].append(found)
    rows = []
    for protocol, found in by_protocol.items():
        expected, error = np.array([each[:2] for each in found]).T
        off, seeds = expected - error, np.array([seed for *_, seed in found])
        by_seed = [off[seeds == seed].mean() for seed in np.unique(seeds)]
        rows.append(
            {
                "protocol": protocol,
                "windows": len(found),
                "error": round(float(error.mean()), 4),
                "bias": round(float(off.mean()), 4),
                "deviation of the bias": round(float(np.std(by_seed, ddof=1)), 4) if len(by_seed) > 1 else None,
                "mean absolute difference": round(float(np.abs(off).mean()), 4),
                "of the best constant": round(float(np.abs(error - np.median(error)).mean()), 4),
                "by chance": round(float(np.sqrt(error * (1 - error) / size * 2 / np.pi).mean()), 4),
                "rank correlation": round(spearman(expected, error), 3),
            }
        )
    return rows


def recordings(folder: Path) -> dict[str, Arrays]:
    return {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}


def split(streams: Mapping[str, Arrays]) -> dict[str, dict[str, Arrays]]:
    """By the images they show; of training images under other corruptions, without that part of their names."""
    found: dict[str, dict[str, Arrays]] = {"training": {}, "others": {}, "test": {}}
    for name, stream in streams.items():
        kind = next((kind for kind in ("training", "others") if name.startswith(f"{kind}-")), "test")
        found[kind][name.removeprefix(f"{kind}-")] = stream
    return found


def evaluated(folder: Path) -> dict[str, Any]:
    """All of it for one network, from its recordings."""
    found, keys = split(recordings(folder)), split(recordings(folder / "keys"))
    training, streams = found["training"].values(), found["test"]
    temperature = fitted_temperature(
        *(np.concatenate([s[part] for s in training]) for part in ("unfiltered", "labels"))
    )
    best = fitted_temperature(
        *(np.concatenate([s[part][s["labels"] >= 0] for s in streams.values()]) for part in ("unfiltered", "labels"))
    )
    varied = {name: at_temperature(s, temperature) for name, s in streams.items() if seed_of(name)}
    return {
        "network": folder.name,
        "streams": [*streams],
        "frames": sum(len(stream["labels"]) for stream in streams.values()),
        "temperature": round(temperature, 3),
        "temperature of the test images": round(best, 3),
        "ranking": {str(size): ranking(varied, size) for size in WINDOWS},
        "expected error": {str(size): expectation(varied, size) for size in WINDOWS},
        "alarms": [
            {"images": images, **row}
            for images in ("others", "test")
            for t in (temperature, None)
            for row in doubt_alarms(found[images], t, LIMITS)
        ],
        "drift": [
            {"images": images, **row}
            for images in ("others", "test")
            for row in drift_alarms(found[images], keys[images])
        ],
    }


def record_all(args: argparse.Namespace) -> None:
    images = find_image_set(args.data, args.cache)
    for stream in streams_of(images, args.cache, args.streams, args.seeds):
        for bundle in args.bundles:
            path = args.recordings / bundle.stem / f"{stream.name}.npz"
            if not path.exists():
                record(bundle, stream, path)
                print(path, flush=True)


def record_keys(args: argparse.Namespace) -> None:
    images = find_image_set(args.data, args.cache)
    for stream in steady_streams(images, args.cache):
        paths = {bundle: args.recordings / bundle.stem / "keys" / f"{stream.name}.npz" for bundle in args.bundles}
        missing = {bundle: path for bundle, path in paths.items() if not path.exists()}
        if missing:
            plan = stream.plan()
            frames = frames_of(plan, stream.images)
        for bundle, path in missing.items():
            write_recording(path, played_keys(bundle, frames, plan))
            print(path, flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, default=Path("build") / "signs")
    parts = parser.add_subparsers(dest="what", required=True)
    recording = parts.add_parser("record")
    recording.add_argument("bundles", type=Path, nargs="+")
    recording.add_argument("--data", required=True, help="the binary version of CIFAR-10")
    recording.add_argument("--cache", type=Path, help="for corrupted images")
    recording.add_argument("--streams", nargs="*", choices=PROTOCOLS, default=list(PROTOCOLS))
    recording.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    evaluating = parts.add_parser("evaluate")
    evaluating.add_argument("networks", nargs="*", help="by their folders; the others' results stay as they are")
    evaluating.add_argument("--out", type=Path, default=HERE / "results" / "signs.json")
    args = parser.parse_args(argv)
    if args.what == "record":
        record_keys(args)
        record_all(args)
        return 0
    kept = json.loads(args.out.read_text())["networks"] if args.networks and args.out.exists() else []
    found = {network["network"]: network for network in kept}
    for folder in sorted(args.recordings.iterdir()):
        if folder.is_dir() and (not args.networks or folder.name in args.networks):
            found[folder.name] = evaluated(folder)
    content = {
        "measured": "signs",
        "environment": vars(read_environment(1)),
        "frames a corruption": FRAMES,
        "frames a second": FRAMES_PER_S,
        "networks": [found[name] for name in sorted(found)],
    }
    write_atomic(args.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EcottaError as error:
        sys.exit(f"measure_signs: {error}")
