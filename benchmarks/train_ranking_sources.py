"""Train the source networks of measure_ranking.py: ResNet-8, one a source, into a folder.

    ECOTTA_DATA=... python benchmarks/train_ranking_sources.py FOLDER

About 2 minutes on one core. A network that is there already is left as it is.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.checkpoint import save_network
from ecotta_rt.prepare.epochs import WarmUpOptions
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.warmup import fine_tune
from ecotta_rt.student.evaluate import error_percent
from ranking_cases import SOURCES

MODEL = "resnet-8"
HELD_OUT = 0.1


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in SOURCES.items():
        path = folder / f"{name}.safetensors"
        if path.exists():
            continue
        began = time.process_time()
        pictures = source.pictures()
        order = np.random.default_rng(0).permutation(len(pictures.labels))
        held, kept = np.split(order, [round(HELD_OUT * len(order))])
        torch.manual_seed(0)
        network = build_network(MODEL, classes=len(pictures.classes))
        steps = (("flip", 0.5), ("shift", 0.125)) if source.flips else (("shift", 0.1),)
        options = WarmUpOptions(epochs=source.epochs, lr=0.1, augmentation=Augmentation(steps))
        fine_tune(network, pictures.frames[kept], pictures.labels[kept], options)
        accuracy = 100 - error_percent(network, pictures.frames[held], pictures.labels[held])
        recipe = {"source": name, "pictures": len(kept), "epochs": source.epochs, "classes": list(pictures.classes)}
        save_network(network, path, model=MODEL, test_accuracy_percent=accuracy, recipe=recipe)
        print(f"{name}: {accuracy:.1f} % of {len(held)} held out, {time.process_time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
