"""What measure_slim.py trains: one seed's networks, banks and alone, by a setting; and how they are judged."""

import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.method.width.groups import Widths
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.student.batches import DomainBatch, batches, batches_an_epoch
from ecotta_rt.student.domains import Domains, find_domains
from ecotta_rt.student.evaluate import as_floats, error_percent
from ecotta_rt.student.named_data import find_labelled
from ecotta_rt.student.slimda.training import SlimOptions, confusion_heads, slimda_steps
from ecotta_rt.student.slimmable.recalibrate import recalibrate
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.slimmable.widths import at_ratio, operations, ratio_for
from ecotta_rt.student.training import Steps, TrainingOptions, sgd, train
from small_networks import wrn_10_1

__all__ = [
    "FRAME",
    "LEAST",
    "SAMPLED",
    "SHARES",
    "TUNING_EPOCHS",
    "HeldOut",
    "Setting",
    "Trial",
    "cost_of",
    "hints",
    "rows_of",
    "write_row",
]

SOURCE, TARGET = "mnist32.npz", "usps_native16.npz"
FRAME = FrameSpec(3, 16, 16, "stretch")
SHARES = (1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
"""Of the operations at full width."""
LEAST = 0.125
FRAMES, EPOCHS, BATCH = 2000, 15, 32
TUNING_EPOCHS = 6
HELD_OUT = 4000
SAMPLED = {"bank": 4, "alone": 1}
"""Widths a step."""

_TOLD_EVERY_S = 20


@dataclass(frozen=True)
class Setting:
    """What `tune` chooses; all but `lr` and `rate` are of `SlimOptions`."""

    lr: float = 0.1
    rate: Any = "dann"
    source_share: float = 0.2
    temperature: float = 0.5
    confidence: str = "rank"
    seed_weight: float = 1.0

    def slim(self, sampled: int) -> SlimOptions:
        """For a bank, or with one width a step for a network alone."""
        own = {name: value for name, value in vars(self).items() if name not in ("lr", "rate")}
        return SlimOptions(least=LEAST, sampled=sampled, **own)

    def digest(self) -> str:
        """For names of files."""
        return f"{zlib.crc32(json.dumps(asdict(self)).encode()):08x}"


HeldOut = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Frames `[N, H, W, C]` and their labels."""


class Trial:
    """One seed; the same pictures for all seeds."""

    def __init__(self, data: Path, work: Path, seed: int, epochs: int = EPOCHS) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.data, self.work, self.seed, self.epochs = data, work, seed, epochs
        found = find_domains(data / SOURCE, {"usps": data / TARGET}, count=FRAMES, seed=0)
        self.domains: Domains = found.frames(FRAME, work / "frames")
        self.calibration = as_floats(self.domains.targets[0].frames).split(250)

    def test(self) -> HeldOut:
        """USPS's test digits, for figures."""
        test = find_labelled(self.data / TARGET, split="test").frames(FRAME, self.work / "test").training
        return np.asarray(test.frames), np.asarray(test.labels)  # type: ignore[union-attr]

    def held_out(self) -> HeldOut:
        """Training digits of the source that nothing learns from, for choices."""
        every = find_labelled(self.data / SOURCE).frames(FRAME, self.work / "source").training
        used = {frame.tobytes() for frame in np.asarray(self.domains.source.frames)}
        frames, labels = np.asarray(every.frames), np.asarray(every.labels)  # type: ignore[union-attr]
        others = [place for place, frame in enumerate(frames) if frame.tobytes() not in used][:HELD_OUT]
        return frames[others], labels[others]

    def fresh(self) -> Slimmable:
        torch.manual_seed(self.seed)
        return Slimmable(wrn_10_1(), torch.zeros(1, 3, *FRAME.size))

    def alone(self, widths: Widths) -> Slimmable:
        """Untrained, of these widths, with first weights that are right for them."""
        wide = self.fresh()
        torch.manual_seed(self.seed)
        return Slimmable(started_anew(narrow(wide.groups, widths)), torch.zeros(1, 3, *FRAME.size))

    def widths(self, shares: Sequence[float] = SHARES) -> Iterator[tuple[float, dict[str, int]]]:
        groups = self.fresh().groups
        for share in shares:
            yield share, at_ratio(groups, 1.0 if share == 1 else ratio_for(groups, share))

    def options(self, setting: Setting) -> TrainingOptions:
        plain = Augmentation.parse("none")
        return TrainingOptions(
            epochs=self.epochs, batch=BATCH, lr=setting.lr, rate=setting.rate, augmentation=plain, seed=self.seed
        )

    def bank(self, setting: Setting) -> tuple[Slimmable, nn.Linear, float]:
        """Trained, with its two other classifiers, and the seconds of a core that this took."""
        return self._trained("bank", self.fresh(), setting, SAMPLED["bank"])

    def trained_alone(self, share: float, widths: Widths, setting: Setting) -> tuple[Slimmable, nn.Linear, float]:
        return self._trained(f"alone-{share:.4f}", self.alone(widths), setting, SAMPLED["alone"])

    def source_only(self, widths: Widths, setting: Setting) -> tuple[nn.Module, float]:
        wide = self.fresh()
        torch.manual_seed(self.seed)
        network = started_anew(narrow(wide.groups, widths)).train()
        began = time.process_time()
        train(_source_steps(network, self.domains, self.options(setting)), self.options(setting))
        return network.eval(), time.process_time() - began

    def _trained(
        self, name: str, slimmable: Slimmable, setting: Setting, sampled: int
    ) -> tuple[Slimmable, nn.Linear, float]:
        stem = f"{name}-{setting.digest()}-{self.epochs}-seed{self.seed}"
        weights, spent, snapshot = (self.work / f"{stem}.{kind}" for kind in ("pt", "seconds", "snapshot"))
        heads = confusion_heads(slimmable, self.seed)
        if not weights.exists():
            options = self.options(setting)
            steps = slimda_steps(slimmable, heads, self.domains, options, setting.slim(sampled))
            began, last = time.process_time(), 0.0

            def report(progress: Any) -> None:
                nonlocal last
                if time.monotonic() - last > _TOLD_EVERY_S:
                    last = time.monotonic()
                    left_s = round(progress.seconds_left)
                    print(stem, progress.step, progress.steps, dict(progress.means), left_s, flush=True)

            train(steps, options, report=report, snapshot=snapshot)
            spent.write_text(str(time.process_time() - began))
            torch.save({"network": slimmable.network.state_dict(), "heads": heads.state_dict()}, weights)
        state = torch.load(weights, weights_only=True)
        slimmable.network.load_state_dict(state["network"])
        heads.load_state_dict(state["heads"])
        return slimmable, heads, float(spent.read_text())


def _source_steps(network: nn.Module, domains: Domains, options: TrainingOptions) -> Steps[DomainBatch]:
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


def started_anew(network: nn.Module) -> nn.Module:
    """First weights that are right for its own width, not slices of those for the wide one."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            module.reset_parameters()
    return network


@torch.no_grad()
def hints(slimmable: Slimmable, heads: nn.Linear, widths: Widths, trial: Trial, held_out: HeldOut) -> dict[str, float]:
    """Of one width, without a label of the target: the error on the source, and how sure and of one mind it is."""
    source = as_floats(trial.domains.source.frames).split(250)
    on_source = recalibrate(narrow(slimmable.groups, widths), source)
    slimmable.eval()
    entropies, agreements = [], []
    for frames in trial.calibration:
        features, places = slimmable.features(frames, widths)
        own = slimmable.classifier()
        answers = F.linear(features, own.weight[:, places], own.bias).softmax(1)
        of_source, of_target = F.linear(features, heads.weight[:, places], heads.bias).chunk(2, 1)
        both = of_source.softmax(1) + of_target.softmax(1)
        entropies.append(float(torch.special.entr(answers).sum(1).mean()))
        agreements.append(float((answers.argmax(1) == both.argmax(1)).float().mean()))
    return {
        "source_error_percent": round(error_percent(on_source, *held_out), 3),
        "target_entropy": round(float(np.mean(entropies)), 4),
        "target_agreement": round(float(np.mean(agreements)), 4),
    }


def cost_of(trial: Trial, widths: Widths) -> int:
    return operations(trial.fresh().groups, widths)


def write_row(path: Path, table: str, row: Mapping[str, Any], key: tuple[str, ...]) -> None:
    """Put a row into a table of the results, in place of the one with the same key."""
    found = json.loads(path.read_text()) if path.exists() else {"schema": 2, "measured": "student-slim"}
    same = [each for each in found.get(table, []) if any(each[name] != row[name] for name in key)]
    found[table] = [*same, dict(row)]
    found["environment"] = asdict(read_environment(1))
    found["recipe"] = {"source": SOURCE, "target": TARGET, "frames": FRAMES, "epochs": EPOCHS, "batch": BATCH}
    found["recipe"] |= {"tuning_epochs": TUNING_EPOCHS}
    found["recipe"] |= {"frame": list(FRAME.size), "least": LEAST, "sampled": SAMPLED, "held_out": HELD_OUT}
    write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())
    print(table, {name: value for name, value in row.items() if name != "channels"}, flush=True)


def rows_of(path: Path, table: str, **same: Any) -> list[dict[str, Any]]:
    """Rows of a table with these values."""
    found = json.loads(path.read_text()).get(table, []) if path.exists() else []
    return [row for row in found if all(row[name] == value for name, value in same.items())]
