"""Run a bundle on fixed frames, one step a frame, and keep all it said and learned.

Run on two machines, the two results can be compared: scripts/compare_replays.py. Needs what a device has, no more.

examples:
  python scripts/replay_frames.py net.ecotta /tmp/here
  python scripts/replay_frames.py net.ecotta /tmp/here --frames 64 --images benchmarks/data/fashion-mnist-sample

Writes `answers.npz`, `state.safetensors` and `machine.json` into the folder.
"""

import argparse
import json
import platform
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt import Runtime
from ecotta_rt.data.fashion_mnist import read_fashion_mnist
from ecotta_rt.files.atomic import open_atomic, write_atomic
from ecotta_rt.machine.process_memory import peak_resident_bytes

SAMPLE = Path(__file__).resolve().parent.parent / "benchmarks" / "data" / "fashion-mnist-sample"
PACKAGES = ("ecotta_rt", "numpy", "onnxruntime", "safetensors")


def main() -> None:
    """Read the arguments, replay, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the results go")
    parser.add_argument("--frames", metavar="N", type=int, default=16, help="how many (default 16)")
    parser.add_argument("--images", metavar="FOLDER", type=Path, default=SAMPLE, help="Fashion-MNIST's test files")
    parser.add_argument("--optimisation", choices=("all", "extended"), default="all")
    args = parser.parse_args()
    replay(args.bundle, args.folder, frames(args.images, args.frames), args.optimisation)


def frames(images: Path, count: int) -> NDArray[np.uint8]:
    """The first `count` test images at half their contrast: uint8 `[N, 32, 32, 3]`."""
    return read_fashion_mnist(images, "t10k")[0][:count] // 2 + 64


def replay(bundle: Path, folder: Path, images: NDArray[np.uint8], optimisation: str) -> None:
    """Answer and learn from the images one by one, on one thread."""
    from ecotta_rt.options import SessionOptions

    peaks = {"imports": peak_resident_bytes()}  # under an emulator with the emulator's own memory
    started = time.monotonic()
    runtime = Runtime.load(bundle, batch=1, options=SessionOptions(optimisation=optimisation))
    peaks["load"], loaded = peak_resident_bytes(), time.monotonic()
    answers = []
    for image in images:
        answers.append(runtime(image[None]))
        print(f"frame {len(answers)}/{len(images)}: class {answers[-1].labels[0]}, {answers[-1].why}", flush=True)
    peaks["run"], ran = peak_resident_bytes(), time.monotonic()
    with open_atomic(folder / "answers.npz") as file:
        np.savez(
            file,
            labels=np.concatenate([answer.labels for answer in answers]),
            probabilities=np.concatenate([answer.probabilities for answer in answers]),
            entropy_nats=np.concatenate([answer.entropy_nats for answer in answers]),
            kept=np.concatenate([answer.kept for answer in answers]),
            adapted=np.array([answer.adapted for answer in answers]),
        )
    runtime.save_state(folder / "state.safetensors")
    machine = {
        "architecture": platform.machine(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "graph": runtime.graph,
        "session_options": runtime.session_options.as_json(),
        "frames": len(answers),
        "adapted": sum(answer.adapted for answer in answers),
        "process_peak_bytes": peaks,
        "load_s": round(loaded - started, 3),
        "run_s": round(ran - loaded, 3),
    }
    write_atomic(folder / "machine.json", (json.dumps(machine, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
