"""A bundle of version 4, whose graphs move the statistics themselves, runs as it did when it was made.

`fourth-version-running.npz` holds what the ecotta_rt of that time answered, and the statistics that it ended with.
"""

import lzma
from pathlib import Path

import numpy as np
import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.bundle.manifest import Manifest
from ecotta_rt.errors import UsageError
from ecotta_rt.runtime.engine import Runtime

STORED = Path(__file__).with_name("fourth-version-running.ecotta.xz")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    path = tmp_path_factory.mktemp("old") / "fourth.ecotta"
    path.write_bytes(lzma.decompress(STORED.read_bytes()))
    return path


@pytest.mark.parametrize("frame_by_frame", [False, True])
def test_it_answers_learns_and_moves_its_statistics_as_it_did(old, tiny, frame_by_frame):
    runtime = Runtime.load(old, batch=2, frame_by_frame=frame_by_frame)
    found = []

    for seed in range(3):
        found.append(runtime(tiny.frames(2, seed)).probabilities)
        found.append(runtime.predict(tiny.frames(2, 10 + seed)).probabilities)
        found.append(runtime.predict(tiny.frames(2, 20 + seed), hold_statistics=True).probabilities)

    statistics = runtime.state.statistics
    with np.load(STORED.with_suffix("").with_suffix(".npz")) as then:
        np.testing.assert_allclose(found, then[f"probabilities_{frame_by_frame}"], atol=2e-5)
        after = np.concatenate([statistics[name] for name in sorted(statistics)])
        np.testing.assert_allclose(after, then[f"statistics_{frame_by_frame}"], rtol=1e-4, atol=1e-5)


def test_written_anew_it_still_says_that_its_graphs_move_them(old):
    manifest = read_bundle(old).manifest

    again = Manifest.from_json(manifest.to_json(), "again")

    assert again == manifest
    assert not again.ports.observes
    assert again.layout.held == () and again.adaptation == {}


def test_two_views_are_refused_since_the_mirror_image_would_move_its_statistics_too(old):
    with pytest.raises(UsageError, match="views=2: the graphs of this bundle move their statistics themselves"):
        Runtime.load(old, batch=2, views=2)
