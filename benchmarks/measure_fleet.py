"""Does merging help? Boards adapt, each to another corruption of CIFAR-10; what they have learned is merged and tried.

    python benchmarks/measure_fleet.py domains net.ecotta --data $ECOTTA_DATA/cifar-10-batches-bin --work boards
    python benchmarks/measure_fleet.py rules   net.ecotta --data $ECOTTA_DATA/cifar-10-batches-bin --work boards
    python benchmarks/measure_fleet.py kinds   net.ecotta --data $ECOTTA_DATA/cifar-10-batches-bin --work boards
    python benchmarks/measure_fleet.py hostile net.ecotta --data $ECOTTA_DATA/cifar-10-batches-bin --work boards
    python benchmarks/measure_fleet.py shares  net.ecotta --data $ECOTTA_DATA/cifar-10-batches-bin --work boards
    python benchmarks/measure_fleet.py choose-share net.ecotta --data $ECOTTA_DATA/cifar-10-batches-bin --work boards
    python benchmarks/measure_fleet.py movement net.ecotta --data $ECOTTA_DATA/cifar-10-batches-bin --work boards
    python benchmarks/measure_fleet.py speed   net.ecotta --work boards

domains   five boards in five places: each board's own state everywhere, merged ones, joint adaptation (one board that
          saw all streams in turn), the bundle's own state; held, and as the start of a board that goes on adapting
rules     the same boards merged by other rules; rows beside those of `domains`
kinds     eight boards in two kinds of place: does `--clusters` find them, and is a state for each kind better
shares    the same boards merged and drawn towards the source, by more images, each answer beside the source's
choose-share
          six boards in corruptions that are not among those of the test, on images that are none of the test's, with
          seeds of its own (100 to 102): by how much to draw towards the source
choose-rule
          as movement, with the six boards of choose-share and one or two hostile ones
movement  how far two hostile states of twenty move what each robust rule makes, in standard deviations; no pictures
hostile   twenty boards, two of them hostile: what a robust merge leaves out, and what is left of the attack
speed     seconds of the processor and the peak of memory of a fresh process that merges 1,000 states

Frame by frame through `ecotta_rt.Runtime` with the bundle's options; `--ways learn` moves the parameters, too. Test
images, severity 5; what a state is tried on no board has seen. Rows go one by one to
benchmarks/results/fleet-STAGE.json (see --out), and what is there is not measured again. `domains` takes some ten
minutes of a core for each seed and way of a WRN-40-2.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import fleet_choosing
import fleet_hostile
import fleet_movement
import fleet_speed
from ecotta_rt import AdaptState
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.robust import distances
from ecotta_rt.fleet.sources import StateFile
from fleet_merging import add_held, drawn, merged, state_for, without_spread
from fleet_rows import Rows
from fleet_trial import CLEAN, DOMAINS, KINDS, WAYS, Board, Sizes, Trial

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
FIVE = tuple(Board(name, name) for name in DOMAINS)
MEASURES = ("held", "start")
FIRST = 100
"""Frames of a start that are looked at alone."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=(*STAGES, "speed"))
    parser.add_argument("bundle", type=Path, help="of the network that all boards have")
    parser.add_argument("--data", type=Path, help="the binary version of CIFAR-10; all stages but speed need it")
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and states; it may be kept")
    parser.add_argument("--seeds", type=int, nargs="*", help="(0 1 2; of choose-share and choose-rule 100 101 102)")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=["follow"], help="follow (default), learn")
    parser.add_argument("--stream", type=int, default=300, help="frames a board adapts to (300)")
    parser.add_argument("--held", type=int, default=100, help="test images a domain, for states that are held (100)")
    parser.add_argument("--start", type=int, default=300, help="frames of a board that starts at a state (300)")
    parser.add_argument("--measures", nargs="*", choices=MEASURES, default=MEASURES, help="of domains (both)")
    parser.add_argument("--out", type=Path, help="the file of rows (benchmarks/results/fleet-STAGE.json)")
    args = parser.parse_args(argv)
    if args.data is None and args.stage != "speed":
        parser.error(f"{args.stage} needs --data, a folder with the binary version of CIFAR-10")
    kind = "domains" if args.stage == "rules" else args.stage
    rows = Rows(args.out or RESULTS / f"fleet-{kind}.json", kind, args)
    if args.stage == "speed":
        fleet_speed.measure(args.bundle, args.work, rows.add)
        return 0
    sizes, choosing = Sizes(args.stream, args.held, args.start), args.stage.startswith("choose")
    for way in args.ways:
        for seed in args.seeds or (fleet_choosing.SEEDS if choosing else (0, 1, 2)):
            STAGES[args.stage](Trial(args.bundle, args.data, args.work, way, seed, sizes, choosing), rows)
    return 0


def in_domains(trial: Trial, rows: Rows) -> None:
    """Five boards in five domains, each state everywhere."""
    own = {board.domain: trial.board_state(board) for board in FIVE}
    pooled = merged(trial, FIVE)
    source, mean, joint = trial.source, pooled.groups[0].state, trial.joint_state(FIVE)
    states = {"source": source, "mean": mean, "joint": joint, **{f"own {name}": own[name] for name in DOMAINS}}
    if trial.way == "learn":
        states["parameters only"] = replace(source, parameters=mean.parameters)
        states["statistics only"] = replace(source, statistics=mean.statistics)
    # A board in another place is what a merged state has to be better than to start from.
    starts = {name: dict.fromkeys(DOMAINS, states[name]) for name in ("source", "mean")}
    starts["another board"] = {name: own[DOMAINS[place - 1]] for place, name in enumerate(DOMAINS)}
    for name, state in states.items():
        add_held(trial, rows, name, dict.fromkeys((*DOMAINS, CLEAN), state))
    for name, by_domain in starts.items():
        add_start(trial, rows, name, by_domain)


def by_other_rules(trial: Trial, rows: Rows) -> None:
    """Other ways to merge the same boards."""
    mean = merged(trial, FIVE).groups[0].state
    for name, state in others(trial, trial.source, mean):
        add_held(trial, rows, name, dict.fromkeys((*DOMAINS, CLEAN), state))
    parted = merged(trial, FIVE, clusters=True)
    if len(parted.groups) > 1:
        add_held(trial, rows, "clusters", {name: state_for(parted, trial, name) for name in DOMAINS})


def with_shares_of_the_source(trial: Trial, rows: Rows) -> None:
    """The merged state with other shares of the source."""
    fleet_choosing.add_shares(trial, rows, FIVE)


def others(trial: Trial, source: AdaptState, mean: AdaptState) -> Iterator[tuple[str, AdaptState]]:
    """Their names and what they make."""
    yield "mean, halfway to source", drawn(mean, source, 0.5)
    for rule in ("median", "trimmed-mean"):
        yield rule, merged(trial, FIVE, rule=rule).groups[0].state
    yield "mean, no spread between boards", without_spread(trial, mean, FIVE)


def in_kinds(trial: Trial, rows: Rows) -> None:
    """Boards in two kinds of place: merged by found kinds, by true kinds, all together; and how states lie."""
    boards = tuple(board for kind in KINDS.values() for board in kind)
    kind_of = {board.name: kind for kind, its in KINDS.items() for board in its}
    parted = merged(trial, boards, clusters=True)
    silhouette = 0.0 if parted.clusters is None else parted.clusters.silhouette
    found = [sorted(Path(name).name.split(".")[0] for name in group.members) for group in parted.groups]
    pure = all(len({kind_of[name] for name in members}) == 1 for members in found)

    def described() -> Mapping[str, Any]:
        about = {"silhouette": round(silhouette, 3), "groups": found, "pure": pure}
        return {**about, **how_states_lie(trial, boards)}

    rows.add({"way": trial.way, "seed": trial.seed, "clustered": True}, described)
    all_together = merged(trial, boards).groups[0].state
    domains = tuple(dict.fromkeys(board.domain for board in boards))
    add_held(trial, rows, "source", dict.fromkeys(domains, trial.source))
    add_held(trial, rows, "mean of all", dict.fromkeys(domains, all_together))
    of_kinds = {kind: merged(trial, its).groups[0].state for kind, its in KINDS.items()}
    add_held(trial, rows, "mean of its kind", {name: of_kinds[kind_of[name]] for name in domains})
    if len(found) > 1 and not (pure and len(found) == len(KINDS)):
        add_held(trial, rows, "mean of its cluster", {name: state_for(parted, trial, name) for name in domains})


def how_states_lie(trial: Trial, boards: tuple[Board, ...]) -> Mapping[str, Any]:
    """How far honest states are from their median, by what `--robust` measures."""
    reader = FlatStates()
    far = distances([reader.read(StateFile(trial.path(board.name))) for board in boards])
    found = {
        name: {
            "median": round(float(np.median(values)), 4),
            "largest": round(float(values.max()), 4),
            "limit": round(limit, 4),
        }
        for name, values, limit in zip(
            ("parameters", "statistics"), (far.parameters, far.statistics), far.limits, strict=True
        )
    }
    return {"distances": found}


def add_start(trial: Trial, rows: Rows, name: str, by_domain: Mapping[str, AdaptState]) -> None:
    """A row of a state that boards start from: errors over the first frames and over all."""

    def measured() -> Mapping[str, Any]:
        wrong = {domain: 100 * trial.start_wrong(state, domain) for domain, state in by_domain.items()}
        spans = {"first_percent": FIRST, "errors_percent": trial.sizes.start}
        return {
            span: {domain: round(float(each[:frames].mean()), 2) for domain, each in wrong.items()}
            for span, frames in spans.items()
        }

    rows.add({"way": trial.way, "seed": trial.seed, "measure": "start", "state": name}, measured)


STAGES: Mapping[str, Callable[[Trial, Rows], None]] = {
    "domains": in_domains,
    "rules": by_other_rules,
    "shares": with_shares_of_the_source,
    "kinds": in_kinds,
    "hostile": fleet_hostile.measure,
    "choose-share": fleet_choosing.choose_share,
    "choose-rule": fleet_movement.choose_rule,
    "movement": fleet_movement.measure,
}

if __name__ == "__main__":
    sys.exit(main())
