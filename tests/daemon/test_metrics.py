import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.daemon.http.board import BoardFacts
from ecotta_rt.daemon.http.camera_tally import BoardCamera
from ecotta_rt.daemon.http.metrics import METRICS, metrics_text
from ecotta_rt.events import BatchAnswered, EventsDropped, Signs, SourceLost, StateReturned
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Level
from fixtures.boards import Days, answer

UNITS = ("seconds", "bytes", "ratio", "celsius", "nats", "info", "total")


def parsed(text: str) -> dict[tuple, float]:
    """By Prometheus' own parser: (name, labels) -> value."""
    parser = pytest.importorskip("prometheus_client.parser")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def day(*names: str) -> Days:
    days = Days(
        *[BoardCamera(name) for name in names or ("door",)],
        read=lambda: Vitals(pss_bytes=90 * 2**20, available_bytes=2**30, temperature_c=51.5),
    )
    days.board.describe(BoardFacts("net.ecotta", "ab" * 32, 10, 200 * 2**20, 0.6))
    return days


def test_what_has_happened_is_what_prometheus_reads():
    days = day()
    for frame, latency_ms in enumerate((4.0, 30.0, 30.0)):
        days.take(BatchAnswered(1, 0, Level.SPARSE, True, True, "adapted"))
        days.take(answer(frame, latency_ms=latency_ms, dropped=5))
    days.take(SourceLost(3, "door", "gone"))
    days.take(StateReturned(3, "source", "asked for"))
    days.take(EventsDropped("mqtt", 7), None)
    days.take(Signs(3, 3, 0.25, 0.5, 0.3))

    found = parsed(metrics_text(days.board.snapshot()))

    door = ("camera", "door")
    assert found["ecotta_frames_total", door] == 3
    assert found["ecotta_frames_dropped_total", door, ("reason", "newer")] == 5
    assert found["ecotta_batches_adapted_total", door] == 3
    assert found["ecotta_latency_seconds_bucket", door, ("le", "0.005")] == 1
    assert found["ecotta_latency_seconds_bucket", door, ("le", "0.05")] == 3
    assert found["ecotta_latency_seconds_bucket", door, ("le", "+Inf")] == 3
    assert found["ecotta_latency_seconds_count", door] == 3
    assert found["ecotta_latency_seconds_sum", door] == pytest.approx(0.064)
    assert found["ecotta_camera_lost_total", door] == 1
    assert found["ecotta_camera_state", door, ("state", "lost")] == 1
    assert found["ecotta_camera_state", door, ("state", "live")] == 0
    assert found["ecotta_state_resets_total", door] == 1
    assert found["ecotta_sink_dropped_total", ("sink", "mqtt")] == 7
    assert found["ecotta_entropy_nats", door] == 0.5 and found["ecotta_gate_ratio", door] == 1.0
    assert found["ecotta_sign_entropy_ratio", door] == 0.25
    assert ("ecotta_sign_distance", door) not in found
    assert found["ecotta_guard_level",] == 1
    assert found["ecotta_memory_pss_bytes",] == 90 * 2**20 and found["ecotta_memory_limit_bytes",] == 200 * 2**20
    assert found["ecotta_temperature_celsius",] == 51.5


def test_a_daemon_that_has_just_begun_has_metrics_too():
    assert parsed(metrics_text(Days().board.snapshot()))["ecotta_frames_total", ("camera", "door")] == 0


@given(st.text(min_size=1).filter(lambda name: "\r" not in name))
def test_any_name_comes_back_as_it_was(name):
    text = metrics_text(day(name).board.snapshot())

    assert parsed(text)["ecotta_frames_total", ("camera", name)] == 0


def test_every_line_is_of_the_text_format():
    """A second look, by a grammar of our own, which needs no package."""
    days = day('a"b\\c\nd')
    days.take(answer(), 'a"b\\c\nd')
    label = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
    sample = rf"[a-zA-Z_:][\w:]*(?:\{{{label}(?:,{label})*\}})? (?:-?\d[\d.e+-]*|NaN|[+-]Inf)"
    comment = r"# (?:HELP [a-z_]+ [^\n]+|TYPE [a-z_]+ (?:counter|gauge|histogram))"

    text = metrics_text(days.board.snapshot())

    assert text.endswith("\n")
    assert [line for line in text[:-1].split("\n") if not re.fullmatch(f"{sample}|{comment}", line)] == []


def test_a_family_is_in_one_piece_and_no_sample_is_there_twice():
    text = metrics_text(day("door", "yard").board.snapshot())
    samples = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]

    assert len(samples) == len(set(samples)) and len(families) == len(set(families))


def test_names_say_their_unit_as_prometheus_asks():
    names = [metric.name for metric in METRICS]

    assert len(names) == len(set(names))
    assert all(re.fullmatch("ecotta_[a-z_]+", name) for name in names)
    assert all(metric.name.endswith("_total") == (metric.kind == "counter") for metric in METRICS)
    without = {name for name in names if not name.endswith(UNITS)}
    assert without == {
        f"ecotta_{name}"
        for name in ("camera_state", "camera_adapting", "camera_doubt", "sign_distance", "guard_level", "sink_failed")
    }


def test_labels_are_those_that_a_metric_declares():
    days = day()
    days.take(answer())
    days.take(Signs(0, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1))
    days.take(EventsDropped("mqtt", 7), None)
    snapshot = days.board.snapshot()

    for metric in METRICS:
        samples = list(metric.samples(snapshot))
        assert samples, metric.name
        assert all(tuple(labels) == metric.labels for labels, _ in samples), metric.name


def test_a_number_that_is_none_is_left_out():
    days = day()
    days.take(answer(entropy=math.nan))

    assert "ecotta_entropy_nats" not in metrics_text(days.board.snapshot())
