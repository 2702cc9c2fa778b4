"""Events as comma-separated values (RFC 4180), for spreadsheets: a line an event, always the same columns."""

import csv
import io
import json
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from ecotta_rt.events import Answer, Event
from ecotta_rt.messages import escaped
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.event_fields import event_fields, event_name
from ecotta_rt.sinks.kinds import SinkKind
from ecotta_rt.sinks.lines import LineOptions, check_lines, open_lines
from ecotta_rt.sinks.sink import Sink

__all__ = ["COLUMNS", "KIND", "CsvOptions", "csv_line", "open_csv"]

COLUMNS = ("time", "monotonic_s", "camera", "event", *(field.name for field in fields(Answer)), "details")
"""Of every line. `details` holds as JSON what an event has beside these."""

_BEGINS = (",".join(COLUMNS[:4]).encode(),)  # of other versions too, whose columns may be others

# A spreadsheet takes a cell that begins so for a formula, and a formula can reach the network
# (OWASP, "CSV Injection"; CWE-1236). The wide ones are those of East Asian keyboards.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_line(event: Event) -> str:
    """The cells of an event, bare or stamped; empty where it gives no line.

    Texts are on one line (a line break is written as its escape sequence), and one that a spreadsheet would take for a
    formula has a quotation mark before it.
    """
    values = event_fields(event)
    if not values:
        return ""
    details = {key: value for key, value in values.items() if key not in COLUMNS}
    values |= {"event": event_name(event)} | ({"details": details} if details else {})
    return _row([_cell(values.get(column)) for column in COLUMNS])


@dataclass(frozen=True)
class CsvOptions(LineOptions):
    """Comma-separated values in a file or on standard output."""


def open_csv(options: CsvOptions, name: str, context: SinkContext) -> Sink:
    """A sink of a daemon."""
    return open_lines(options, context, csv_line, _BEGINS, _row(COLUMNS))


KIND = SinkKind("csv", CsvOptions, open_csv, partial(check_lines, _BEGINS))


def _row(cells: Any) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="").writerow(cells)
    return file.getvalue()


def _cell(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = escaped(value)
            return f"'{text}" if text.startswith(_FORMULA) else text
        case list() | dict():
            return json.dumps(value)
        case _:
            return value
