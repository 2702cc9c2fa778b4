"""Make a network collapse on purpose, and see whether the daemon's rules find it and whether going back helps.

    python benchmarks/measure_collapses.py resnet-56.ecotta --data cifar-10-batches-bin

A stream of corrupted test images, another corruption every 300 frames. The first 400 frames are left in peace; then one
thing goes wrong, of

    rate       it learns by gradients, with steps 64 times as long as the bundle's
    lock       the filter's trust has no cap and is learned at once; classes come in runs of 30 frames
    broken     the statistics of one norm are no numbers
    noise      frames of nothing but noise
    one-class  nothing goes wrong: one class for 900 frames
    runs       nothing goes wrong: classes come in runs of 30 frames

and `StreamWatch` looks on: a frame in 10 is shown to the frozen network, where the daemon shows it one in 50, so that a
collapse is found after a fifth of the frames that the daemon needs. Where it is found what went wrong is put right, the
last good state is put back (the newest that was taken 40 looks before or earlier, without doubt; the source, where it
collapses again), and 300 more frames follow. If it is not, the stream ends after 900 frames, after 4,000 of `lock`.
Severity 5. Errors are of the filtered answer; after a return, without its first 100 frames.

Each row is written to benchmarks/results/collapses.json when it is there, and not measured again.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.daemon.stream_watch import StreamWatch, WatchTimes
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.data.image_sets import ImageSet, find_image_set
from ecotta_rt.errors import EcottaError
from ecotta_rt.events import DoubtBegan
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.runtime.frozen_look import FrozenLook
from ecotta_rt.state import AdaptState
from play_signs import far_too_fast

RESULTS = Path(__file__).parent / "results" / "collapses.json"
KINDS = ("rate", "lock", "broken", "noise", "one-class", "runs")
PEACE, TROUBLE, AFTER, STAY = 400, 900, 300, 300
LONGER = {"lock": 4000}
LOOK_EVERY, FRAMES_PER_S, FACTOR = 10, 5.0, 64.0
LAG = 40 * LOOK_EVERY
CLASS_RUN = 30


class Played:
    """One stream: what is shown, what goes wrong, and what was said.

    Args:
        bundle: Of the network.
        images: Whose test images are shown.
        kind: One of `KINDS`.
        seed: Of all that is drawn.
    """

    def __init__(self, bundle: Path, images: ImageSet, kind: str, seed: int) -> None:
        self._images, self._kind, self._random = images, kind, np.random.default_rng((seed, KINDS.index(kind)))
        self._end = PEACE + LONGER.get(kind, TROUBLE)
        self._corruptions = np.random.default_rng(seed).permutation(CORRUPTIONS)
        self._runtime = Runtime.load(bundle, threads=1, adapt=kind == "rate")
        self._clock = ManualClock()
        look = FrozenLook(self._runtime, LOOK_EVERY)
        times = WatchTimes(judge_every_s=1.0)
        recipe, adaptation = self._runtime.signs_recipe, self._runtime.adaptation
        self._watch = StreamWatch(recipe, adaptation, look, self._clock, times)
        self._states: list[tuple[int, AdaptState]] = []
        self.wrong: list[bool | None] = []
        self.doubts: list[int] = []
        self.found: int | None = None
        self.why = ""
        self.returns = 0

    def play(self) -> None:
        place = 0
        while place < (self._end if self.found is None else self.found + AFTER):
            wrongs = place >= PEACE and self.found is None
            if place == PEACE:
                self._go_wrong()
            for frame, label in self._shown(place, wrongs):
                self._take(place, frame, label, wrongs)
                place += 1
                if place > PEACE and self._watch.collapsed is not None:
                    self._return(place)
                    break

    def _shown(self, place: int, wrongs: bool) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """The frames of a run, up to the end of a corruption's stay."""
        count = min(CLASS_RUN, STAY - place % STAY, PEACE - place if place < PEACE else STAY)
        corruption = str(self._corruptions[place // STAY % len(CORRUPTIONS)])
        labels = self._images.labels
        of_one = self._kind == "one-class" and wrongs
        one = int(self._random.integers(labels.max() + 1)) if not of_one else int(labels[0])
        in_runs = of_one or self._kind in ("lock", "runs")
        chosen = self._random.choice(np.flatnonzero(labels == one) if in_runs else len(labels), count, replace=False)
        frames, shown = self._images.read(corruption, 5, chosen.astype(np.int64), 0)
        if self._kind == "noise" and wrongs:
            frames, shown = self._random.integers(0, 256, frames.shape, np.uint8), np.full(count, -1)
        yield from zip(frames, shown.tolist(), strict=True)

    def _take(self, place: int, frame: NDArray[np.uint8], label: int, wrongs: bool) -> None:
        learns = self._kind == "rate" and wrongs
        prediction = far_too_fast(self._runtime, frame, FACTOR) if learns else self._runtime.predict(frame[None])
        self.wrong.append(None if label < 0 else bool(prediction.filtered[0].argmax() != label))
        self._clock.advance_s(1 / FRAMES_PER_S)
        events = self._watch.take(frame[None], prediction, place, 1)
        self.doubts += [place for event in events if isinstance(event, DoubtBegan)]
        if place % 50 == 49 and not self._watch.in_doubt:
            self._states.append((place, self._runtime.state))

    def _go_wrong(self) -> None:
        if self._kind == "lock":
            self._set_trust(0.9999, 0.9)
        if self._kind == "broken" and self._runtime.adaptation.statistics is not None:
            self._runtime.adaptation.statistics[:8] = np.nan

    def _set_trust(self, most: float, rate: float) -> None:
        answers = self._runtime.adaptation._filter
        answers._most_trust, answers._rate = most, rate

    def _return(self, place: int) -> None:
        again = self.found is not None
        self.returns += 1
        if not again:
            self.found, self.why = place, self._watch.collapsed or ""
        good = [] if again else [state for taken, state in self._states if taken <= place - LAG]
        self._runtime.restore(good[-1]) if good else self._runtime.reset()
        self._set_trust(self._runtime.options.most_trust, self._runtime.options.filter_rate)
        self._watch.begin_anew()

    def row(self) -> dict[str, Any]:
        end = self._end if self.found is None else self.found
        spans = {"before": (100, PEACE), "last 100 in trouble": (end - 100, end), "after": (end + 100, end + AFTER)}
        return {
            "kind": self._kind,
            "found_after_frames": None if self.found is None else self.found - PEACE,
            "found_after_looks": None if self.found is None else (self.found - PEACE) // LOOK_EVERY,
            "why": self.why,
            "returns": self.returns,
            "doubts": self.doubts,
            "error_percent": {name: self._error(*span) for name, span in spans.items()},
            "error_in_trouble_percent": self._error(PEACE, end),
        }

    def _error(self, start: int, stop: int) -> float | None:
        known = [wrong for wrong in self.wrong[start:stop] if wrong is not None]
        return round(100 * float(np.mean(known)), 1) if known else None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", required=True, help="the binary version of CIFAR-10")
    parser.add_argument("--cache", type=Path, help="for corrupted images")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    images = find_image_set(args.data, args.cache)
    rows = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    for seed in args.seeds:
        for kind in args.kinds:
            for bundle in args.bundles:
                about = {"network": bundle.stem, "bundle": sha256_of(bundle)[:16], "seed": seed, "kind": kind}
                if any(about.items() <= row.items() for row in rows):
                    continue
                played = Played(bundle, images, kind, seed)
                played.play()
                rows.append(about | played.row())
                print(rows[-1], flush=True)
                content = {
                    "measured": "collapses",
                    "environment": vars(read_environment(1)),
                    "images": images.name,
                    "rows": rows,
                }
                write_atomic(args.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EcottaError as error:
        sys.exit(f"measure_collapses: {error}")
