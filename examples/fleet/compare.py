"""Whether a simulation's merged state is, bit for bit, what `ecotta merge --robust` makes of the same files.

python compare.py FOLDER --round 3 --lost 5
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from fleet_app.client import lost_in

from ecotta_rt.fleet.folder import states_in

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path, help="of simulate.sh")
parser.add_argument("--round", type=int, required=True, help="the last one")
parser.add_argument("--lost", type=int, required=True, help="nodes that fail in each round")
arguments = parser.parse_args()

files = [*states_in(arguments.folder / "states").values()]
lost = lost_in(arguments.round, arguments.lost, len(files))
there = [str(file) for number, file in enumerate(files) if number not in lost]
said = json.loads((arguments.folder / "merged" / "round.json").read_text(encoding="utf-8"))
if (said["round"], said["states"], len(said["lost"])) != (arguments.round, len(there), arguments.lost):
    sys.exit(f"round {said['round']} had {said['states']} states and lost {said['lost']}; expected {len(there)} states")

expected = arguments.folder / "expected.state.safetensors"
subprocess.run([sys.executable, "-m", "ecotta_rt", "merge", *there, "--robust", "-o", str(expected)], check=True)
if expected.read_bytes() != (arguments.folder / "merged" / "merged-1.state.safetensors").read_bytes():
    sys.exit("the two differ")
print(f"{len(there)} states of {len(files)} nodes: the same {expected.stat().st_size} bytes as `ecotta merge` gives")
