"""Streams of corrupted test images: read, or made here.

    stream = open_stream("fashion-mnist-c", frames=192, seed=0)
    for segment in stream.segments:
        segment.corruption, segment.frames, segment.labels

Importing this loads numpy alone; scipy and Pillow are loaded when frames are corrupted. `download_cifar10c` is in its
own module, because it loads the network.
"""

from ecotta_rt.bench.streams.corruptions import CORRUPTIONS, corrupt
from ecotta_rt.bench.streams.stream import Segment, Stream, open_stream, source_frames

__all__ = ["CORRUPTIONS", "Segment", "Stream", "corrupt", "open_stream", "source_frames"]
