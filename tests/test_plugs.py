"""Sources and sinks of others, from a package that is installed beside ours."""

import sys

import pytest

from ecotta_rt.cli.main import main
from ecotta_rt.errors import InputFileError, Unavailable, UsageError
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sinks.opening import check_sink, open_sink
from ecotta_rt.sources.images import Images
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.opening import open_camera, open_source
from ecotta_rt.sources.patience import unending

THEIRS = """
from ecotta_rt.sinks.sink import SinkPlug
from ecotta_rt.sources.source import SourcePlug

class Blank:
    dropped = 0
    def __init__(self, request):
        self.request = request
    def __iter__(self):
        yield from ()
    def close(self):
        pass

class Keep(list):
    take = list.append
    def close(self):
        pass

SOURCE = SourcePlug("blank:", lambda text: text.startswith("blank:"), lambda text, request: Blank(request))
LIVE = SourcePlug("live://", lambda text: text.startswith("live://"), lambda text, request: Blank(request), live=True)
SINK = SinkPlug("keep://", lambda text: text.startswith("keep://"), lambda text, stopping: Keep())
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a package with these entry points."""

    def install(points):
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        (tmp_path / "their_plugs.py").write_text(THEIRS)
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    sys.modules.pop("their_plugs", None)


SOURCES = "[ecotta_rt.sources]\nblank = their_plugs:SOURCE\nlive = their_plugs:LIVE\n"


def test_a_source_of_theirs_is_opened_and_where_it_is_live_the_newest_frame_wins(installed):
    installed(SOURCES)

    assert open_source("blank:x", classes=7).request.classes == 7
    assert type(open_source("live://x")) is Newest
    with pytest.raises(UsageError, match="--realtime is for films"):
        open_source("blank:x", realtime=True)


def test_a_camera_of_theirs_that_ends_is_opened_again_for_a_daemon(installed):
    installed(SOURCES)
    draws = iter([0.5, 1.0])
    kept = open_camera("live://x", unending(draw=lambda: next(draws)), clock=ManualClock()).source

    assert "not there (the stream ended" in next(iter(kept)).why
    assert not open_camera("blank:x", unending()).live


def test_a_sink_of_theirs_is_opened(installed):
    installed("[ecotta_rt.sinks]\nkeep = their_plugs:SINK\n")

    check_sink("--out", "keep://x", "pictures")

    assert open_sink("keep://x", lambda: False) == []


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module:PLUG", "No module named 'no_such_module'"),
        ("their_plugs:NOTHING", "has no attribute 'NOTHING'"),
        ("their_plugs:SINK", "it is a SinkPlug, expected a SourcePlug"),
    ],
)
def test_a_broken_plug_is_told_with_its_name_where_it_is_needed_and_nowhere_else(installed, tmp_path, value, why):
    installed(f"[ecotta_rt.sources]\nbad = {value}\n")

    with pytest.raises(Unavailable, match=f"the plug 'bad' of ecotta_rt.sources .*{why}.*remove the package theirs"):
        open_source("blank:x")
    (tmp_path / "1.npy").touch()
    assert type(open_source(str(tmp_path / "1.npy"))) is Images
    with pytest.raises(InputFileError, match="no such file or folder"):
        open_source("/mistyped/folder")


def test_a_sink_that_nobody_knows_is_a_usage_error_before_the_run(tmp_path, capsys):
    (tmp_path / "net.ecotta").write_text("1")

    assert main(["run", str(tmp_path / "net.ecotta"), str(tmp_path), "--out", "mqtt://user:secret@host/topic"]) == 2

    told = capsys.readouterr().err
    assert "mqtt://***@host/topic is no sink we know; a sink is FILE" in told
    assert "secret" not in told
