"""Test vectors for another implementation: what Python's runtime answers and learns, frame by frame.

    python make_vectors.py net.ecotta vectors.json

Arrays are base64 of little-endian numbers: `picture` uint8 [*size, 3], RGB, and `pixels` what it becomes, uint8
[height, width, channels]; everything else float32. After each step: the probabilities, whether it learned, and the
three vectors of the state. The bundle needs a step of one frame.
"""

import base64
import json
import sys

import numpy as np

from ecotta_rt import Runtime
from ecotta_rt.bundle import read_bundle
from ecotta_rt.runtime.preprocess import preprocess


def text(array):
    """base64 of an array's bytes."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


path, target = sys.argv[1:]
manifest = read_bundle(path).manifest
frame, layout = manifest.frame, manifest.layout
runtime = Runtime.load(path, batch=1)
rng = np.random.default_rng(0)
steps = []
for height, width in ((frame.height, frame.width), (120, 160), (33, 20), (frame.height // 2, 250), (7, 5)):
    low, high = np.sort(rng.integers(0, 256, (2, 3)), axis=0)
    picture = rng.integers(low, high + 1, (height, width, 3)).astype(np.uint8)
    pixels = preprocess(picture, frame)
    prediction = runtime(pixels[None])
    vectors = dict(zip(("parameters", "momentum", "statistics"), map(text, layout.pack(runtime.state)), strict=True))
    shown = {"size": [height, width], "picture": text(picture), "pixels": text(pixels)}
    answer = {"probabilities": text(prediction.probabilities), "adapted": prediction.adapted}
    steps.append({**shown, **answer, **vectors})
with open(target, "w", encoding="utf-8") as file:
    json.dump({"graph": runtime.graph, "steps": steps}, file)
