"""From options to a run: guard, network, state, source and sinks, put together and taken apart again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecotta_rt.files.lock import locked
from ecotta_rt.messages import own_output
from ecotta_rt.run.network import guard_of, load_network
from ecotta_rt.run.options import RunOptions
from ecotta_rt.runtime.loop import Loop
from ecotta_rt.runtime.repeating import repeating
from ecotta_rt.sinks.json_lines import JsonLines
from ecotta_rt.sinks.opening import open_sink
from ecotta_rt.sinks.outlet import Outlet
from ecotta_rt.sinks.sink import FanOut, Sink
from ecotta_rt.sinks.stamping import Stamping
from ecotta_rt.sinks.state_keeper import StateKeeper
from ecotta_rt.sinks.tally import Tally
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.opening import open_source
from ecotta_rt.sources.source import Source

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["Run", "opened"]

Say = Callable[[str], None]

_MOST_WAITING = 256


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin.

    Attributes:
        loop: Its events.
        sinks: Take them.
        tally: One of the sinks.
        engine: The network.
        watched: In here the guard, as far as there is one, looks at the memory while a batch is learned from.
        say: Tells people something in a line.
    """

    loop: Loop
    sinks: FanOut
    tally: Tally
    engine: "Runtime"
    watched: AbstractContextManager[None]
    say: Say

    def play(self) -> None:
        """To the end of the stream, or until somebody stops the loop.

        The state is saved first and the tally told after: whoever listens may be gone, and what was learned must not go
        with him.
        """
        try:
            with closing(iter(self.loop)) as events, self.watched:
                for event in events:
                    self.sinks.take(event)
        finally:
            self.tally.dropped = self.loop.dropped  # an end by a sink is the last that the loop hears of
            try:
                self.sinks.close()
            finally:
                self.say(str(self.tally))


@contextmanager
def opened(
    options: RunOptions, say: Say, stopping: Callable[[], bool], progress: Callable[[Tally], Sink]
) -> Iterator[Run]:
    """Everything a run needs; what can be refused is refused before the network is loaded.

    Args:
        options: What is asked for.
        say: Tells people something in a line.
        stopping: Whether the run is to end; a sink that waits for somebody waits no longer then.
        progress: Makes the sink that shows how far it is.

    Raises:
        EcottaError: Something cannot be meant, read, opened or written.
    """
    options.check()
    guard = guard_of(options)
    with ExitStack() as stack:
        hint = "end that one, keep what this one learns elsewhere with --state FILE, or keep nothing with --no-state"
        stack.enter_context(locked(options.state_path, hint=hint) if options.learns else nullcontext())
        runtime = load_network(options, say)
        sinks, tally = FanOut(), Tally()
        keeper, taken_up = _keeper(options, runtime, sinks)
        source = open_source(options.source, classes=len(runtime.class_names) or None, realtime=options.realtime)
        for line in (f"{options.bundle}: {runtime.settings}", taken_up):
            if line:
                say(line)
        _tell_left_out(options.source, source, say)
        answers = _answers(options.out, stopping, stack)
        outputs: dict[str, Sink] = {options.out or "standard output": answers, "standard error": progress(tally)}
        if isinstance(source, Newest):  # which waits for nobody; others wait until their answers are read
            capacity = _MOST_WAITING + 4 * runtime.batch  # answers to a batch come all at once
            outputs = {name: _behind_a_queue(sink, name, sinks, capacity) for name, sink in outputs.items()}
        sinks.add(tally, *outputs.values(), *keeper)
        loop = Loop(
            source,
            runtime,
            adapt_every=options.adapt_every if runtime.graph is not None else 0,
            limit=options.limit,
            resize="stretch" if options.stretch else None,
            guard=guard,
        )
        watched = repeating(loop.check_memory, guard.policy.check_every_s) if guard else nullcontext()
        yield Run(loop, sinks, tally, runtime, watched, say)


def _keeper(options: RunOptions, runtime: "Runtime", sinks: FanOut) -> tuple[list[Sink], str]:
    """What keeps the state, if anything does, and a line that says where the run goes on from."""
    if options.no_state:
        return [], ""
    keeper = StateKeeper(options.state_path, runtime, options.save_every, sinks.take, saves=options.learns)
    return [keeper], "" if options.fresh else keeper.take_up()


def _behind_a_queue(sink: Sink, name: str, sinks: FanOut, capacity: int) -> Outlet:
    return Outlet(name, lambda: sink, sinks.take, capacity=capacity, fatal=True)


def _answers(out: str | None, stopping: Callable[[], bool], stack: ExitStack) -> Sink:
    if out is not None:
        return open_sink(out, stopping)
    return Stamping(JsonLines(stack.enter_context(own_output()), stopping=stopping))


def _tell_left_out(name: str, source: Source, say: Say) -> None:
    left_out = getattr(source, "left_out", None)
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        say(f"{name}: not read, since they are no pictures: {kinds}")
