"""Alerts to people, through one of the hundred services that apprise knows: mail, Telegram, ntfy, Matrix, SMS.

apprise takes 26 MiB and seconds to load, so much of a small board that a process of its own has it, for each message
anew: this module, run as a program. Addresses, which hold passwords, go to it by standard input.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.events import Alert, Event, SinkFailed, Stamped
from ecotta_rt.extras import missing_package
from ecotta_rt.files.fields import Doc, Limit, OneOf
from ecotta_rt.messages import mask, printable, tell
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.event_fields import EVENT_NAMES, bare, event_fields, event_name, iso_time
from ecotta_rt.sinks.kinds import SinkKind, SinkOptions

__all__ = ["KIND", "AppriseOptions", "AppriseSink", "ask_apprise", "check_apprise", "main", "open_apprise"]

_PROGRAM = (sys.executable, "-P", "-m", "ecotta_rt.sinks.apprise_sink")  # -P: nothing from where we happen to be
_LAST_LINE = 300  # characters of what the program says when it fails
_UNKNOWN = 3  # exit code: apprise does not know an address
_ASKED: set[tuple[str, ...]] = set()  # addresses that were looked at: an output is opened again after each failure


@dataclass(frozen=True, kw_only=True)
class AppriseOptions(SinkOptions):
    """Alerts through apprise."""

    urls: Annotated[
        tuple[str, ...],
        Limit(1, 50),
        Doc("Where to, as apprise writes it.", '["ntfy://ntfy.sh/${TOPIC}"]', secret=True),
    ]
    events: Annotated[tuple[Annotated[str, OneOf(EVENT_NAMES)], ...], Doc("Which events are sent.")] = ("alert",)
    title: Annotated[str, Limit(most=100), Doc("The title of each message.")] = "ecotta"
    timeout_s: Annotated[float, Limit(1, 600), Doc("Seconds for a message.")] = 60.0
    queue: Annotated[int, Limit(1, 1000), Doc("Events that may wait for it; of more the oldest are dropped.")] = 16


class AppriseSink:
    """Sends each event as a message, in a process of its own, and waits for that.

    Args:
        options: Where to.
        program: Of which the messages are sent; its standard input gets them as JSON.
    """

    def __init__(self, options: AppriseOptions, program: tuple[str, ...] = _PROGRAM) -> None:
        self._options = options
        self._program = program
        self._closed = False

    def take(self, event: Event) -> None:
        """Raises `TransferError`: a message was not sent to all."""
        if not self._closed and event_name(event) is not None:
            self._send(_text(event))

    def close(self) -> None:
        self._closed = True

    def _send(self, body: str) -> None:
        message = {"urls": self._options.urls, "title": self._options.title, "body": body}
        code, said = _told(self._program, message, self._options.timeout_s)
        if code:
            raise TransferError(f"a message was not sent: {said or f'exit code {code}'}")


def _told(program: tuple[str, ...], message: Mapping[str, object], most_s: float) -> tuple[int, str]:
    """Run the program: its exit code, and the last line of what it said, without passwords."""
    import subprocess  # here: alerts are rare, and it is a megabyte

    try:
        done = subprocess.run(
            program,
            input=json.dumps(message).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=most_s,
        )
    except subprocess.TimeoutExpired:
        raise TransferError(f"a message was not sent within {most_s:g} s") from None
    except OSError as error:
        raise TransferError(f"no process for a message: {error.strerror or error}") from error
    return done.returncode, printable(
        mask(done.stderr.decode(errors="replace").strip().rpartition("\n")[2][-_LAST_LINE:])
    )


def open_apprise(options: AppriseOptions, name: str, context: SinkContext) -> AppriseSink:
    """A sink of a daemon. An address that apprise does not know is told, once; the others get what there is."""
    if options.urls not in _ASKED:
        _ASKED.add(options.urls)
        try:
            ask_apprise(options, name)
        except UsageError as error:
            context.report(SinkFailed(name, str(error)))
    return AppriseSink(options)


def check_apprise(options: AppriseOptions, name: str) -> None:
    """Say before the start what no later try would mend.

    Raises:
        Unavailable: apprise is not installed.
        UsageError: An address is none.
    """
    if find_spec("apprise") is None:
        error = missing_package(ModuleNotFoundError(name="apprise"))
        assert error is not None
        raise error
    for number, url in enumerate(options.urls, 1):
        if "://" not in url:
            raise UsageError(f"output {name}: address {number} of urls is none; write it like ntfy://HOST/TOPIC")


def ask_apprise(options: AppriseOptions, name: str) -> None:
    """Have apprise itself read the addresses, in a process of its own, which takes seconds; nothing is sent.

    Raises:
        UsageError: It does not know an address.
    """
    with suppress(TransferError):  # too busy now: the first message shows it
        code, said = _told(_PROGRAM, {"urls": options.urls}, options.timeout_s)
        if code == _UNKNOWN:
            raise UsageError(f"output {name}: {said}; services and their addresses: https://github.com/caronc/apprise")


KIND = SinkKind("apprise", AppriseOptions, open_apprise, check_apprise, ask_apprise, reaches_people=True)


def _text(event: Event) -> str:
    """A few words for people."""
    fields: dict[str, Any] = event_fields(bare(event))
    inner = bare(event)
    said = inner.why if isinstance(inner, Alert) else ", ".join(f"{key}: {value}" for key, value in fields.items())
    text = f"{inner.rule}: {said}" if isinstance(inner, Alert) else f"{event_name(event)}: {said}"
    if isinstance(event, Stamped):
        text = f"{f'{event.camera}, ' if event.camera else ''}{text} ({iso_time(event.time_s)})"
    return printable(text)


def main() -> int:
    """The program: reads a message from standard input and sends it; 0 where all of its addresses took it.

    One without a body is not sent: its addresses are looked at.
    """
    import apprise

    message = json.load(sys.stdin)
    sender = apprise.Apprise()
    wrong = [str(number) for number, url in enumerate(message["urls"], 1) if not sender.add(url)]
    if wrong:
        tell("", f"apprise does not know address {' and '.join(wrong)} of urls")
    if "body" not in message:
        return _UNKNOWN if wrong else 0
    sent = sender.notify(title=message["title"], body=message["body"])
    if not sent and not wrong:
        tell("", "a service did not take it; try it with the program apprise and --verbose")
    return 0 if sent and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
