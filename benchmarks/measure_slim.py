"""Measure a bank of widths: against the same widths trained alone, its ranking without labels, its picks.

    python benchmarks/measure_slim.py train --seed 0     the bank, each width alone, and source only
    python benchmarks/measure_slim.py rank --seed 0      UPEM and true accuracy of 20 random sub-networks of the bank
    python benchmarks/measure_slim.py boards --seed 0    picks for five boards, each tried in a memory control group

MNIST to USPS at 16 x 16 with benchmarks/small_networks.py:wrn_10_1. Everything has the same number of epochs, batch,
rate and data; errors are those of the last epoch on USPS's test digits, with norms recalibrated on the same unlabelled
training digits. Rows go one by one to benchmarks/results/student-slim.json, so it can be interrupted; training goes on
after its last whole epoch. Seconds are of the processor, not of a clock: other work may run beside it.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.memory_cage import MemoryCage
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.method.width.groups import Widths
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.student.batches import DomainBatch, batches, batches_an_epoch
from ecotta_rt.student.domains import Domains, find_domains
from ecotta_rt.student.named_data import find_labelled
from ecotta_rt.student.slimda.bank import Bank, chosen_frames, save_bank
from ecotta_rt.student.slimda.training import SlimOptions, confusion_heads, slimda_steps
from ecotta_rt.student.slimda.upem import Upem
from ecotta_rt.student.slimmable.recalibrate import recalibrate
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.slimmable.widths import at_ratio, operations, random_widths, ratio_for
from ecotta_rt.student.training import Steps, TrainingOptions, sgd, train
from small_networks import wrn_10_1

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "student-slim.json"
FRAME = FrameSpec(3, 16, 16, "stretch")
SHARES = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
"""Of the operations at full width."""
SOURCE, TARGET = "mnist32.npz", "usps_native16.npz"
FRAMES, EPOCHS, BATCH, LR = 2000, 15, 32, 0.1
SLIM = SlimOptions(least=0.125)
SUB_NETWORKS = 20
BOARDS = ("raspberry-pi-zero-2w", "raspberry-pi-3a-plus", "raspberry-pi-3b-plus", "raspberry-pi-4-2gb", "pixel")
STEP_BATCH = 768
"""Frames a step in `boards`: with few frames of 16 x 16 this network fits every board whole."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("train", "rank", "boards"))
    parser.add_argument("--data", type=Path, required=True, help="folder with the .npz files of the digits")
    parser.add_argument("--work", type=Path, required=True, help="where weights and snapshots are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="of train: bank, alone, source")
    parser.add_argument("--shares", nargs="*", type=float, default=SHARES, help="of train alone")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    {"train": train_all, "rank": rank, "boards": boards}[args.stage](args)
    return 0


def train_all(args: argparse.Namespace) -> None:
    trial = Trial(args)
    for kind in args.only or ("bank", "source", "alone"):
        {"bank": trial.bank, "alone": trial.alone, "source": trial.source_only}[kind]()


def rank(args: argparse.Namespace) -> None:
    """Spearman's correlation of UPEM and true error over random sub-networks, and what asking for both costs."""
    trial = Trial(args)
    slimmable, spent_s = trial.trained("bank", trial.fresh(), SLIM)
    frames = torch.from_numpy(chosen_frames([trial.domains.targets[0].frames], trial.seed))
    upem = Upem(slimmable.eval(), frames.permute(0, 3, 1, 2).float() / 255)
    generator = torch.Generator().manual_seed(trial.seed)
    estimates, errors, upem_s = [], [], 0.0
    for _ in range(SUB_NETWORKS):
        widths = random_widths(slimmable.groups, SLIM.least, generator, each=True)
        began = time.process_time()
        estimates.append(upem(widths))
        upem_s += time.process_time() - began
        errors.append(trial.error(recalibrate(narrow(slimmable.groups, widths), trial.calibration)))
    row = {
        "seed": trial.seed,
        "spearman": round(spearman(estimates, errors), 3),
        "upem": [round(value, 4) for value in estimates],
        "error_percent": [round(value, 2) for value in errors],
        "cpu_s_a_width": round(upem_s / SUB_NETWORKS, 3),
        "training_cpu_s": round(spent_s, 1),
    }
    print(row, flush=True)
    write_row(args.out, "rank", row, ("seed",))


def spearman(one: list[float], other: list[float]) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def boards(args: argparse.Namespace) -> None:
    """`ecotta student pick` for each board, and its bundle tried in a control group of the board's limit."""
    trial = Trial(args)
    slimmable, spent_s = trial.trained("bank", trial.fresh(), SLIM)
    frames = chosen_frames([trial.domains.targets[0].frames], trial.seed)
    path, name = args.work / "bank.safetensors", f"{HERE / 'small_networks.py'}:wrn_10_1"
    bank = Bank(slimmable, "small_networks.py:wrn_10_1", trial.domains.classes, FRAME, SLIM.least, frames)
    save_bank(bank, path)
    for device in BOARDS:
        out, told = args.work / f"{device}.safetensors", args.work / f"{device}.json"
        command = [
            sys.executable,
            "-m",
            "ecotta_rt",
            "student",
            "pick",
            str(path),
            "--network",
            name,
            "--device",
            device,
        ]
        more = ["--step-batch", str(STEP_BATCH), "--parts", "3", "-o", str(out), "--threads", "1", "--force"]
        subprocess.run([*command, *more, "--json", str(told)], check=True, stdout=subprocess.DEVNULL)
        write_board(args.out, json.loads(told.read_text()), trial.seed, spent_s)


def write_board(path: Path, facts: Mapping[str, Any], seed: int, training_s: float) -> None:
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
        "wider_bytes": [round(one["predicted_peak_bytes"]) for one in facts["candidates"][:place]][-1:],
        "planned_bytes": chosen["peak_bytes"],
        "measured_bytes": told.get("peak_bytes"),
        "group_bytes": record.peak_bytes,
        "kills": record.oom_kills,
        "ms_a_frame": round(chosen["ms"], 3),
        "pick_cpu_s": round(facts["cpu_seconds"], 1),
        "training_cpu_s": round(training_s, 1),
    }
    print(row, flush=True)
    write_row(path, "boards", row, ("device", "seed"))


class Trial:
    """One seed."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.seed = args, args.seed
        found = find_domains(
            args.data / SOURCE, {"usps": args.data / TARGET}, count=FRAMES, seed=0
        )  # the same pictures for all seeds
        self.domains: Domains = found.frames(FRAME, args.work / "frames")
        test = find_labelled(args.data / TARGET, split="test").frames(FRAME, args.work / "test").training
        self.test = as_floats(test.frames), torch.from_numpy(np.asarray(test.labels))  # type: ignore[union-attr]
        self.calibration = as_floats(self.domains.targets[0].frames).split(250)
        self.options = TrainingOptions(
            epochs=EPOCHS, batch=BATCH, lr=LR, augmentation=Augmentation.parse("none"), seed=self.seed
        )

    def fresh(self) -> Slimmable:
        torch.manual_seed(self.seed)
        return Slimmable(wrn_10_1(), torch.zeros(1, 3, *FRAME.size))

    def bank(self) -> None:
        slimmable, spent_s = self.trained("bank", self.fresh(), SLIM)
        for share, widths in self.widths(slimmable):
            error = self.error(recalibrate(narrow(slimmable.groups, widths), self.calibration))
            self.row("bank", share, slimmable, widths, error, spent_s)

    def alone(self) -> None:
        wide = self.fresh()
        for share, widths in self.widths(wide):
            if not any(abs(share - asked) < 1e-3 for asked in self.args.shares):
                continue
            torch.manual_seed(self.seed)
            small = Slimmable(started_anew(narrow(wide.groups, widths)), torch.zeros(1, 3, *FRAME.size))
            small, spent_s = self.trained(f"alone-{share:.4f}", small, SlimOptions(sampled=1))
            error = self.error(recalibrate(narrow(small.groups, {}), self.calibration))
            self.row("alone", share, wide, widths, error, spent_s)

    def source_only(self) -> None:
        wide = self.fresh()
        for share, widths in self.widths(wide):
            if share not in (SHARES[0], SHARES[-1]):
                continue
            torch.manual_seed(self.seed)
            network = started_anew(narrow(wide.groups, widths)).train()
            began = time.process_time()
            train(source_steps(network, self.domains, self.options), self.options)
            spent_s = time.process_time() - began
            self.row("source only", share, wide, widths, self.error(network.eval()), spent_s)
            error = self.error(recalibrate(network, self.calibration))
            self.row("source only, norms recalibrated", share, wide, widths, error, spent_s)

    def trained(self, name: str, slimmable: Slimmable, slim: SlimOptions) -> tuple[Slimmable, float]:
        stem = f"{name}-seed{self.seed}"
        weights, spent, snapshot = (self.args.work / f"{stem}.{kind}" for kind in ("pt", "seconds", "snapshot"))
        heads = confusion_heads(slimmable, self.seed)
        if not weights.exists():
            steps = slimda_steps(slimmable, heads, self.domains, self.options, slim)
            began = time.process_time()
            last = 0.0

            def report(progress: Any) -> None:
                nonlocal last
                if time.monotonic() - last > 20:
                    last = time.monotonic()
                    print(
                        name,
                        progress.step,
                        progress.steps,
                        dict(progress.means),
                        round(progress.seconds_left),
                        flush=True,
                    )

            train(steps, self.options, report=report, snapshot=snapshot)
            spent.write_text(str(time.process_time() - began))
            torch.save({"network": slimmable.network.state_dict(), "heads": heads.state_dict()}, weights)
        slimmable.network.load_state_dict(torch.load(weights, weights_only=True)["network"])
        return slimmable, float(spent.read_text())

    def widths(self, slimmable: Slimmable) -> Iterator[tuple[float, dict[str, int]]]:
        for share in SHARES:
            yield share, at_ratio(slimmable.groups, 1.0 if share == 1 else ratio_for(slimmable.groups, share))

    @torch.no_grad()
    def error(self, network: nn.Module) -> float:
        frames, labels = self.test
        network.eval()
        halves = zip(frames.split(250), labels.split(250), strict=True)
        wrong = sum(int((network(some).argmax(1) != known).sum()) for some, known in halves)
        return 100 * wrong / len(labels)

    def row(self, kind: str, share: float, slimmable: Slimmable, widths: Widths, error: float, spent_s: float) -> None:
        cost = operations(slimmable.groups, widths)
        row = {
            "kind": kind,
            "share": share,
            "seed": self.seed,
            "operations": cost,
            "channels": dict(widths),
            "error_percent": round(error, 3),
            "training_cpu_s": round(spent_s, 1),
        }
        print(kind, f"{share:.4f}", cost, f"{error:.2f} %", f"{spent_s:.0f} s", flush=True)
        write_row(self.args.out, "widths", row, ("kind", "share", "seed"))


def as_floats(frames: Any) -> Tensor:
    return torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float().div_(255).contiguous()


def started_anew(network: nn.Module) -> nn.Module:
    """First weights that are right for its own width, not slices of those for the wide one."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            module.reset_parameters()
    return network


def source_steps(network: nn.Module, domains: Domains, options: TrainingOptions) -> Steps[DomainBatch]:
    optimiser = sgd(network, options)

    def step(batch: DomainBatch, moment: Any) -> Mapping[str, float]:
        loss = F.cross_entropy(network(batch.source), batch.labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return {"loss": loss.item()}

    per_epoch = batches_an_epoch(domains, options.batch)
    return Steps(
        {"network": network},
        {"sgd": optimiser},
        per_epoch,
        lambda generator: batches(domains, options.batch, generator, options.augmentation),
        step,
        {"method": "source only"},
    )


def write_row(path: Path, table: str, row: Mapping[str, Any], key: tuple[str, ...]) -> None:
    """Put a row into a table of the results, in place of the one with the same key."""
    found = json.loads(path.read_text()) if path.exists() else {"schema": 1, "measured": "student-slim"}
    same = [each for each in found.get(table, []) if any(each[name] != row[name] for name in key)]
    found[table] = [*same, dict(row)]
    found["environment"] = asdict(read_environment(1))
    found["recipe"] = {
        "source": SOURCE,
        "target": TARGET,
        "frames": FRAMES,
        "epochs": EPOCHS,
        "batch": BATCH,
        "lr": LR,
        "frame": list(FRAME.size),
        **vars(SLIM),
    }
    write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    raise SystemExit(main())
