"""A run without argparse, as another program puts it together."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.run import assembly
from ecotta_rt.run.assembly import opened
from ecotta_rt.run.options import RunOptions
from ecotta_rt.sinks.outlet import Outlet
from ecotta_rt.sinks.stamping import Stamping
from ecotta_rt.sources.images import Images
from ecotta_rt.sources.newest import Newest
from fixtures.kept import Kept


@pytest.fixture
def options(tmp_path, runtime, bundle):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        np.save(folder / f"{index}.npy", np.zeros((2, 2, 3), np.uint8))
    (folder / "notes.txt").touch()
    return {"bundle": bundle, "source": str(folder), "out": str(tmp_path / "o"), "no_state": True}


def ready(said, **options):
    return opened(RunOptions(**options), said.append, lambda: False, lambda tally: Kept())


def test_it_is_played_and_tells_what_came_of_it(options):
    said = []

    with ready(said, **options, trial="off", guard="off") as run:
        run.play()

    assert said[0] == f"{options['bundle']}: statistics held, answer filtered"
    assert said[1].endswith("not read, since they are no pictures: 1 .txt")
    assert said[2].startswith("3 frames, 0 dropped")
    assert run.tally.frames == 3
    assert [type(sink) for sink in run.sinks.sinks[1:]] == [Stamping, Kept], "nothing before a folder's answers drops"


def test_where_it_goes_on_from_is_said_once_the_source_is_there(options, tmp_path):
    said, options = [], {**options, "no_state": False, "state": tmp_path / "s", "trial": "off", "guard": "off"}
    with ready([], **options) as run:
        run.engine.save_state(options["state"])

    with pytest.raises(InputFileError), ready(said, **{**options, "source": str(tmp_path / "nosuch")}):
        pass
    assert said == []
    with ready(said, **options):
        assert said[1] == f"going on from {tmp_path / 's'} (--fresh starts anew)"


def test_the_outputs_of_a_live_source_stand_behind_queues(options, monkeypatch):
    monkeypatch.setattr(assembly, "open_source", lambda text, **_: Newest(Images(text)))
    with ready([], **options, trial="off", guard="off") as run:
        run.play()

    assert [type(sink) for sink in run.sinks.sinks[1:]] == [Outlet, Outlet]


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"limit": 0}, UsageError), ({"bundle": "folder"}, InputFileError), ({"device": "abacus"}, UsageError)],
)
def test_what_cannot_be_meant_is_refused_before_the_network_is_loaded(options, tmp_path, monkeypatch, changes, error):
    monkeypatch.setitem(sys.modules, "ecotta_rt.runtime.engine", SimpleNamespace())
    changes = {name: tmp_path if value == "folder" else value for name, value in changes.items()}

    with pytest.raises(error), ready([], **options | changes):
        pass
