"""The library on a device: answer a picture, learn from it, keep what was learned.

python docs/examples/use_runtime.py net.ecotta picture.png
"""

import sys

from ecotta_rt import Frame, Runtime, open_source

bundle, pictures = sys.argv[1:]
runtime = Runtime.load(bundle)
for frame in open_source(pictures):
    if not isinstance(frame, Frame):  # a picture that cannot be read: its name, and why
        print(f"{frame.name}: {frame.why}")
        continue
    pixels = runtime.preprocess(frame.pixels)  # uint8 [H, W, 3], cut and resized as the bundle says
    prediction = runtime(pixels[None])  # answered first, then learned from
    label, probability = runtime.class_names[prediction.labels[0]], prediction.probabilities.max()
    print(f"{frame.name}: {label}, {100 * probability:.0f} %, {prediction.why}")
runtime.save_state("adapted.safetensors")
