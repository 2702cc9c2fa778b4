"""How well do signs without labels say how often a network is wrong, and how often does the doubt rule cry wolf?

    python benchmarks/measure_signs.py record wrn-40-2.ecotta resnet-56.ecotta --data cifar-10-batches-bin
    python benchmarks/measure_signs.py evaluate          writes benchmarks/results/signs.json

`record` plays streams frame by frame, and keeps in --recordings what signs are made of (see play_signs.py); what is
there is not played again. 15 corruptions, 100 frames each, statistics following. Test images for what is measured; for
each network a stream of training images, 60 a corruption, to which a temperature is fitted. Nothing is fitted to a test
image.

`evaluate` cuts each stream into windows of 100 and of 200 frames, half over each other. For each sign: Spearman's rank
correlation with the error of the filtered answer over the windows of all streams of a network, and within each stream,
of which the median is given. For the expected error also the mean absolute difference from the error, beside that of
the best constant, and what chance alone does to a window: sqrt(e (1 - e) / n) sqrt(2 / pi).

Then `StreamSigns` and `Doubts` are run over each stream at 5 frames a second as the daemon has them, but for the frozen
network, which was asked for each fourth frame. A doubt that begins is a false alarm where less than 0.8 times its limit
of the last 200 answers were wrong. Beside that: how much of the time in which more than 1.2 times the limit were wrong
was in doubt. Frames that are garbage have no error, and are in the signs.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.adapt.signs import SignsRecipe, StreamSigns, entropies
from ecotta_rt.adapt.temperature import fitted_temperature
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.daemon.doubts import DoubtLimits, Doubts
from ecotta_rt.data.image_sets import find_image_set
from ecotta_rt.errors import EcottaError
from ecotta_rt.events import DoubtBegan, Signs
from ecotta_rt.files.atomic import write_atomic
from play_signs import TrainingImages, plan_of, record

HERE = Path(__file__).parent
PROTOCOLS = ("continual", "practical", "sorted", "one-class", "garbage", "sudden", "gradual")
FITTED = ("continual",)
TRAINING_SEED = 7
FRAMES, TRAINING_FRAMES, FRAMES_PER_S = 100, 60, 5.0
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
    rows = []
    for sign, value in SIGNS.items():
        values = {name: np.array([value(window) for window in found]) for name, found in cut.items()}
        within = [spearman(values[name], errors[name]) for name in cut]
        everywhere = spearman(np.concatenate([*values.values()]), np.concatenate([*errors.values()]))
        rows.append({"sign": sign, "all": round(everywhere, 3), "median within": round(float(np.median(within)), 3)})
    return rows


def expectation(streams: Mapping[str, Arrays], size: int) -> list[dict[str, Any]]:
    """How near the expected error comes, a row a protocol and one for all."""
    by_protocol: dict[str, list[Any]] = defaultdict(list)
    for name, stream in streams.items():
        for window in windows(stream, size):
            pair = (float(window["expected"].mean()), error_of(window))
            by_protocol[name.split("-seed-")[0]].append(pair)
            by_protocol["all"].append(pair)
    rows = []
    for protocol, pairs in by_protocol.items():
        expected, error = np.array(pairs).T
        rows.append(
            {
                "protocol": protocol,
                "windows": len(pairs),
                "error": round(float(error.mean()), 4),
                "bias": round(float((expected - error).mean()), 4),
                "mean absolute difference": round(float(np.abs(expected - error).mean()), 4),
                "of the best constant": round(float(np.abs(error - np.median(error)).mean()), 4),
                "by chance": round(float(np.sqrt(error * (1 - error) / size * 2 / np.pi).mean()), 4),
                "rank correlation": round(spearman(expected, error), 3),
            }
        )
    return rows


def told(stream: Arrays, temperature: float | None) -> list[tuple[Signs, int]]:
    """The signs after each frame, and how many frames the frozen network had answered."""
    signs, found = StreamSigns(SignsRecipe(stream["filtered"].shape[1], temperature=temperature)), []
    for place, filtered in enumerate(stream["filtered"]):
        signs.take(stream["unfiltered"][place][None], filtered[None])
        if np.isfinite(stream["frozen"][place, 0]):
            signs.compare(filtered, stream["frozen"][place])
        found.append((signs.told(place), signs.compared))
    return found


def recent_errors(stream: Arrays) -> NDArray[np.float64]:
    """Of the last 200 answers, or as many as there are; 0 where all are garbage."""
    valid = stream["labels"] >= 0
    wrong = valid & (stream["filtered"].argmax(axis=1) != stream["labels"])
    wrongs, valids = (np.cumsum(np.concatenate([np.zeros(200), flags])) for flags in (wrong, valid))
    return np.asarray((wrongs[200:] - wrongs[:-200]) / np.maximum(valids[200:] - valids[:-200], 1), np.float64)


def alarms(streams: Mapping[str, Arrays], temperature: float | None, limits: Sequence[float]) -> list[dict[str, Any]]:
    """What the doubt rule does, a row a limit of the expected error."""
    signs = {name: told(stream, temperature) for name, stream in streams.items()}
    errors = {name: recent_errors(stream) for name, stream in streams.items()}
    return [
        {"limit": limit, "calibrated": temperature is not None, **at_limit(signs, errors, limit)} for limit in limits
    ]


def at_limit(
    signs: Mapping[str, list[tuple[Signs, int]]], errors: Mapping[str, NDArray[np.float64]], limit: float
) -> dict[str, Any]:
    """What the doubt rule does at one limit."""
    false = right = doubted = bad = frames = 0
    collapses: list[str] = []
    for name, found in signs.items():
        doubts = Doubts(DoubtLimits(most_error=limit))
        for place, ((each, compared), error) in enumerate(zip(found, errors[name], strict=True)):
            for event in doubts.judge(each, compared, place / FRAMES_PER_S):
                if isinstance(event, DoubtBegan):
                    false, right = false + (error < 0.8 * limit), right + (error >= 0.8 * limit)
            collapses += [name] if doubts.collapsed and name not in collapses else []
            is_bad = error > 1.2 * limit and place >= 99
            bad, doubted = bad + is_bad, doubted + (is_bad and doubts.since_s is not None)
        frames += len(found)
    hours = frames / FRAMES_PER_S / 3600
    return {
        "hours": round(hours, 2),
        "false alarms": int(false),
        "false alarms an hour": round(float(false / hours), 2),
        "right alarms": int(right),
        "bad time doubted": round(float(doubted / bad), 3) if bad else None,
        "bad time": round(float(bad / frames), 3),
        "streams taken for collapsed": collapses,
    }


def changes_of(streams: Mapping[str, Arrays]) -> dict[str, Any]:
    """How many changes of corruption the memory of places notices, after how many frames, and how many are none."""
    delays, missed, others, frames = [], 0, 0, 0
    for stream in streams.values():
        noticed = np.flatnonzero(np.diff(stream["changes"], prepend=0))
        starts = np.flatnonzero(np.diff(stream["places"], prepend=-1))[1:]
        ends = [*starts[1:], len(stream["changes"])]
        firsts = [noticed[(noticed >= a) & (noticed < b)] for a, b in zip(starts, ends, strict=True)]
        delays += [int(found[0] - start) for found, start in zip(firsts, starts, strict=True) if len(found)]
        missed += sum(not len(found) for found in firsts)
        others += len(noticed) - sum(bool(len(found)) for found in firsts)
        frames += len(stream["changes"])
    return {
        "changes": len(delays) + missed,
        "noticed": len(delays),
        "median frames until then": float(np.median(delays)) if delays else None,
        "others an hour": round(others / (frames / FRAMES_PER_S / 3600), 1),
    }


def evaluated(folder: Path) -> dict[str, Any]:
    """All of it for one network, from its recordings."""
    found = {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}
    training = [stream for name, stream in found.items() if name.startswith("training-")]
    streams = {name: stream for name, stream in found.items() if not name.startswith("training-")}
    temperature = fitted_temperature(
        *(np.concatenate([s[part] for s in training]) for part in ("unfiltered", "labels"))
    )
    best = fitted_temperature(
        *(np.concatenate([s[part][s["labels"] >= 0] for s in streams.values()]) for part in ("unfiltered", "labels"))
    )
    streams = {name: at_temperature(stream, temperature) for name, stream in streams.items()}
    return {
        "network": folder.name,
        "streams": [*streams],
        "frames": sum(len(stream["labels"]) for stream in streams.values()),
        "temperature": round(temperature, 3),
        "temperature of the test images": round(best, 3),
        "ranking": {str(size): ranking(streams, size) for size in WINDOWS},
        "expected error": {str(size): expectation(streams, size) for size in WINDOWS},
        "alarms": [row for t in (temperature, None) for row in alarms(streams, t, LIMITS)],
        "changes": changes_of({n: s for n, s in streams.items() if not n.startswith(("gradual", "garbage"))}),
    }


def record_all(args: argparse.Namespace) -> None:
    images = find_image_set(args.data, args.cache)
    training = TrainingImages(images, args.cache)
    wanted = [("training-" + name, training, name, TRAINING_SEED) for name in FITTED]
    wanted += [(f"{name}-seed-{seed}", images, name, seed) for seed in args.seeds for name in args.streams]
    for name, shown, protocol, seed in wanted:
        for bundle in args.bundles:
            path = args.recordings / bundle.stem / f"{name}.npz"
            if not path.exists():
                frames = TRAINING_FRAMES if shown is training else FRAMES
                record(bundle, shown, plan_of(shown, protocol, seed, frames), path)
                print(path, flush=True)
        print(name, "is there", flush=True)


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
    evaluating.add_argument("--out", type=Path, default=HERE / "results" / "signs.json")
    args = parser.parse_args(argv)
    if args.what == "record":
        record_all(args)
        return 0
    networks = [evaluated(folder) for folder in sorted(args.recordings.iterdir()) if folder.is_dir()]
    content = {
        "measured": "signs",
        "environment": vars(read_environment(1)),
        "frames a corruption": FRAMES,
        "networks": networks,
    }
    write_atomic(args.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EcottaError as error:
        sys.exit(f"measure_signs: {error}")
