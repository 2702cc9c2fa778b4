r"""A daemon left to itself: does its memory grow, does it leak threads or descriptors, are all frames accounted for?

    ecotta prepare resnet-20 --checkpoint resnet20.th --data $ECOTTA_DATA/cifar-10-batches-bin --frames 20000 \
        --epochs 2 --out small
    python benchmarks/measure_soak.py small.ecotta --minutes 60

Starts `ecotta serve` with four made-up cameras at 5 frames a second each: one that is sound, one that is lost each
minute, one that sends rubbish, and one whose weather changes all the time. Every five minutes it is told to read its
configuration again, in which a camera's options have changed; each minute the file of one of two outputs is moved
away. At the end it is told to stop. Written to benchmarks/results/soak.json, once a minute and at the end, so that a
run that is interrupted is told as far as it went.

Frames are counted by what the daemon writes: positions in a camera's stream against answers, refusals, losses, and what
each line says was dropped until then.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.files.atomic import write_atomic

MIB = 2**20
FPS = 5
SETTLING_S = 120.0
SAMPLE_S, RELOAD_S, MOVE_S, WRITE_S = 10.0, 300.0, 60.0, 60.0
CAMERAS = {"sound": "", "lost": f"&lose={60 * FPS}", "rubbish": "&rubbish=50", "weather": "&weather=20&stay=5"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "soak.json")
    args = parser.parse_args(argv)
    about = {
        "bundle": args.bundle.name,
        "sha256": sha256_of(args.bundle),
        "cameras": {name: f"fps={FPS}&size=64x64{broken}" for name, broken in CAMERAS.items()},
        "environment": asdict(read_environment(1)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for samples, lines in watched(args.bundle.resolve(), Path(folder), 60 * args.minutes):
            report = {"measured": "soak", "about": about, **summary(samples), "frames": frames_of(lines)}
            write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    print(args.out.read_text(encoding="utf-8"))
    return 0


def configuration(bundle: Path, folder: Path, turn: int) -> str:
    """Each turn one camera's options are others."""
    cameras = "".join(
        f'[[camera]]\nname = "{name}"\nsource = "synthetic:{name}?fps={FPS}&size=64x64{broken}"\n'
        f"top = {turn % 3 if name == 'weather' else 0}\n"
        for name, broken in CAMERAS.items()
    )
    outputs = "".join(
        f'[[sink]]\nkind = "json-lines"\nname = "{name}"\nfile = "{folder / name}.jsonl"\nrotate_size = "1GiB"\n'
        for name in ("kept", "moved")
    )
    return (
        f'config_version = 1\n[network]\nbundle = "{bundle}"\nthreads = 1\n[state]\nfolder = "{folder / "state"}"\n'
        f'every_s = 30\n[log]\nlevel = "warning"\n{cameras}{outputs}'
    )


def watched(bundle: Path, folder: Path, seconds: float) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Run it; each minute and at the end what was sampled and what the daemon has written."""
    path, turn = folder / "soak.toml", 0
    path.write_text(configuration(bundle, folder, turn), encoding="utf-8")
    daemon = subprocess.Popen([sys.executable, "-m", "ecotta_rt", "serve", str(path)])
    begun_s = time.monotonic()
    samples: list[dict[str, Any]] = []
    due = {"sample": SAMPLE_S, "reload": RELOAD_S, "move": MOVE_S, "write": WRITE_S}
    try:
        while (now_s := time.monotonic() - begun_s) < seconds and daemon.poll() is None:
            if now_s >= due["sample"]:
                due["sample"] += SAMPLE_S
                samples.append(sample(daemon.pid, now_s))
            if now_s >= due["move"]:
                due["move"] += MOVE_S
                (folder / "moved.jsonl").rename(folder / "moved.jsonl.1")
            if now_s >= due["reload"]:
                due["reload"] += RELOAD_S
                turn += 1
                path.write_text(configuration(bundle, folder, turn), encoding="utf-8")
                daemon.send_signal(signal.SIGHUP)
            if now_s >= due["write"]:
                due["write"] += WRITE_S
                yield samples, read(folder / "kept.jsonl")
            time.sleep(0.5)
    finally:
        daemon.send_signal(signal.SIGTERM)
        ended_s = time.monotonic()
        code = daemon.wait(30)
    samples.append({"seconds": round(now_s, 1), "exit_code": code, "ended_in_s": round(time.monotonic() - ended_s, 2)})
    yield samples, read(folder / "kept.jsonl")


def sample(pid: int, now_s: float) -> dict[str, Any]:
    process = psutil.Process(pid)
    memory = process.memory_full_info()
    with process.oneshot():
        return {
            "seconds": round(now_s, 1),
            "pss_mib": round(memory.pss / MIB, 2),
            "private_mib": round(memory.uss / MIB, 2),  # the rest of PSS depends on who else has the libraries
            "threads": process.num_threads(),
            "descriptors": process.num_fds(),
            "cpu_s": round(sum(process.cpu_times()[:2]), 1),
        }


def read(path: Path) -> list[dict[str, Any]]:
    content = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith("\n")]


def summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The samples after the start, thinned to one a minute, and what there is to say of all of them."""
    end = [one for one in samples if "exit_code" in one]
    later = [one for one in samples if "pss_mib" in one and one["seconds"] >= SETTLING_S]
    if not later:
        return {"end": end, "samples": samples}
    half = len(later) // 2
    ranges = {
        name: [min(one[name] for one in later), max(one[name] for one in later)]
        for name in ("pss_mib", "private_mib", "threads", "descriptors")
        if name in later[0]
    }
    halves = [mean(later[:half] or later, "pss_mib"), mean(later[half:], "pss_mib")]
    every = round(60 / SAMPLE_S)
    return {
        "minutes": round(samples[-1]["seconds"] / 60, 1),
        "range_after_two_minutes": ranges,
        "pss_mib_mean_of_halves": halves,
        "pss_mib_growth": round(halves[1] - halves[0], 2),
        "cpu_percent_of_a_core": round(100 * later[-1]["cpu_s"] / later[-1]["seconds"], 1),
        "end": end,
        "samples": later[::every],
    }


def mean(samples: list[dict[str, Any]], name: str) -> float:
    return round(sum(one[name] for one in samples) / len(samples), 2)


def frames_of(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each camera: positions in its stream up to the last answer, and what became of them; and all other events."""
    found: dict[str, Any] = {}
    for camera in CAMERAS:
        of_camera = [line for line in lines if line.get("camera") == camera]
        answers = [line for line in of_camera if kind_of(line) == "answer"]
        if not answers:
            continue
        last = answers[-1]
        positions = {line["frame"] for line in of_camera if "frame" in line and is_position(line)}
        before_last = {position for position in positions if position <= last["frame"]}
        found[camera] = {
            "positions": last["frame"] + 1,
            "answered": len(answers),
            "refused_or_lost": len(before_last) - len(answers),
            "dropped": last["dropped"],
            "not_counted": last["frame"] + 1 - len(before_last) - last["dropped"],
        }
    found["events"] = Counter(map(kind_of, lines))
    return found


def kind_of(line: dict[str, Any]) -> str:
    kind: str = line.get("event", "refused" if "refused" in line else "answer")
    return kind


def is_position(line: dict[str, Any]) -> bool:
    """Whether a line is of a position of its own: others name the frame after which they happened."""
    return kind_of(line) in ("answer", "refused", "camera-lost")


if __name__ == "__main__":
    sys.exit(main())
