"""From a teacher to an adapting device: what the small network buys in 200 MB, and what it costs.

    python benchmarks/measure_story.py pictures FOLDER --data CIFAR
    python benchmarks/measure_story.py device FOLDER --data CIFAR-10-C NAME ...
    python benchmarks/measure_story.py time FOLDER --data CIFAR-10-C NAME ...
    python benchmarks/measure_story.py collect FOLDER NAME ...          results/student-story.json

`pictures` takes 10,000 labelled training pictures of CIFAR-10 (source.npz, names.txt, and class folders in pictures/),
and 10,000 others without labels in four of the 15 corruptions, severity 5 (places.npy). In between the networks are
made as docs/tutorials/teacher-to-pi.md says; each NAME has FOLDER/NAME.safetensors, FOLDER/NAME.ecotta, and
FOLDER/NAME-batches.ecotta, which is made with `ecotta prepare --step-batch 64 96 128`. Errors are those of

    ecotta-bench --stream continual,sorted --methods ecotta-k4-followed --bundle FOLDER/NAME.ecotta \
        --network FOLDER/NAME.safetensors --engine onnx --batch 1 --data CIFAR --frames 200 --seeds 0,1,2 --threads 1 \
        --json FOLDER/NAME-streams.json

and the process's peak is theirs, or that of FOLDER/NAME-peak.json where the errors were measured with earlier code.
`device` runs `ecotta run` over 200 frames of fog in a memory control group of 200 MB, without gradients and with, and
learning from the largest batch for which FOLDER/NAME-batches.ecotta has a graph that the group does not kill. `time`
takes turns between all networks in one process: a frame each, processor time of the thread, and the tenth percentile of
200 turns, since other work may run beside it and slows a turn by what it leaves in the caches.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.memory_cage import MemoryCage
from ecotta_rt.bundle import read_bundle
from ecotta_rt.data.corruptions import corrupt
from ecotta_rt.data.image_sets import find_image_set
from ecotta_rt.runtime.engine import Runtime

RESULTS = Path(__file__).resolve().parent / "results" / "student-story.json"
LIMIT_BYTES = 200_000_000
SEEN = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")
"""One of each family; the other 11 are new to the student."""
LABELLED, PLACE, FIRST_OF_PLACES = 10_000, 2_500, 30_000
FRAMES = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("pictures", "device", "time", "collect"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.stage == "pictures":
        pictures(args.folder, args.data)
    elif args.stage == "device":
        for name in args.names:
            on_device(args.folder, name, args.data)
    elif args.stage == "time":
        take_turns(args.folder, args.names, args.data)
    else:
        collect(args.folder, args.names, args.out)
    return 0


def pictures(folder: Path, data: Path) -> None:
    """Training pictures alone, and none of them twice."""
    images = find_image_set(data)
    frames, labels = images.training()
    for place, (frame, label) in enumerate(zip(frames[:LABELLED], labels, strict=False)):
        inside = folder / "pictures" / images.classes[label]
        inside.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(inside / f"{place:05}.png")
    (folder / "names.txt").write_text("\n".join(images.classes) + "\n", encoding="utf-8")
    np.savez(folder / "source.npz", x_train=frames[:LABELLED], y_train=labels[:LABELLED])
    parts = np.split(frames[FIRST_OF_PLACES : FIRST_OF_PLACES + PLACE * len(SEEN)], len(SEEN))
    named = zip(SEEN, parts, strict=True)
    np.save(folder / "places.npy", np.concatenate([corrupt(part, name, severity=5, seed=100) for name, part in named]))


def on_device(folder: Path, name: str, data: Path) -> None:
    """FOLDER/NAME-device.json."""
    found: dict[str, Any] = {"environment": asdict(read_environment(threads=1))}
    for way, options in (("follows", ()), ("learns", ("--learning", "on"))):
        found[way] = run(folder / f"{name}.ecotta", data, FRAMES, options)
    batches = folder / f"{name}-batches.ecotta"
    found["batches"] = {}
    sizes = sorted({graph.batch for graph in read_bundle(batches).manifest.graphs})
    for size in sizes:
        tried = run(batches, data, FRAMES, ("--learning", "on", "--batch", str(size), "--guard", "off"))
        found["batches"][size] = tried
        if tried["killed"] or tried["exit"]:
            break
    (folder / f"{name}-device.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(name, json.dumps({key: value for key, value in found.items() if key != "environment"}), flush=True)


def run(bundle: Path, data: Path, count: int, options: Sequence[str]) -> dict[str, Any]:
    """One `ecotta run` in a group: its processor time, the peaks of group and process, and how many it learned from."""
    command = [sys.executable, "-m", "ecotta_rt", "run", str(bundle), f"replay:{data}:fog:5", "--limit", str(count)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with MemoryCage(LIMIT_BYTES) as cage:
        caged = cage.command([*command, "--no-state", "--threads", "1", *options])
        done = subprocess.run(caged, capture_output=True, text=True)
        record = cage.held()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answered = [line for line in map(json.loads, done.stdout.splitlines()) if "correct" in line]
    return {
        "exit": done.returncode,
        "killed": record.oom_kills,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "group_peak_bytes": record.peak_bytes,
        "frames": len(answered),
        "updates": sum(line["adapted"] for line in answered),
    }


def take_turns(folder: Path, names: Sequence[str], data: Path) -> None:
    """FOLDER/times.json: milliseconds a frame by network, answering and following the stream, and learning from it."""
    frames, _ = find_image_set(data).read("fog", 5, np.arange(FRAMES), 0)
    runtimes = {
        (name, way): Runtime.load(folder / f"{name}.ecotta", adapt=way == "learns", threads=1)
        for name in names
        for way in ("follows", "learns")
    }
    spent: dict[tuple[str, str], list[float]] = {each: [] for each in runtimes}
    for frame in frames:
        for each, runtime in runtimes.items():
            began = time.thread_time()
            (runtime if runtime.graph else runtime.predict)(frame[None])
            spent[each].append(1000 * (time.thread_time() - began))
    tenth = {name: {way: float(np.percentile(spent[name, way], 10)) for way in ("follows", "learns")} for name in names}
    (folder / "times.json").write_text(json.dumps(tenth, indent=1) + "\n", encoding="utf-8")
    print(tenth)


def collect(folder: Path, names: Sequence[str], out: Path) -> None:
    """All figures in one file."""
    rows = {name: collected(folder, name) for name in names}
    about = {"limit_bytes": LIMIT_BYTES, "seen": SEEN, "labelled": LABELLED, "of_each_place": PLACE, "frames": FRAMES}
    facts = {"schema": 1, "measured": "student-story", "about": about, "rows": rows}
    out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def collected(folder: Path, name: str) -> dict[str, Any]:
    """Of one network: errors by protocol and seed, memory and time."""
    times = json.loads((folder / "times.json").read_text(encoding="utf-8"))[name]
    device = json.loads((folder / f"{name}-device.json").read_text(encoding="utf-8"))
    streams, peak = (folder / f"{name}-{kind}.json" for kind in ("streams", "peak"))
    errors: dict[str, dict[str, Any]] = {}
    for row in _rows(streams):
        for answer, found in row["answers"].items():
            by_name = found["by_corruption"]
            errors.setdefault(f"{row['protocol']}, {answer}", {})[str(row["seed"])] = {
                "all": found["error_percent"],
                "seen": float(np.mean([by_name[each] for each in SEEN])),
                "new": float(np.mean([value for each, value in by_name.items() if each not in SEEN])),
            }
    told = folder / f"{name}.json"
    trained: Mapping[str, Any] = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
    return {
        "errors": errors,
        "process_peak_bytes": max(row["process_peak_bytes"] for row in _rows(peak if peak.exists() else streams)),
        "agreement": trained["history"][-1].get("agreement") if trained else None,
        "epochs": trained.get("epochs"),
        "ms_per_frame": times,
        **device,
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["method"] == "ecotta-k4-followed"]


if __name__ == "__main__":
    sys.exit(main())
