"""The library on a device: answer a picture, learn from it, keep what was learned.

python docs/examples/use_runtime.py net.ecotta picture.png
"""

import sys

from ecotta_rt import Runtime
from ecotta_rt.runtime.preprocess import preprocess
from ecotta_rt.runtime.sources.opening import open_source

bundle, pictures = sys.argv[1:]
runtime = Runtime.load(bundle)
for frame in open_source(pictures):
    pixels = preprocess(frame.pixels, runtime.frame_size)  # uint8 [H, W, 3], brought to the network's size
    prediction = runtime(pixels[None])  # answered first, then learned from
    print(
        frame.name, runtime.class_names[prediction.labels[0]], f"{prediction.probabilities.max():.2f}", prediction.why
    )
runtime.save_state("adapted.safetensors")
