"""Average the weights of networks that one training run left behind, and take the norms' statistics anew.

    python benchmarks/average_networks.py cifar-10 --data $ECOTTA_DATA --out mean first.safetensors last.safetensors

Two ends of successive one-cycle schedules lie on the rim of one basin; their mean lies further in (stochastic weight
averaging, Izmailov et al., arXiv 1803.05407). Its statistics are those of no network, so they are taken from training
images, augmented as by `train_networks.py` but for AugMix. Writes `OUT.safetensors` as that does.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ecotta_rt.prepare.checkpoint import load_network, read_network_file
from train_networks import DATA_SETS, accuracy_percent, crop


def average(files: list[Path]) -> nn.Module:
    network = load_network(files[0])
    states = [load_network(file).state_dict() for file in files]
    mean = {
        name: sum(state[name].float() for state in states) / len(states) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    network.load_state_dict(mean)
    return network


@torch.no_grad()
def take_statistics(network: nn.Module, frames: torch.Tensor, generator: torch.Generator) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    network.train()
    for batch in frames.split(250):
        network(crop(batch, 32, generator).float() / 255)
    network.eval()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", choices=sorted(DATA_SETS))
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="path without a suffix")
    parser.add_argument("--statistics-frames", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args(argv)
    (frames, _), test_split = DATA_SETS[args.data_set](args.data)
    generator = torch.Generator().manual_seed(args.seed)
    network = average(args.networks)
    for parameter in network.parameters():  # as the file will hold them, so that the statistics are of those
        if parameter.ndim > 1:
            parameter.data = parameter.data.half().float()
    take_statistics(
        network, frames[torch.randperm(len(frames), generator=generator)][: args.statistics_frames], generator
    )
    accuracy = accuracy_percent(network, test_split)
    print(f"test accuracy {accuracy:.2f} %")
    recipes = [read_network_file(file).recipe for file in args.networks]
    about = {
        "data_set": args.data_set,
        "mean_of": recipes,
        "statistics_from": f"{args.statistics_frames} training images, seed {args.seed}",
        "torch": torch.__version__,
    }
    tensors = {
        name: (value.half() if value.ndim > 1 else value.float()).contiguous()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    first = read_network_file(args.networks[0])
    metadata = {
        "model": first.model,
        "classes": str(first.classes),
        "mean": json.dumps(first.mean),
        "std": json.dumps(first.std),
        "test_accuracy_percent": f"{accuracy:.2f}",
        "recipe": json.dumps(about),
    }
    save_file(tensors, args.out.with_suffix(".safetensors"), metadata)
    return 0


if __name__ == "__main__":
    sys.exit(main())
