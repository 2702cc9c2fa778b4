"""JSON lines and CSV of a daemon: appended to, mended, and never broken by the name of a class or a camera."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.events import Answer, GuardStep, Reloaded, Stamped
from ecotta_rt.machine.clock import SystemClock
from ecotta_rt.records import Level
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.csv_lines import COLUMNS, CsvOptions, csv_line
from ecotta_rt.sinks.json_lines import JsonLinesOptions, json_line
from ecotta_rt.sinks.kinds import sink_kind
from ecotta_rt.sinks.lines import LineOptions
from fixtures.events import EVENTS
from fixtures.heard import Heard

ANSWER = Answer(3, "a.png", "cat", 1, 0.75, 0.5, True, "adapted", 12.5, 2)
CONTEXT = SinkContext(report=Heard(), stopping=lambda: False, clock=SystemClock())

HOSTILE = (
    "a\nb",
    "\x1b[2J",
    "../x",
    "#+/",
    "\"'",
    "=1+1",
    "@SUM(A1)",
    "\uff1dcmd",
    "-2",
    "\t=1",
    "caf\udce9",
    "\0",
    "",
)


def opened(kind, options):
    return sink_kind(kind).opens(options, "log", CONTEXT)


def stamped(event, camera="door"):
    return Stamped(event, 1795915425.678, 12.25, camera)


def rows(text):
    return [*csv.reader(io.StringIO(text, newline=""))]


def test_a_file_of_json_lines_is_appended_to_after_its_torn_last_line_is_cut_off(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text('{"frame": 0}\n{"fra')
    sink = opened("json-lines", JsonLinesOptions(file=str(path)))
    sink.take(stamped(ANSWER))
    sink.take(stamped(Reloaded(), None))
    sink.close()
    sink.close()
    sink.take(stamped(ANSWER))

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("frame", line.get("event")) for line in lines] == [0, 3, "reloaded"]
    assert lines[1]["camera"] == "door"


@pytest.mark.parametrize("kind", ["json-lines", "csv"])
@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 a bundle", b'[network]\nbundle = "a"', b'{"model": 1}', b"\0\0\n", b"\n"]
)
def test_a_file_that_somebody_else_wrote_is_refused_and_stays_as_it_is(tmp_path, kind, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    options = sink_kind(kind).options(file=str(path), rotate_size="1B")

    with pytest.raises(UsageError, match="left as it is: it does not begin like a file of this output"):
        sink_kind(kind).checks(options, "log")
    with pytest.raises(TransferError, match="name another, or move it away"):
        opened(kind, options)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", content)]


@pytest.mark.parametrize("kind", ["json-lines", "csv"])
def test_a_file_in_whose_place_an_older_one_would_be_put_is_neither_moved_nor_removed(tmp_path, kind):
    (tmp_path / "file.1").write_bytes(b"a film")
    sink = opened(kind, sink_kind(kind).options(file=str(tmp_path / "file"), rotate_size="1B", keep=1))
    sink.take(stamped(ANSWER))

    with pytest.raises(TransferError, match=r"file\.1 is left as it is"):
        sink.take(stamped(ANSWER))
    sink.close()
    assert (tmp_path / "file.1").read_bytes() == b"a film"


@pytest.mark.parametrize("kind", ["json-lines", "csv"])
@pytest.mark.parametrize("length", [0, 1, 5, 30])
def test_a_file_of_ours_that_a_power_cut_left_with_a_torn_first_line_goes_on(tmp_path, kind, length):
    path = tmp_path / "file"
    for _ in range(2):
        sink = opened(kind, sink_kind(kind).options(file=str(path)))
        sink.take(stamped(ANSWER))
        sink.close()
        whole, torn = path.read_bytes(), path.read_bytes()[:length]
        path.write_bytes(torn)
    sink = opened(kind, sink_kind(kind).options(file=str(path)))
    sink.take(stamped(ANSWER))
    sink.close()

    assert path.read_bytes() == whole


@pytest.mark.parametrize("kind", ["json-lines", "csv"])
def test_without_a_file_lines_go_to_standard_output(kind, capsys):
    options = sink_kind(kind).options()
    sink = opened(kind, options)
    sink.take(stamped(ANSWER))
    sink.close()

    assert capsys.readouterr().out.splitlines()[-1] == (json_line if kind == "json-lines" else csv_line)(
        stamped(ANSWER)
    )


def test_lines_go_into_a_pipe_and_are_not_put_aside(tmp_path):
    with open("/dev/null", "w") as null:
        sink = opened("json-lines", JsonLinesOptions(file=f"/proc/self/fd/{null.fileno()}", rotate_size="1B"))
        sink.take(stamped(ANSWER))
        sink.close()


def test_a_csv_file_has_a_header_and_always_the_same_columns(tmp_path):
    path = tmp_path / "out.csv"
    for _ in range(2):  # a restart
        sink = opened("csv", CsvOptions(file=str(path)))
        for event in EVENTS:
            sink.take(event if isinstance(event, Stamped) else stamped(event))
        sink.close()

    header, *lines = rows(path.read_text())
    assert header == [*COLUMNS]
    assert {len(line) for line in lines} == {len(COLUMNS)}
    assert lines[0] != header, "once"


def test_a_csv_row_holds_what_the_event_has_beside_the_columns_as_json():
    (row,) = rows(csv_line(stamped(GuardStep(3, Level.FULL, Level.STATISTICS, "limit", 261, 200))))
    values = dict(zip(COLUMNS, row, strict=True))

    assert (values["event"], values["frame"], values["why"]) == ("guard", "3", "limit")
    assert json.loads(values["details"]) == {
        "from": "full",
        "to": "statistics",
        "usage_bytes": 261,
        "limit_bytes": 200,
    }


def test_of_an_answer_the_cells_are_plain():
    (row,) = rows(csv_line(stamped(replace(ANSWER, top=(("cat", 0.75),)))))
    values = dict(zip(COLUMNS, row, strict=True))

    assert (values["event"], values["label"], values["probability"], values["adapted"]) == (
        "answer",
        "cat",
        "0.75",
        "true",
    )
    assert json.loads(values["top"]) == [["cat", 0.75]]
    assert values["details"] == values["truth"] == ""


@given(st.sampled_from(HOSTILE) | st.text(max_size=20), st.sampled_from(HOSTILE) | st.text(max_size=20))
def test_a_hostile_class_or_camera_breaks_neither_lines_nor_columns_and_is_no_formula(label, camera):
    event = stamped(replace(ANSWER, label=label), camera)
    line = csv_line(event)
    (row,) = rows(line)

    assert line.isprintable(), "so it is one line, and no terminal obeys it"
    assert len(row) == len(COLUMNS)
    for cell in row:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))
    printed = json_line(event)
    assert printed.isascii() and printed.isprintable()
    json.loads(printed)


@pytest.mark.parametrize("kind", ["json-lines", "csv"])
def test_what_no_later_try_would_mend_is_said_before_the_start(kind, tmp_path):
    checks = sink_kind(kind).checks

    checks(LineOptions(file=str(tmp_path / "out")), "log")
    checks(LineOptions(), "log")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="output log: file .*/out: there is no folder"):
        checks(LineOptions(file=str(tmp_path / "no" / "out")), "log")
    with pytest.raises(UsageError, match="this is a folder"):
        checks(LineOptions(file=str(tmp_path)), "log")


FULL = """
import resource, sys
from ecotta_rt.events import EventsDropped, SinkBack, SinkFailed, SourceBack
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.json_lines import JsonLinesOptions
from ecotta_rt.sinks.outlet import open_outlet
from fixtures.heard import Heard

clock, told, hard = ManualClock(), Heard(), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
options = JsonLinesOptions(file=sys.argv[1], queue=100)
output = open_outlet("json-lines", "log", options, SinkContext(told, lambda: False, clock))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for number in range(50):
    output.take(SourceBack(number, "camera"))
told.wait_for(lambda events: events)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
clock.advance_s(60)
output.take(SourceBack(50, "camera"))
told.wait_for(lambda events: len(events) == 2)
output.close(30)
failed, back = told.events
assert isinstance(failed, SinkFailed) and "cannot be written: File too large" in failed.why, failed
assert back == SinkBack("log", 1), back
assert output.lost == 1
"""


def test_a_full_disk_is_told_and_all_goes_on_with_whole_lines_when_there_is_room(tmp_path, checkout):
    path = tmp_path / "out.jsonl"
    subprocess.run(
        [sys.executable, "-c", FULL, str(path)], check=True, timeout=60, env={"PYTHONPATH": f"{checkout}/tests"}
    )

    frames = [json.loads(line)["frame"] for line in path.read_text().splitlines()]
    (lost,) = {*range(51)} - {*frames}
    assert frames == [number for number in range(51) if number != lost]
