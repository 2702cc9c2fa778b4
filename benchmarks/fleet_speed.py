"""What merging a thousand states takes: processor seconds and the peak of memory, each way in processes of its own.

Processor seconds grow by half and more where other work shares caches and cores, so the least of three stands.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecotta_rt.bundle import read_bundle
from ecotta_rt.state import AdaptState, FramesBehind

__all__ = ["measure"]

COUNT, TIMES = 1000, 3
WAYS: Mapping[str, Mapping[str, Any]] = {
    "mean": {},
    "median": {"rule": "median"},
    "robust": {"robust": True},
    "robust, by trimmed mean": {"robust": True, "rule": "trimmed-mean"},
    "clusters": {"clusters": True},
}

# Nothing is imported that `ecotta merge` does not import.
_CHILD = """
import json, sys, time
from pathlib import Path
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import MergeOptions
states, options = sorted(Path(sys.argv[1]).glob("*.state.safetensors")), json.loads(sys.argv[2])
began = time.process_time()
merged = merge(states, MergeOptions(**options))
seconds = time.process_time() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"cpu_s": round(seconds, 2), "peak_mib": round(int(peak) / 1024, 1), "groups": len(merged.groups)}))
"""


def measure(
    bundle: Path, work: Path, add: Callable[[Mapping[str, Any], Callable[[], Mapping[str, Any]]], None]
) -> None:
    """A row for each way to merge `COUNT` states of the bundle's network."""
    folder = work / f"{bundle.stem}-{COUNT}"
    made(bundle, folder)
    for way, options in WAYS.items():
        add({"way": way, "states": COUNT}, lambda options=options: merged_in_a_process(folder, options))


def made(bundle: Path, folder: Path) -> None:
    """States around the bundle's own, in two kinds of place; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    state = read_bundle(bundle, verify=False).initial_state()
    for number in range(COUNT):
        path = folder / f"{number:05}.state.safetensors"
        if not path.exists():
            moved(state, number).save(path)


def moved(state: AdaptState, number: int) -> AdaptState:
    """As a board might have moved it: parameters by hundredths, statistics towards one of two places."""
    generator = np.random.default_rng(number)
    noise = {
        section: {
            name: array * (1 + 0.02 * generator.standard_normal(array.shape, np.float32))
            for name, array in getattr(state, section).items()
        }
        for section in ("parameters", "statistics")
    }
    if number % 2:
        noise["statistics"] = {
            name: 4 * array if name.endswith(".variance") else array for name, array in noise["statistics"].items()
        }
    return replace(state, **noise, metadata={**state.metadata, **FramesBehind(300, 150).metadata()})


def merged_in_a_process(folder: Path, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Processor seconds of the merge alone, the least of `TIMES`, and the peak of the whole process, the largest."""
    command = [sys.executable, "-c", _CHILD, str(folder), json.dumps(options)]
    answers = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(TIMES)]
    found = [json.loads(answer) for answer in answers]
    return {
        "cpu_s": min(one["cpu_s"] for one in found),
        "peak_mib": max(one["peak_mib"] for one in found),
        "groups": found[0]["groups"],
    }
