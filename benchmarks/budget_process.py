"""The process that `measure_budgets.py` measures: it runs one graph of one bundle and prints what that took, as JSON.

    imports  ->  baseline  ->  load  ->  load peak, reset, resident  ->  steps  ->  run peak

It imports what a device imports and nothing of the benchmark, so that it is as small as one. Frames are random, made
once after loading, and stay: they count for the run as they would for a camera.
"""

import json
import random
import sys
import time
from pathlib import Path

import numpy as np

from ecotta_rt.bundle import read_bundle
from ecotta_rt.machine.process_memory import peak_resident_bytes, reset_peak, resident_bytes
from ecotta_rt.options import SessionOptions
from ecotta_rt.runtime.engine import Runtime


def main(path: str, steps: int, wanted: dict[str, object], options: dict[str, object]) -> dict[str, object]:
    import onnxruntime  # noqa: F401  # the engine loads it late; here it belongs to the baseline

    baseline_bytes = resident_bytes()
    runtime = Runtime(read_bundle(path), **wanted, options=SessionOptions(**options))
    load_peak_bytes = peak_resident_bytes()
    reset_peak()
    loaded_bytes, loaded = resident_bytes(), kinds()
    frames = random_frames(runtime.batch, runtime.frame_size)
    run = runtime if runtime.graph else runtime.predict
    seconds, reasons = [], []
    for _ in range(steps):
        started_s = time.perf_counter()
        reasons.append(run(frames).why)
        seconds.append(time.perf_counter() - started_s)
    run_peak_bytes = peak_resident_bytes()
    return {
        "baseline_bytes": baseline_bytes,
        "load_peak_bytes": load_peak_bytes,
        "loaded_bytes": loaded_bytes,
        "loaded": loaded,
        "run_peak_bytes": run_peak_bytes,
        "peak_bytes": max(load_peak_bytes, run_peak_bytes),
        "rested": kinds(),
        "frames_bytes": frames.nbytes,
        "steps": steps,
        "why": reasons,
        "slowest_step_s": round(max(seconds), 3),
    }


def random_frames(count: int, size: tuple[int, int]) -> np.ndarray:
    frames, source = np.empty((count, *size, 3), np.uint8), random.Random(0)
    for frame in frames:  # numpy's own generators would add 6 MiB to the process that no device has
        frame[:] = np.frombuffer(source.randbytes(frame.nbytes), np.uint8).reshape(frame.shape)
    return frames


def kinds() -> dict[str, int]:
    """What is resident now, by kind: our own pages, and those of mapped files (libraries, weights)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {f"{name}_bytes": 1024 * int(fields[key].split()[0]) for name, key in _KINDS.items()}


_KINDS = {"anonymous": "RssAnon", "file": "RssFile"}

if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
