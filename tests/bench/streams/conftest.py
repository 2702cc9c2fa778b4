"""What the tests of the streams share: real frames from the embedded sample."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ecotta_rt.bench.streams.fashion_mnist import read_fashion_mnist

SAMPLE = Path(__file__).parents[3] / "benchmarks" / "data" / "fashion-mnist-sample"


@pytest.fixture(scope="session")
def fashion_frames() -> NDArray[np.uint8]:
    """Twelve frames of the embedded sample, tinted so that the channels differ; uint8 `[12, 32, 32, 3]`."""
    frames = read_fashion_mnist(SAMPLE, "t10k")[0][:12]
    return (frames * np.array([1.0, 0.8, 0.5]) + np.array([0, 20, 60])).astype(np.uint8)
