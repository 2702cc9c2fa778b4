"""A daemon's outputs and alerts, over a real network."""

import json

import numpy as np
import pytest

from ecotta_rt.daemon.configuration.config import Config, Output
from ecotta_rt.daemon.configuration.tables import CameraOptions, LogOptions, NetworkOptions, StateOptions
from ecotta_rt.daemon.daemon import Daemon
from ecotta_rt.daemon.log import Log
from ecotta_rt.sinks import outlet
from ecotta_rt.sinks.alert_rules import AlertRule
from ecotta_rt.sinks.camera_states import CameraState
from ecotta_rt.sinks.csv_lines import CsvOptions
from ecotta_rt.sinks.json_lines import JsonLinesOptions
from ecotta_rt.sinks.kinds import SinkKind, SinkOptions
from fixtures.heard import Heard


@pytest.fixture
def daemon(tmp_path, tiny):
    """Makes a daemon with one camera, a folder of five pictures."""
    (tmp_path / "pictures").mkdir()
    for index, frame in enumerate(tiny.frames(5)):
        np.save(tmp_path / "pictures" / f"{index}.npy", frame)

    def make(**tables):
        cameras = (CameraOptions("door", str(tmp_path / "pictures")),)
        config = Config(
            NetworkOptions(str(tiny.bundle("running"))), cameras, StateOptions(str(tmp_path / "state")), **tables
        )
        return Daemon(config, log=Log(LogOptions(level="error")))

    return make


def test_outputs_get_every_answer_and_event_and_alerts_with_time_and_camera(daemon, tmp_path):
    log, table = tmp_path / "log.jsonl", tmp_path / "answers.csv"
    rule = AlertRule(name="over", when="event", events=("ended",))
    sinks = (
        Output("json-lines", "log", JsonLinesOptions(file=str(log))),
        Output("csv", "csv", CsvOptions(file=str(table), events=("answer",))),
    )
    daemon(sinks=sinks, alert_rules=(rule,)).run()

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["frame"] for line in lines if "label" in line] == [0, 1, 2, 3, 4]
    assert all({"time", "monotonic_s", "camera"} <= line.keys() for line in lines if "label" in line)
    events = [line.get("event") for line in lines]
    assert events.index("ended") < events.index("alert")
    (alert,) = [line for line in lines if line.get("event") == "alert"]
    assert (alert["rule"], alert["camera"], alert["over"]) == ("over", "door", False)
    assert len(table.read_text().splitlines()) == 1 + 5


def test_an_output_can_know_how_each_camera_is(daemon, monkeypatch):
    opened = []
    kind = SinkKind("csv", SinkOptions, lambda options, name, context: opened.append(context) or Heard())
    monkeypatch.setattr(outlet, "sink_kind", lambda name: kind)

    daemon(sinks=(Output("csv", "any", SinkOptions(events=("drift",))),)).run()

    assert opened[0].states.cameras == ("door",)
    assert opened[0].states.of("door") == CameraState(available=False), "its folder has come to its end"
