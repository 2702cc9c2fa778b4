"""States of a small network, as boards make them."""

import numpy as np
import pytest

from ecotta_rt.fleet.sources import StateBytes
from ecotta_rt.state import AdaptState, FramesBehind

SHAPES = {"groups.0.conv.weight": (2, 3, 3, 3), "groups.0.norm.weight": (2,)}
NORMS = {"bn1": 3, "groups.0.norm": 2}
NETWORK = "ab" * 32


def state(seed=0, place=0.0, followed=100, learned=10, network=NETWORK, **changes):
    """A board that began at the same weights; `place` moves its statistics by standard deviations."""
    own, weights = np.random.default_rng(seed), np.random.default_rng(1000)
    values = {name: weights.normal(size=shape) + 0.05 * own.normal(size=shape) for name, shape in SHAPES.items()}
    parameters = {name: array.astype(np.float32) for name, array in values.items()}
    statistics = {}
    for norm, channels in NORMS.items():
        statistics[f"{norm}.mean"] = (place + 0.05 * own.normal(size=channels)).astype(np.float32)
        statistics[f"{norm}.variance"] = (1 + 0.05 * own.random(channels)).astype(np.float32)
    sections = {
        "parameters": parameters,
        "momentum": {name: np.ones_like(array) for name, array in parameters.items()},
        "statistics": statistics,
        "network_digest": network,
        "metadata": {"kernel": "3", "board": str(seed), **FramesBehind(followed, learned).metadata()},
        "adaptation": {"filter.beliefs": np.full((2, 2), 0.5, np.float32)},
    }
    return AdaptState(**{**sections, **changes})


def sent(*states):
    """As if boards had sent them."""
    return [StateBytes(f"board-{place}", one.to_bytes()) for place, one in enumerate(states)]


@pytest.fixture
def fleet(tmp_path):
    """Five boards' files."""
    for seed in range(5):
        state(seed).save(tmp_path / f"{seed}.state.safetensors")
    return sorted(tmp_path.glob("*.state.safetensors"))
