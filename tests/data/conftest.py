"""Pictures to read."""

import numpy as np
import pytest


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
