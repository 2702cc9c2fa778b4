"""What a simulation of Flower takes on this machine: 50 nodes on Ray, 5 of them lost in each of 3 rounds.

    python benchmarks/measure_flower.py        some minutes; writes benchmarks/results/flower.json

It runs examples/fleet/simulate.sh, which ends with 1 where the merged state is not, bit for bit, what `ecotta merge`
makes of the same files. In an environment with '.[fleet]' and 'flwr[simulation]'. Memory is that of all processes
together, shared pages counted once (PSS), sampled each second; making the states is not in it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import psutil

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.files.atomic import write_atomic

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLE = REPOSITORY / "examples" / "fleet"
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=50)
    parser.add_argument("--lost", type=int, default=5, help="nodes that fail in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2, help="of Ray")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "flower.json")
    args = parser.parse_args()
    settings = {"BOARDS": args.boards, "LOST": args.lost, "ROUNDS": args.rounds, "CPUS": args.cpus}
    with tempfile.TemporaryDirectory() as folder:
        states = Path(folder, "states")
        boards = ["--boards", str(args.boards)]
        subprocess.run([sys.executable, EXAMPLE / "make_states.py", states, *boards], check=True)
        mib = sum(path.stat().st_size for path in states.iterdir()) / MIB
        found = simulated(Path(folder), {name: str(value) for name, value in settings.items()})
    report = {
        "measured": "flower",
        "environment": asdict(read_environment(1)),
        "versions": {name: version(name) for name in ("flwr", "ray")},
        "settings": {name.lower(): value for name, value in settings.items()},
        "states_mib": round(mib, 1),
        **found,
    }
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    print(json.dumps(report, indent=1))


def simulated(folder: Path, settings: dict[str, str]) -> dict[str, object]:
    """Seconds, seconds of all cores, and the most memory of all processes that simulate.sh starts."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    began_s, load = time.monotonic(), os.getloadavg()[0]
    script = [str(EXAMPLE / "simulate.sh"), str(folder)]
    with (folder / "told").open("w") as told:
        process = psutil.Popen(script, env={**os.environ, **settings, "PATH": path}, stdout=told, stderr=told)
        peak, cpu_s = 0, {}
        while process.poll() is None:
            sizes = []
            # Some outlive their parents, so that no tree has them; all have this folder in their environment.
            for one in psutil.process_iter():
                try:
                    if one.environ().get("FLWR_HOME") == str(folder / "flwr"):
                        sizes.append(one.memory_full_info().pss)
                        cpu_s[one.pid] = sum(one.cpu_times()[:2])
                except psutil.Error:
                    continue
            peak = max(peak, sum(sizes))
            time.sleep(1.0)
    text = (folder / "told").read_text(encoding="utf-8")
    same = re.search(r"states of \d+ nodes: the same \d+ bytes", text)
    if process.returncode or same is None:
        sys.exit(f"{text}\n{(folder / 'superlink.log').read_text(encoding='utf-8')[-5000:]}")
    return {
        "load": load,
        "seconds": round(time.monotonic() - began_s, 1),
        "cpu_seconds": round(sum(cpu_s.values()), 1),
        "peak_mib": round(peak / MIB),
        "strategy_seconds": [float(s) for s in re.findall(r"Strategy execution finished in ([\d.]+)s", text)],
        "same_bytes": True,
    }


if __name__ == "__main__":
    main()
