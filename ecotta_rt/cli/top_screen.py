"""What `ecotta top` draws: from a status to lines of text, and nothing about terminals but their colours."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecotta_rt.messages import printable

__all__ = ["Paint", "screen"]

Status = Mapping[str, Any]

_MIB = 2**20
_SPARKS = "▁▂▃▄▅▆▇█"
_BAD = ("lost", "silent")
_GRAVE = ("camera-lost", "sink-failed", "state-not-saved", "doubt", "alert")


@dataclass(frozen=True)
class Paint:
    """How much a terminal can show.

    Attributes:
        colours: Whether it has any.
        blocks: Whether it has block characters.
    """

    colours: bool = False
    blocks: bool = False

    def __call__(self, text: str, code: int) -> str:
        """`text` in one of ANSI's colours: 0 none, 1 bold, 2 faint, 31 red, 32 green, 33 yellow."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and text and code else text


@dataclass(frozen=True)
class _Column:
    """A column of the table of cameras; one with a lower rank goes first where there is no room."""

    title: str
    width: int
    rank: int
    shown: Callable[[Mapping[str, Any], Status], str]
    right: bool = True


def screen(status: Status, width: int, height: int, paint: Paint, trouble: str = "") -> list[str]:
    """All lines, none wider than `width`, at most `height`.

    Args:
        status: As `/status.json` has it; texts in it are a stranger's.
        width: Columns.
        height: Lines.
        paint: How much the terminal can show.
        trouble: What is wrong with the daemon; "": it answers.
    """
    lines = [_headline(status, width, paint, trouble), _memory(status, width, paint), ""]
    lines += _table(status, width, paint)
    troubles = [printable(trouble)] if trouble else _troubles(status)
    lines += [paint(_cut(f"! {text}", width), 31) for text in troubles]
    events = _events(status, width, paint)
    if events:
        lines += ["", paint("events", 1), *events[: max(height - len(lines) - 2, 0)]]
    return lines[:height]


def _headline(status: Status, width: int, paint: Paint, trouble: str) -> str:
    network = status["network"]["network"] if status["network"] else "loading the network"
    right, code = _standing(status, trouble)
    left = _cut(f"ecotta  {printable(network)}  up {_lasted(status['up_s'])}", max(width - len(right) - 2, 10))
    right = _cut(right, max(width - len(left) - 1, 0))
    return paint(left, 1) + " " * max(width - len(left) - len(right), 1) + paint(right, code)


def _standing(status: Status, trouble: str) -> tuple[str, int]:
    """In a word or two, and its colour."""
    if trouble:
        return "does not answer", 31
    if status["loop"]["beats"] and status["loop"]["last_beat_s"] > 60:
        return f"stands still for {_lasted(status['loop']['last_beat_s'])}", 31
    if status["guard"]["number"]:
        return f"does with less: {status['guard']['level']}", 33
    away = sum(camera["state"] in _BAD for camera in status["cameras"])
    if away:
        return ("a camera is away" if away == 1 else f"{away} cameras are away"), 33
    return "live", 32


def _memory(status: Status, width: int, paint: Paint) -> str:
    machine = status["machine"]
    used, limit = machine["pss_bytes"], machine["limit_bytes"]
    said = _mib(used) + (f" of {_mib(limit)}" if limit else "")
    said += f"   free {_mib(machine['available_bytes'])}"
    if machine["temperature_c"] is not None:
        said += f"   {machine['temperature_c']:.0f} C"
    room = min(width - len(said) - 12, 40)
    if used is None or not limit or room < 6:
        return _cut(f"memory  {said}", width)
    share = min(used / limit, 1.0)
    code = 31 if share > 0.92 else 33 if share > 0.85 else 32
    full = round(share * room)
    sign, empty = ("█", "░") if paint.blocks else ("#", "-")
    return f"memory  {paint(sign * full, code)}{paint(empty * (room - full), 2)}  {said}"


def _table(status: Status, width: int, paint: Paint) -> list[str]:
    name_width = min(max([6, *(len(printable(camera["name"])) for camera in status["cameras"])]), 24)
    columns = [
        _Column("camera", name_width, 9, lambda camera, _: printable(camera["name"]), right=False),
        _Column("state", 7, 8, lambda camera, _: camera["state"], right=False),
        _Column("fps", 5, 7, lambda camera, _: f"{camera['lately']['frames_per_s']:.1f}"),
        _Column("ms", 6, 6, lambda camera, _: _rounded(camera["lately"]["latency_ms"])),
        _Column("entropy", 7, 5, lambda camera, _: _rounded(camera["lately"]["entropy_nats"], 2)),
        _Column("certain", 7, 3, lambda camera, _: _percent(camera["lately"]["certain"])),
        _Column("wrong?", 6, 4, lambda camera, _: _percent((camera["signs"] or {}).get("expected_error"))),
        _Column("learned", 7, 1, lambda camera, _: str(camera["counts"]["adapted"])),
        _Column(
            "dropped", 7, 2, lambda camera, _: str(sum(camera["dropped"].values()) - camera["dropped"].get("pace", 0))
        ),
    ]
    if paint.blocks:
        columns.append(_Column("entropy lately", 16, 0, lambda camera, status: _spark(camera, status), right=False))
    answer_width = 22
    while sum(column.width + 2 for column in columns) + answer_width > width and len(columns) > 2:
        columns.remove(min(columns, key=lambda column: column.rank))
    rest = max(width - sum(column.width + 2 for column in columns), 0)
    titles = "  ".join(_cell(column, column.title) for column in columns)
    rows = [paint(_cut(f"{titles}  answer", width), 2)]
    for camera in status["cameras"]:
        cells = "  ".join(_cell(column, column.shown(camera, status)) for column in columns)
        code = 31 if camera["state"] in _BAD else 33 if camera["doubt"] else 0
        rows.append(paint(_cut(f"{cells}  {_answer(camera)[:rest]}", width), code))
    return rows


def _cell(column: _Column, text: str) -> str:
    text = _cut(text, column.width)
    return text.rjust(column.width) if column.right else text.ljust(column.width)


def _answer(camera: Mapping[str, Any]) -> str:
    answer = camera["answer"]
    if answer is None:
        return ""
    return f"{printable(answer['label'])} {_percent(answer['probability'])}"


def _spark(camera: Mapping[str, Any], status: Status) -> str:
    """Its entropy over the last points, between 0 and the highest of them."""
    values = [row[3] for row in camera["points"] if row[3] is not None][-16:]
    most = max([0.1, *values])
    return "".join(_SPARKS[min(int(value / most * len(_SPARKS)), len(_SPARKS) - 1)] for value in values)


def _troubles(status: Status) -> list[str]:
    found = []
    for camera in status["cameras"]:
        if camera["state"] in _BAD:
            found.append(f"{camera['name']}: away for {_lasted(camera['since_s'])}, {camera['why']}")
        if camera["doubt"]:
            found.append(f"{camera['name']}: answers may be wrong, {camera['doubt']}")
        if camera.get("not_saved"):  # a daemon of an older version does not say it
            found.append(f"{camera['name']}: what it learns is not saved, {camera['not_saved']}")
        if not camera["adapting"]:
            found.append(f"{camera['name']}: its adaptation is switched off")
    found += [f"output {sink['name']}: {sink['failed']}" for sink in status["sinks"] if sink["failed"] is not None]
    return [printable(text) for text in found]


def _events(status: Status, width: int, paint: Paint) -> list[str]:
    """The newest first."""
    lines = []
    for event in reversed(status["events"]):
        day = _day(event["time_s"]) == _day(status["time_s"])
        when = time.strftime("%H:%M:%S" if day else "%d %b   ", time.localtime(event["time_s"]))
        camera = f"{event['camera']}: " if event["camera"] is not None else ""
        times = f" ({event['times']} times)" if event["times"] > 1 else ""
        line = _cut(printable(f"{when}  {event['kind']:<14} {camera}{event['text']}{times}"), width)
        lines.append(paint(line, 31 if event["kind"] in _GRAVE else 0))
    return lines


def _day(time_s: float) -> Sequence[int]:
    return time.localtime(time_s)[:3]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "~"


def _mib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / _MIB:.0f} MiB"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _rounded(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _lasted(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
