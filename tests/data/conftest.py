"""Pictures to read, and real frames from the embedded sample."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ecotta_rt.data.fashion_mnist import read_fashion_mnist

SAMPLE = Path(__file__).parents[2] / "benchmarks" / "data" / "fashion-mnist-sample"


@pytest.fixture
def make_picture():
    """A function that writes a picture of noise, or of the pixels given, and returns them."""
    image = pytest.importorskip("PIL.Image")

    def make(path, size=(6, 8), *, pixels=None, seed=0, **options):
        if pixels is None:
            pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels).save(path, **options)
        return pixels

    return make


@pytest.fixture(scope="session")
def fashion_frames() -> NDArray[np.uint8]:
    """Twelve frames of the embedded sample, tinted so that the channels differ; uint8 `[12, 32, 32, 3]`."""
    frames = read_fashion_mnist(SAMPLE, "t10k")[0][:12]
    return (frames * np.array([1.0, 0.8, 0.5]) + np.array([0, 20, 60])).astype(np.uint8)
