"""A snapshot of the board in the words of Prometheus: text format 0.0.4.

Names end in their unit, in base units (seconds, bytes), counters in `_total`. A value that is not known is left out.

Source: prometheus.io, "Exposition formats" and "Metric and label naming".
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Snapshot = Mapping[str, Any]
Labels = dict[str, str]
Samples = Iterable[tuple[Labels, Any]]

_STATES = ("waiting", "live", "silent", "lost", "ended")


@dataclass(frozen=True)
class Metric:
    """A family of samples.

    Attributes:
        name: In full.
        kind: Its type.
        help: A sentence.
        labels: Their names.
        samples: Finds them in a snapshot; of a histogram, what `_buckets` takes.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Snapshot], Samples]


def metrics_text(snapshot: Snapshot) -> str:
    """All metrics of a snapshot; those that have no value now are left out.

    Args:
        snapshot: From `Board.snapshot`.
    """
    return "".join(line for metric in METRICS for line in _family(metric, snapshot))


def _family(metric: Metric, snapshot: Snapshot) -> list[str]:
    lines = [
        line
        for labels, value in metric.samples(snapshot)
        if value is not None
        for line in (_buckets if metric.kind == "histogram" else _line)(metric.name, labels, value)
    ]
    help_text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    return [f"# HELP {metric.name} {help_text}\n", f"# TYPE {metric.name} {metric.kind}\n", *lines] if lines else []


def _line(name: str, labels: Labels, value: float) -> Iterator[str]:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    yield f"{name}{{{inside}}} {_number(value)}\n" if inside else f"{name} {_number(value)}\n"


def _buckets(name: str, labels: Labels, latency: Mapping[str, Any]) -> Iterator[str]:
    total = 0
    for bound, count in zip((*latency["bounds_s"], math.inf), latency["counts"], strict=True):
        total += count
        yield from _line(f"{name}_bucket", {**labels, "le": _number(bound)}, total)
    yield from _line(f"{name}_sum", labels, latency["sum_s"])
    yield from _line(f"{name}_count", labels, total)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


# Where the samples are


def _one(*path: str) -> Callable[[Snapshot], Samples]:
    """One sample of the process."""
    return lambda snapshot: [({}, _at(snapshot, path))]


def _at(values: Any, path: Iterable[str]) -> Any:
    for key in path:
        values = None if values is None else values[key]
    return values


def _each_camera(*path: str) -> Callable[[Snapshot], Samples]:
    """A sample a camera."""
    return lambda snapshot: [({"camera": one["name"]}, _at(one, path)) for one in snapshot["cameras"]]


def _each_sink(key: str) -> Callable[[Snapshot], Samples]:
    return lambda snapshot: [({"sink": sink["name"]}, sink[key]) for sink in snapshot["sinks"]]


def _drops(snapshot: Snapshot) -> Samples:
    for one in snapshot["cameras"]:
        for reason, count in one["dropped"].items():
            yield {"camera": one["name"], "reason": reason}, count


def _states(snapshot: Snapshot) -> Samples:
    for one in snapshot["cameras"]:
        for state in _STATES:
            yield {"camera": one["name"], "state": state}, int(one["state"] == state)


def _reloads(snapshot: Snapshot) -> Samples:
    yield {"result": "done"}, snapshot["counts"]["reloads"]
    yield {"result": "refused"}, snapshot["counts"]["reloads_refused"]


def _build(snapshot: Snapshot) -> Samples:
    network = snapshot["network"] or {"network": "", "digest": ""}
    labels = {"version": snapshot["ecotta_rt"], "network": network["network"], "digest": network["digest"][:12]}
    yield labels, 1


def _flags(*path: str) -> Callable[[Snapshot], Samples]:
    """1 where there is something, else 0."""
    return lambda snapshot: [({"camera": one["name"]}, int(bool(_at(one, path)))) for one in snapshot["cameras"]]


_CAMERA = ("camera",)
_SINK = ("sink",)


def _count(name: str, key: str, text: str) -> Metric:
    return Metric(f"ecotta_{name}_total", "counter", text, _CAMERA, _each_camera("counts", key))


def _sign(name: str, key: str, text: str) -> Metric:
    return Metric(f"ecotta_sign_{name}", "gauge", text, _CAMERA, _each_camera("signs", key))


def _gauge(name: str, text: str, *path: str) -> Metric:
    return Metric(f"ecotta_{name}", "gauge", text, (), _one(*path))


METRICS: tuple[Metric, ...] = (
    Metric(
        "ecotta_build_info", "gauge", "1; which version runs which network.", ("version", "network", "digest"), _build
    ),
    _gauge("start_time_seconds", "When the daemon has started, in seconds since 1970.", "started_time_s"),
    _gauge("loop_age_seconds", "Since the work loop has moved.", "loop", "last_beat_s"),
    Metric("ecotta_loop_beats_total", "counter", "Turns of the work loop.", (), _one("loop", "beats")),
    _count("frames", "frames", "Frames answered."),
    Metric(
        "ecotta_frames_dropped_total",
        "counter",
        "Frames not answered: newer (another came before there was time), pace (more than most_fps asks for), "
        "old (too old when there was time), guard (memory or heat), and what the source names.",
        ("camera", "reason"),
        _drops,
    ),
    _count("frames_refused", "refused", "Frames that nobody could use."),
    _count("frames_damaged", "damaged", "Frames answered that may show damage; nothing was learned from them."),
    _count("frames_certain", "certain", "Frames answered with an entropy below the gate of learning."),
    _count("batches", "batches", "Batches answered."),
    _count("batches_offered", "offered", "Batches given to learn from."),
    _count("batches_adapted", "adapted", "Batches that moved the parameters."),
    Metric(
        "ecotta_latency_seconds",
        "histogram",
        "From when a frame was captured to its answer.",
        _CAMERA,
        _each_camera("latency"),
    ),
    Metric(
        "ecotta_entropy_nats",
        "gauge",
        "Mean entropy of the network's own answers, over some ten seconds.",
        _CAMERA,
        _each_camera("lately", "entropy_nats"),
    ),
    Metric(
        "ecotta_gate_ratio",
        "gauge",
        "Share of frames below the gate of learning, over some ten seconds.",
        _CAMERA,
        _each_camera("lately", "certain"),
    ),
    Metric(
        "ecotta_camera_state",
        "gauge",
        "1 for the state that a camera is in, 0 for the others.",
        ("camera", "state"),
        _states,
    ),
    _count("camera_lost", "lost", "Times that a camera was lost."),
    Metric(
        "ecotta_camera_frame_age_seconds",
        "gauge",
        "Since its last frame that was answered, or dropped by the guard.",
        _CAMERA,
        _each_camera("last_frame_s"),
    ),
    Metric("ecotta_camera_adapting", "gauge", "1 while its adaptation is switched on.", _CAMERA, _flags("adapting")),
    Metric(
        "ecotta_camera_doubt", "gauge", "1 while signs say that its answers may be wrong.", _CAMERA, _flags("doubt")
    ),
    _count("doubts", "doubts", "Times that such a doubt began."),
    _count("drifts", "drifts", "Changes of the scene."),
    _sign("entropy_ratio", "entropy", "Mean entropy by that of a guess among all classes."),
    _sign("certain_ratio", "certain", "Share of frames certain enough to learn from."),
    _sign("concentration_ratio", "concentration", "Sum of squared shares of the answered classes; 1: always the same."),
    _sign("distance", "distance", "Of the statistics from those of the source, in its standard deviations."),
    _sign("disagreement_ratio", "disagreement", "Share of frames that adapted and frozen network answer differently."),
    _sign("contradiction_ratio", "contradiction", "Share of frames of which the frozen network is certain otherwise."),
    _sign("confidence_ratio", "confidence", "Mean probability of the answers given."),
    _sign("expected_error_ratio", "expected_error", "Share of answers that are expected to be wrong."),
    _count("state_saves", "saves", "Snapshots of what was learned."),
    _count("state_saved_bytes", "saved_bytes", "Bytes of them that were written."),
    _count("state_resets", "resets", "Times that a state was put back, by the owner or by the signs."),
    Metric(
        "ecotta_state_save_failures_total",
        "counter",
        "Snapshots that could not be saved.",
        (),
        _one("counts", "states_not_saved"),
    ),
    _gauge("guard_level", "0 full, 1 sparse, 2 statistics, 3 inference, 4 drop.", "guard", "number"),
    Metric("ecotta_guard_steps_total", "counter", "Steps of the guard.", (), _one("counts", "guard_steps")),
    _gauge("memory_pss_bytes", "This process's share of memory.", "machine", "pss_bytes"),
    _gauge("memory_limit_bytes", "What it may have.", "machine", "limit_bytes"),
    _gauge("memory_available_bytes", "What the machine has for new work.", "machine", "available_bytes"),
    _gauge("temperature_celsius", "Of the hottest zone.", "machine", "temperature_c"),
    Metric(
        "ecotta_sink_failed",
        "gauge",
        "1 while an output cannot take events.",
        _SINK,
        lambda snapshot: [({"sink": sink["name"]}, int(sink["failed"] is not None)) for sink in snapshot["sinks"]],
    ),
    Metric("ecotta_sink_failures_total", "counter", "Times that an output has failed.", _SINK, _each_sink("failures")),
    Metric(
        "ecotta_sink_dropped_total",
        "counter",
        "Events dropped before an output that was too slow.",
        _SINK,
        _each_sink("dropped"),
    ),
    Metric(
        "ecotta_sink_missed_total",
        "counter",
        "Events that an output was not given while it had failed.",
        _SINK,
        _each_sink("missed"),
    ),
    Metric("ecotta_reloads_total", "counter", "Times that the configuration was read again.", ("result",), _reloads),
)
"""In the order in which they are written."""
