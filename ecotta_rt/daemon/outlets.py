"""The outputs that a daemon has now, each with a queue and a thread of its own."""

import time
from collections.abc import Iterable, Iterator, Sequence
from threading import Thread
from typing import TYPE_CHECKING

from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.kinds import sink_kind
from ecotta_rt.sinks.outlet import Outlet, close_all, open_outlet

if TYPE_CHECKING:
    from ecotta_rt.daemon.configuration.config import Output

__all__ = ["Outlets"]

_REPLACED_S = 1.0


class Outlets:
    """Outlets by name; for one thread, but for iterating.

    Args:
        context: What each output is opened with.

    Attributes:
        states: How each camera is; to be told of everything before the outputs are.
    """

    def __init__(self, context: SinkContext) -> None:
        self.states = context.states
        self._context = context
        self._open: dict[str, tuple[Output, Outlet]] = {}
        self._closing = Thread(target=close_all, args=((), 0.0))
        self._closing.start()

    def __iter__(self) -> Iterator[Outlet]:
        return iter([outlet for _, outlet in [*self._open.values()]])

    def missed(self) -> list[tuple[str, int]]:
        """By name, what those that fail have lost and no event has told yet; for any thread."""
        return [(outlet.name, outlet.missed) for outlet in self]

    def check(self, outputs: Iterable["Output"]) -> None:
        """Say what no later try would mend; raises an error of ours."""
        for output in outputs:
            sink_kind(output.kind).checks(output.options, output.name)

    def exchange(self, outputs: Sequence["Output"]) -> None:
        """Have these: new and changed ones are opened, the others open their files anew, the rest is closed.

        Nobody is waited for; but a new one is opened when the old ones are closed, since it may have the file of one.
        """
        wanted = {output.name: output for output in outputs}
        gone = {name: outlet for name, (output, outlet) in self._open.items() if wanted.get(name) != output}
        for name in gone:
            del self._open[name]
        if gone:
            self._closing = Thread(target=_close_after, args=(self._closing, [*gone.values()]), daemon=True)
            self._closing.start()
        for outlet in self:
            outlet.reopen()
        self._open |= {name: (one, self._outlet(one)) for name, one in wanted.items() if name not in self._open}

    def close(self, most_s: float) -> None:
        """Close all, within so many seconds; what hangs is left behind, and told."""
        end_s = time.monotonic() + most_s
        close_all(self, most_s)
        self._closing.join(max(0.0, end_s - time.monotonic()))

    def _outlet(self, output: "Output") -> Outlet:
        return open_outlet(output.kind, output.name, output.options, self._context, after=self._closing.join)


def _close_after(before: Thread, outlets: Sequence[Outlet]) -> None:
    before.join()
    close_all(outlets, _REPLACED_S)
