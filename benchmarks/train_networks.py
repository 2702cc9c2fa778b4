"""Train the source networks of the benchmark: WRN-40-2 on CIFAR-10 or on Fashion-MNIST.

    python benchmarks/train_networks.py cifar-10 --data $ECOTTA_DATA --out wrn-40-2-cifar-10
    python benchmarks/train_networks.py fashion-mnist --data fashion-mnist --out wrn-40-2-fashion-mnist

AugMix augmentation without the consistency loss, one-cycle SGD, label smoothing, bf16 autocast; the first epochs run on
24x24 crops (0.56 of the work), the last ones on whole frames. Resumes from `OUT.snapshot.pt` when it exists.
Writes `OUT.safetensors` (weights fp16, statistics fp32) with the recipe, seed and test accuracy as metadata.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ecotta_rt.data.fashion_mnist import read_fashion_mnist
from ecotta_rt.prepare.augment import Augmentation, augment
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.prepare.networks.wide_resnet import WideResNet

Split = tuple[Tensor, Tensor]  # uint8 [N, 3, H, W], int64 [N]


AUGMIX = Augmentation((("augmix", 0.3),))


def read_cifar10(folder: Path) -> tuple[Split, Split]:
    def read(names: list[str]) -> Split:
        records = np.concatenate([np.fromfile(folder / name, np.uint8).reshape(-1, 3073) for name in names])
        return torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(
            records[:, 0].astype(np.int64)
        )

    if (folder / "cifar-10-batches-bin").is_dir():
        folder = folder / "cifar-10-batches-bin"
    return read([f"data_batch_{i}.bin" for i in range(1, 6)]), read(["test_batch.bin"])


def read_fashion(folder: Path) -> tuple[Split, Split]:
    def read(split: str) -> Split:
        frames, labels = read_fashion_mnist(folder, split)
        return torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.astype(np.int64))

    return read("train"), read("t10k")


DATA_SETS = {"cifar-10": read_cifar10, "fashion-mnist": read_fashion}


def crop(frames: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Random crop of `side` and random flip. Whole frames are padded by 4 first, smaller crops are cut out."""
    if side == frames.shape[-1]:
        frames = F.pad(frames, (4, 4, 4, 4))
    count, room = len(frames), frames.shape[-1] - side
    top, left = torch.randint(0, room + 1, (2, count), generator=generator)
    flip = torch.randint(0, 2, (count,), generator=generator).bool()
    rows = top[:, None] + torch.arange(side)
    columns = left[:, None] + torch.arange(side)
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    picked = frames[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def accuracy_percent(network: WideResNet, split: Split) -> float:
    network.eval()
    frames, labels = split
    right = sum(
        int((network(batch.float() / 255).argmax(1) == label).sum())
        for batch, label in zip(frames.split(250), labels.split(250), strict=True)
    )
    return 100 * right / len(labels)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    train_split, test_split = DATA_SETS[args.data_set](args.data)
    frames, labels = train_split
    per_channel = frames[::5].float().div(255).transpose(0, 1).flatten(1)
    mean = tuple(round(float(v), 4) for v in per_channel.mean(1))
    std = tuple(round(float(v), 4) for v in per_channel.std(1))
    network = WideResNet(40, 2, classes=10, mean=mean, std=std).to(memory_format=torch.channels_last)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0.0}],
        lr=1.0,
        momentum=0.9,
        nesterov=True,
    )
    # Work per epoch differs with the crop, so the schedule runs over frames seen, not over time.
    epochs = args.small_epochs + args.epochs
    steps_per_epoch = len(labels) // args.batch
    total = epochs * steps_per_epoch

    def rate(step: int) -> float:
        warm = int(0.2 * total)
        if step < warm:
            return args.lr * (0.05 + 0.95 * step / warm)
        return args.lr * (0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm))) + 1e-3)

    if args.start:
        network.load_state_dict(load_network(args.start).state_dict())
    snapshot = args.out.with_suffix(".snapshot.pt")
    first = 0
    if snapshot.exists():
        saved = torch.load(snapshot, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        generator.set_state(saved["generator"])
        first = saved["epoch"]
    forward = torch.compile(network) if args.compile else network
    for epoch in range(first, epochs):
        network.train()
        side = 24 if epoch < args.small_epochs else 32
        began, seen_loss, seen_right = time.monotonic(), 0.0, 0
        order = torch.randperm(len(labels), generator=generator)
        for index in range(steps_per_epoch):
            group = order[index * args.batch : (index + 1) * args.batch]
            batch = crop(frames[group], side, generator).float() / 255
            clean = round(args.clean_share * len(batch))
            batch = torch.cat([batch[:clean], augment(batch[clean:], AUGMIX, generator)])
            for settings in optimiser.param_groups:
                settings["lr"] = rate(epoch * steps_per_epoch + index)
            with torch.autocast("cpu", torch.bfloat16):
                logits = forward(batch.to(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), labels[group], label_smoothing=0.1)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            seen_loss += loss.item()
            seen_right += int((logits.argmax(1) == labels[group]).sum())
            if index % 50 == 49:
                done = (index + 1) / steps_per_epoch
                print(
                    f"epoch {epoch + 1}/{epochs} {100 * done:3.0f} %  loss {seen_loss / (index + 1):.3f}"
                    f"  train {100 * seen_right / (index + 1) / args.batch:.1f} %  {time.monotonic() - began:.0f} s",
                    flush=True,
                )
        temporary = snapshot.with_suffix(".tmp")
        torch.save(
            {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "generator": generator.get_state(),
                "epoch": epoch + 1,
            },
            temporary,
        )
        os.replace(temporary, snapshot)
        accuracy = accuracy_percent(network, test_split)
        print(f"epoch {epoch + 1}/{epochs} done: test accuracy {accuracy:.2f} %", flush=True)
        save(network, args, accuracy, epoch + 1, mean, std)


def save(
    network: WideResNet,
    args: argparse.Namespace,
    accuracy: float,
    epochs_done: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> None:
    recipe = {
        "data_set": args.data_set,
        "epochs_on_24x24_crops": args.small_epochs,
        "epochs_on_32x32": args.epochs,
        "epochs_done": epochs_done,
        "batch": args.batch,
        "peak_lr": args.lr,
        "augmentation": "crop, flip, AugMix without consistency loss",
        "share_without_augmix": args.clean_share,
        "label_smoothing": 0.1,
        "weight_decay": 5e-4,
        "precision": "bf16 autocast",
        "seed": args.seed,
        "started_from": args.start.name if args.start else "random weights",
        "torch": torch.__version__,
    }
    tensors = {
        name: (value.half() if value.ndim > 1 else value.float()).contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    metadata = {
        "model": "wrn-40-2",
        "classes": "10",
        "mean": json.dumps(mean),
        "std": json.dumps(std),
        "test_accuracy_percent": f"{accuracy:.2f}",
        "recipe": json.dumps(recipe),
    }
    temporary = args.out.with_suffix(".safetensors.tmp")
    save_file(tensors, temporary, metadata)
    os.replace(temporary, args.out.with_suffix(".safetensors"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", choices=sorted(DATA_SETS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without a suffix")
    parser.add_argument("--small-epochs", type=int, default=9, help="epochs on 24x24 crops")
    parser.add_argument("--epochs", type=int, default=6, help="epochs on whole frames, after those")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--clean-share", type=float, default=0.0, help="part of each batch that AugMix leaves alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, metavar="FILE", help="go on from the weights of a network file of ours")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile; needs a C++ compiler, saves a tenth of the time"
    )
    train(parser.parse_args(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
