"""Measure a bank of widths: against the same widths trained alone, its ranking without labels, its picks.

    python benchmarks/measure_slim.py tune               choose the settings of banks and of widths alone, with seed 100
    python benchmarks/measure_slim.py ablate --seed 0    banks with another ensemble, or none: nothing is chosen by it
    python benchmarks/measure_slim.py train --seed 0     the bank, each width alone, and source only
    python benchmarks/measure_slim.py rank --seed 0      UPEM and true accuracy of 20 random sub-networks of the bank
    python benchmarks/measure_slim.py boards --seed 0    picks for five boards, each tried in a memory control group
    python benchmarks/measure_slim.py predict --seed 0   what random widths need in memory, beside what is predicted

MNIST to USPS at 16 x 16 with benchmarks/small_networks.py:wrn_10_1. Everything has the same number of epochs, batch and
data; errors are those of the last epoch on USPS's test digits, with norms recalibrated on the same unlabelled training
digits. `tune` tries the same number of settings for both, in shorter runs, and goes by the error on 4,000 training
digits of MNIST that nothing learns from: no label of USPS and no test digit takes part.

Rows go one by one to benchmarks/results/student-slim.json, so it can be interrupted; training goes on after its last
whole epoch. Seconds are of the processor, not of a clock: other work may run beside it.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecotta_rt.bench.memory_cage import MemoryCage
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.machine.device import load_device
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.plan.budget import Wish
from ecotta_rt.student.evaluate import as_floats, error_percent
from ecotta_rt.student.similarity.ranks import spearman
from ecotta_rt.student.slimda.bank import Bank, chosen_frames, save_bank
from ecotta_rt.student.slimda.device_cost import Bundles, Measured, fitted
from ecotta_rt.student.slimda.picking import SEARCH_FRAMES
from ecotta_rt.student.slimda.search import narrowed_at_random, one_ratio
from ecotta_rt.student.slimda.upem import Upem
from ecotta_rt.student.slimmable.recalibrate import recalibrate
from ecotta_rt.student.slimmable.widths import at_ratio, operations
from slim_trial import (
    FRAME,
    LEAST,
    SHARES,
    TUNING_EPOCHS,
    Setting,
    Trial,
    cost_of,
    hints,
    rows_of,
    write_row,
)

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "student-slim.json"
TUNING_SEED, TUNED_SHARES = 100, (1.0, 1 / 8)
SUB_NETWORKS = 20
BOARDS = ("raspberry-pi-zero-2w", "raspberry-pi-3a-plus", "raspberry-pi-3b-plus", "raspberry-pi-4-2gb", "pixel")
NETWORK, PARTS = "small_networks.py:wrn_10_1", 3
EVEN_SHARES, UNEVEN = (0.7, 0.35, 0.25, 0.125), 12
"""Of `predict`."""

STEP_BATCH = 768
"""Frames a step in `boards`: with few frames of 16 x 16 this network fits every board whole."""

CHANGES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "bank": ({}, {"lr": 0.05}),
    "alone": ({}, {"lr": 0.2}),
}
"""Tried one after the other, each from the best so far. A bank's gradients are those of four widths, so its step size
is tried smaller; that of a network alone larger.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("tune", "ablate", "train", "rank", "boards", "predict"))
    parser.add_argument("--data", type=Path, required=True, help="folder with the .npz files of the digits")
    parser.add_argument("--work", type=Path, required=True, help="where weights and snapshots are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only",
        nargs="*",
        help="of tune: bank, alone; of train: bank, alone, source; of ablate: uniform, operations, temperature, none",
    )
    parser.add_argument("--epochs", type=int, help=f"of ablate (default {TUNING_EPOCHS})")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    stages = {"tune": tune, "ablate": ablate, "train": train_all, "rank": rank, "boards": boards, "predict": predict}
    stages[args.stage](args)
    return 0


def tune(args: argparse.Namespace) -> None:
    """Try the settings, each from the best so far, by the error on held-out digits of the source."""
    trial = Trial(args.data, args.work, TUNING_SEED, TUNING_EPOCHS)
    held_out = trial.held_out()
    for kind in [each for each in CHANGES if args.only is None or each in args.only]:
        best = Setting()
        for change in CHANGES[kind]:
            setting = replace(best, **change)
            if not rows_of(args.out, "tune", kind=kind, setting=asdict(setting)):
                found = [_hints(trial, kind, share, widths, setting, held_out) for share, widths in _tuned(trial)]
                means = {name: round(statistics.mean(one[name] for one in found), 4) for name in found[0]}
                write_row(args.out, "tune", {"kind": kind, "setting": asdict(setting), **means}, ("kind", "setting"))
            best = chosen(args.out, kind)
        print(kind, "takes", best, flush=True)


def _tuned(trial: Trial) -> list[tuple[float, dict[str, int]]]:
    return list(trial.widths(TUNED_SHARES))


def _hints(trial: Trial, kind: str, share: float, widths: Any, setting: Setting, held_out: Any) -> dict[str, float]:
    bank = kind == "bank"
    trained = trial.bank(setting) if bank else trial.trained_alone(share, widths, setting)
    found = hints(trained[0], trained[1], widths if bank else trained[0].groups.whole(), trial, held_out)
    return {**found, "training_cpu_s": trained[2]}


def chosen(path: Path, kind: str) -> Setting:
    """The best that was tried; of equal ones the first."""
    rows = rows_of(path, "tune", kind=kind)
    return Setting(**min(rows, key=lambda row: row["source_error_percent"])["setting"])


def ablate(args: argparse.Namespace) -> None:
    """Test errors of banks whose ensemble is another than the chosen one's, and of banks without it."""
    trial, best = Trial(args.data, args.work, args.seed, args.epochs or TUNING_EPOCHS), chosen(args.out, "bank")
    changes = {"uniform": {"confidence": "uniform"}, "operations": {"confidence": "operations"}}
    changes |= {"temperature": {"temperature": 1.0}, "none": {"seed_weight": 0.0}}
    test = trial.test()
    for setting in [best, *(replace(best, **changes[name]) for name in args.only or changes)]:
        slimmable, _, spent_s = trial.bank(setting)
        errors = {}
        for share, widths in trial.widths():
            network = recalibrate(narrow(slimmable.groups, widths), trial.calibration)
            errors[f"{share:.4f}"] = round(error_percent(network, *test), 3)
        row = {"seed": args.seed, "epochs": trial.epochs, "setting": asdict(setting), "error_percent": errors}
        write_row(args.out, "ablate", {**row, "training_cpu_s": round(spent_s, 1)}, ("setting", "seed", "epochs"))


def train_all(args: argparse.Namespace) -> None:
    """The figures: test errors by width."""
    trial = Trial(args.data, args.work, args.seed)
    test = trial.test()

    def tell(kind: str, share: float, widths: Mapping[str, int], network: Any, spent_s: float) -> None:
        setting = chosen(args.out, "bank" if kind == "bank" else "alone")
        row = {"kind": kind, "share": share, "seed": trial.seed, "operations": cost_of(trial, widths)}
        row |= {
            "setting": asdict(setting),
            "channels": dict(widths),
            "error_percent": round(error_percent(network, *test), 3),
        }
        row["training_cpu_s"] = round(spent_s, 1)
        write_row(args.out, "widths", row, ("kind", "share", "seed", "setting"))

    for kind in args.only or ("bank", "source", "alone"):
        setting = chosen(args.out, "bank" if kind == "bank" else "alone")
        for share, widths in trial.widths():
            if kind == "bank":
                slimmable, _, spent_s = trial.bank(setting)
                tell(kind, share, widths, recalibrate(narrow(slimmable.groups, widths), trial.calibration), spent_s)
            elif kind == "alone":
                slimmable, _, spent_s = trial.trained_alone(share, widths, setting)
                tell(kind, share, widths, recalibrate(narrow(slimmable.groups, {}), trial.calibration), spent_s)
            elif share in (SHARES[0], SHARES[-1]):
                network, spent_s = trial.source_only(widths, setting)
                tell("source only", share, widths, network, spent_s)
                recalibrated = recalibrate(network, trial.calibration)
                tell("source only, norms recalibrated", share, widths, recalibrated, spent_s)


def rank(args: argparse.Namespace) -> None:
    """Spearman's correlation of UPEM and true error over random sub-networks, and what asking for both costs.

    They are drawn as the search draws them, over all that the bank covers: operations log-uniform from the smallest
    width's to all, groups narrowed at random from the whole until they are within.
    """
    trial = Trial(args.data, args.work, args.seed)
    slimmable, _, spent_s = trial.bank(chosen(args.out, "bank"))
    groups, test = slimmable.groups, trial.test()
    frames = chosen_frames([trial.domains.targets[0].frames], trial.seed)[:SEARCH_FRAMES]
    upem = Upem(slimmable, as_floats(frames))
    generator = torch.Generator().manual_seed(trial.seed)
    floor, whole = at_ratio(groups, LEAST), groups.whole()
    least, most = operations(groups, floor), operations(groups, whole)
    estimates, errors, costs, upem_s = [], [], [], 0.0
    for _ in range(SUB_NETWORKS):
        limit = most * (least / most) ** float(torch.rand(1, generator=generator))
        widths = narrowed_at_random(
            groups, whole, floor, lambda each, limit=limit: operations(groups, each) <= limit, generator
        )
        assert widths is not None
        began = time.process_time()
        estimates.append(upem(widths))
        upem_s += time.process_time() - began
        errors.append(error_percent(recalibrate(narrow(groups, widths), trial.calibration), *test))
        costs.append(operations(groups, widths))
    row = {
        "seed": trial.seed,
        "spearman": round(spearman(np.array(estimates), np.array(errors)), 3),
        "spearman_of_operations": round(spearman(-np.array(costs), np.array(errors)), 3),
        "upem": [round(value, 4) for value in estimates],
        "error_percent": [round(value, 2) for value in errors],
        "operations": costs,
        "cpu_s_a_width": round(upem_s / SUB_NETWORKS, 3),
        "training_cpu_s": round(spent_s, 1),
    }
    write_row(args.out, "rank", row, ("seed",))


def boards(args: argparse.Namespace) -> None:
    """`ecotta student pick` for each board, and its bundle tried in a control group of the board's limit.

    The bank is trained anew before, so that training and picks are timed in one run, by processor time; a search's is
    without imports, as the training's is, and that of a pick's whole process stands beside it.
    """
    work = args.work / "timed"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    trial = Trial(args.data, work, args.seed)
    slimmable, _, training_s = trial.bank(chosen(args.out, "bank"))
    frames = chosen_frames([trial.domains.targets[0].frames], trial.seed)
    path, name = work / "bank.safetensors", f"{HERE / 'small_networks.py'}:wrn_10_1"
    save_bank(Bank(slimmable, NETWORK, trial.domains.classes, FRAME, LEAST, frames), path)
    for device in BOARDS:
        out, told = work / f"{device}.safetensors", work / f"{device}.json"
        command = [sys.executable, "-m", "ecotta_rt", "student", "pick", str(path), "--network", name]
        command += ["--device", device, "--step-batch", str(STEP_BATCH), "--parts", str(PARTS), "-o", str(out)]
        command += ["--threads", "1", "--force", "--json", str(told)]
        before_s = _children_s()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        write_board(args.out, json.loads(told.read_text()), trial.seed, _children_s() - before_s, training_s)


def _children_s() -> float:
    """Processor time of all processes that were started here and have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def predict(args: argparse.Namespace) -> None:
    """What even and uneven widths need in memory, beside what is predicted by three even ones, as in a pick."""
    trial = Trial(args.data, args.work, args.seed)
    slimmable, _, _ = trial.bank(chosen(args.out, "bank"))
    groups, frames = slimmable.groups, chosen_frames([trial.domains.targets[0].frames], trial.seed)
    bank = Bank(slimmable, NETWORK, trial.domains.classes, FRAME, LEAST, frames)
    export = ExportOptions(NETWORK, classes=bank.classes, frame=FRAME, batches=(STEP_BATCH,))
    bundles = Bundles(bank, load_device(BOARDS[0]), Wish(batch=STEP_BATCH, adapt=True), export, PARTS, 3)

    def measured(widths: Mapping[str, int]) -> Measured:
        return bundles.measure(widths, args.work / "predicted")

    floor, whole, most = at_ratio(groups, LEAST), groups.whole(), operations(groups, groups.whole())
    predicted = fitted(groups, [measured(widths) for widths in (whole, floor, one_ratio(groups, 0.5, LEAST))])
    generator = torch.Generator().manual_seed(trial.seed)
    tried = [(True, one_ratio(groups, share, LEAST)) for share in EVEN_SHARES]
    for place in range(UNEVEN):
        limit = most * EVEN_SHARES[place % len(EVEN_SHARES)]
        widths = narrowed_at_random(
            groups, whole, floor, lambda each, limit=limit: operations(groups, each) <= limit, generator
        )
        assert widths is not None
        tried.append((False, widths))
    for even, widths in tried:
        row = {"seed": trial.seed, "even": even, "channels": dict(widths)}
        row |= {"predicted_bytes": round(predicted(widths).peak_bytes)}
        row |= {"planned_bytes": round(measured(widths).cost.peak_bytes)}
        write_row(args.out, "predictions", row, ("seed", "channels"))


def write_board(path: Path, facts: Mapping[str, Any], seed: int, pick_s: float, training_s: float) -> None:
    """Try the bundle of a pick where the board's limit holds, and put both into the results."""
    chosen, limit = facts["chosen"], facts["chosen"]["plan"]["limit_bytes"]
    ways = {"batch": STEP_BATCH, "frame_by_frame": False, "fast": chosen["plan"]["step"]["fast"], "adapt": True}
    asked = json.dumps({"path": chosen["bundle"], "ways": {**ways, "options": chosen["plan"]["session_options"]}})
    with MemoryCage(limit) as cage:
        command = cage.command([sys.executable, "-m", "ecotta_rt.runtime.trial", asked])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        record = cage.held()
    told = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    place = next(i for i, one in enumerate(facts["candidates"]) if one["channels"] == chosen["channels"])
    row = {
        "device": facts["device"],
        "seed": seed,
        "limit_bytes": limit,
        "share": facts["candidates"][place]["share"],
        **next_wider(facts["candidates"][:place]),
        "planned_bytes": chosen["peak_bytes"],
        "measured_bytes": told.get("peak_bytes"),
        "group_bytes": record.peak_bytes,
        "kills": record.oom_kills,
        "ms_a_frame": round(chosen["ms"], 3),
        "step_batch": STEP_BATCH,
        "native": load_device(facts["device"]).host == "native",
        "measured_widths": facts["measured"],
        "search_cpu_s": round(facts["cpu_seconds"], 1),
        "pick_cpu_s": round(pick_s, 1),
        "training_cpu_s": round(training_s, 1),
    }
    write_row(path, "boards", row, ("device", "seed"))


def next_wider(candidates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the narrowest of those that were not taken needs: as planned where it was exported, else as predicted."""
    if not candidates:
        return {"wider_bytes": [], "wider_planned": False}
    last = candidates[-1]
    return {
        "wider_bytes": [round(last.get("peak_bytes", last["predicted_peak_bytes"]))],
        "wider_planned": "peak_bytes" in last,
    }


if __name__ == "__main__":
    raise SystemExit(main())
