"""Test vectors for another implementation: what Python's runtime answers and learns, frame by frame.

    python make_vectors.py net.ecotta vectors.json

Arrays are base64 of little-endian numbers: `pixels` uint8 [H, W, channels], everything else float32. After each step:
the probabilities, whether it learned, and the three vectors of the state. The bundle needs a step of one frame.
"""

import base64
import json
import sys

import numpy as np

from ecotta_rt import Runtime
from ecotta_rt.bundle import read_bundle


def text(array):
    """base64 of an array's bytes."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


path, target = sys.argv[1:]
frame = read_bundle(path).manifest.frame
layout = read_bundle(path).manifest.layout
runtime = Runtime.load(path, batch=1)
rng = np.random.default_rng(0)
steps = []
for _ in range(5):
    low, high = np.sort(rng.integers(0, 256, (2, frame.channels)), axis=0)
    pixels = rng.integers(low, high + 1, (1, frame.height, frame.width, frame.channels), np.uint8)
    prediction = runtime(pixels)
    vectors = dict(zip(("parameters", "momentum", "statistics"), map(text, layout.pack(runtime.state)), strict=True))
    step = {"pixels": text(pixels), "probabilities": text(prediction.probabilities), "adapted": prediction.adapted}
    steps.append({**step, **vectors})
with open(target, "w", encoding="utf-8") as file:
    json.dump({"graph": runtime.graph, "steps": steps}, file)
