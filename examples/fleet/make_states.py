"""Boards that have adapted: each to one of 15 corruptions, with the network and the pictures of `ecotta demo`.

python make_states.py FOLDER --boards 50 --frames 10
"""

import argparse
from pathlib import Path

from ecotta_rt import Runtime
from ecotta_rt.demo.shipped import read_stream, unpacked_bundle
from ecotta_rt.fleet.folder import state_path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path, help="where to: a file NUMBER-CORRUPTION.state.safetensors for each board")
parser.add_argument("--boards", type=int, default=50)
parser.add_argument("--frames", type=int, default=10, help="that each has seen")
arguments = parser.parse_args()

with unpacked_bundle() as bundle:
    runtime = Runtime.load(bundle)
    for board in range(arguments.boards):
        stream = read_stream(arguments.frames, seed=board + 1)
        place = board % len(stream.corruptions)
        runtime.reset()
        for frame in stream.frames[place]:
            runtime(frame[None])
        runtime.save_state(state_path(arguments.folder, f"{board:03d}-{stream.corruptions[place]}"))
