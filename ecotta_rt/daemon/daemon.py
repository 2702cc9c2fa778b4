"""The daemon: several cameras, one network, and what is asked of it while it runs.

    thread of each camera -> its slot at the desk -> the one thread that answers -> outbox -> outputs

    daemon = Daemon(config)
    daemon.run()                    # until `stop`, from a signal handler or another thread

One thread does all that touches the network: it takes what the desk hands it, and between two frames it obeys what was
asked for meanwhile: to stop, to read the configuration again, to reset a camera or switch its adaptation. A camera that
comes to its end does not end the others; the daemon ends when none is left.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from ecotta_rt.daemon.configuration.config import Config
from ecotta_rt.daemon.desk import Desk
from ecotta_rt.daemon.feeds import Feeds
from ecotta_rt.daemon.http.board import Board, BoardFacts
from ecotta_rt.daemon.http.pictures import Pictures
from ecotta_rt.daemon.log import Log
from ecotta_rt.daemon.outbox import Outbox, Taker
from ecotta_rt.daemon.outlets import Outlets
from ecotta_rt.daemon.saving.states import OwnFolder, States
from ecotta_rt.daemon.systemd.notify import Notifier
from ecotta_rt.daemon.wishes import Wishes
from ecotta_rt.daemon.work import Work
from ecotta_rt.errors import UsageError
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.machine.vitals import VitalsReader
from ecotta_rt.run.network import guard_of, load_network
from ecotta_rt.run.options import RunOptions
from ecotta_rt.runtime.ladder import Ladder
from ecotta_rt.runtime.repeating import repeating
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sources.opening import Opened

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["PRESS_S", "STOP_S", "Daemon"]

Trial = Literal["first", "always", "off"]

STOP_S = 3.9
"""Seconds from `stop` to the end, at most: then states and outputs that hang are left behind."""

PRESS_S = 0.6
"""Seconds from `stop` to the first `press` that counts, and from one to the next."""

_ANSWERS_S = 1.7

# Of `STOP_S`, what is still there for each when what comes before it has taken all that it may.
_OUTPUTS_S, _OTHERS_S = 1.2, 0.6
_READERS_S = _GUARD_S = 0.2  # a camera that is alive lets go within a frame, a look at the memory takes milliseconds


class Daemon:
    """Runs a configuration; `ecotta serve` does nothing else, and any other program may.

    `stop`, `reload` and all of `Control` may be called from any thread, the first two from a signal handler too.

    Args:
        config: What is asked for.
        takers: Get each event beside the outputs of the configuration, in whatever thread it happens.
        sources: Of cameras by name, instead of those that the configuration names.
        keeps_states: Off: nothing is read from the state folder, or written there.
        log: Tells people what happens; None: on standard error, as the configuration says.
        read_again: Reads the configuration anew, for `reload`; raises as `read_config`.
        trial: Whether a bundle is tried in a process of its own first: when it is new here, always, or never.
        notifier: Tells a service manager how it is; None: there is none.
        clock: Dates frames and paces what there is to pace.
        wall_s: Seconds since 1970, UTC.

    Attributes:
        board: What it has come to, for any thread.
        serving: Whether it has begun: until then `stop` is heard only when the network is loaded.
    """

    def __init__(
        self,
        config: Config,
        takers: Sequence[Taker] = (),
        *,
        sources: Mapping[str, Opened] = MappingProxyType({}),
        keeps_states: bool = True,
        log: Log | None = None,
        read_again: Callable[[], Config] | None = None,
        trial: Trial = "off",
        notifier: Notifier | None = None,
        clock: Clock | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._takers, self._read_again, self._trial = config, takers, read_again, trial
        self._sources, self._keeps_states = sources, keeps_states
        self._clock, self._wall_s = clock or SystemClock(), wall_s
        self._log = log or Log(config.log, wall_s=wall_s)
        self._notifier = notifier or Notifier(None)
        self._pictures = Pictures(self._clock)
        self.board = Board(self._clock, wall_s, VitalsReader())
        self._wishes = Wishes()
        self._work: Work | None = None
        self._folder: OwnFolder | None = None
        self._stop_s: float | None = None
        self.serving = False

    def stop(self) -> None:
        """End after the frame in progress, with all states saved. Only leaves a note."""
        if self._stop_s is None:
            self._stop_s = time.monotonic()

    def reload(self) -> None:
        """Read the configuration again, and open outputs' files anew, between two frames. Only leaves a note."""
        self._wishes.reload = True

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras there are now."""
        return tuple(self._switches())

    def adapting(self, camera: str) -> bool:
        """Whether a camera adapts: switched on, whatever the guard allows.

        Raises:
            UsageError: No such camera.
        """
        switches = self._switches()
        if camera not in switches:
            raise UsageError(f"no camera {camera!r}; there are {', '.join(switches)}")
        return switches[camera]

    def set_adapting(self, camera: str, on: bool) -> None:
        """Switch the adaptation of a camera on or off; raises as `adapting`."""
        self.adapting(camera)
        self._wishes.add("adapting", camera, lambda work: work.set_adapting(camera, on))

    def reset(self, camera: str) -> None:
        """Let a camera begin anew from the bundle's own state; what it has learned is kept. Raises as `adapting`."""
        self.adapting(camera)
        self._wishes.add("reset", camera, lambda work: work.reset(camera))

    def press(self, waited_s: float) -> None:
        """Ask for the end once more, so many seconds after `stop`; for any thread, and to be repeated.

        Learning in progress is given up first, whose frames are answered all the same, in a third of the time; and
        later the answer.
        """
        if self._work is not None and waited_s >= PRESS_S:
            self._work.engine.interrupt(answers=waited_s >= _ANSWERS_S)

    def run(self) -> None:
        """Serve until `stop`, or until no camera is left; once.

        Raises:
            EcottaError: It cannot begin, or cannot go on; what was learned is saved all the same.
        """
        with ExitStack() as stack:
            stack.enter_context(self._log.unhurried(self._left_s))
            stack.callback(self._notifier.close)
            if self._keeps_states:
                self._folder = stack.enter_context(OwnFolder(self._config.state_folder, self._log.say))
            self._open_door(stack)
            work = self._begun(stack)
            self.serving = True
            self._notifier.ready()
            while self._stop_s is None and work.goes_on:
                self._notifier.alive()
                self._notifier.status(self.board.in_a_line)
                self._obey(work)
                work.turn()
        work.require_good_end()

    def _obey(self, work: Work) -> None:
        """One wish a turn: however many there are, frames are answered, and `stop` is heard."""
        if self._wishes.reload:
            self._wishes.reload = False  # before it is read: who asks meanwhile has changed it since
            self._notifier.reloading()
            work.reload(self._read_again)
            self._notifier.ready()
        elif (wish := self._wishes.next()) is not None:
            wish(work)

    def _open_door(self, stack: ExitStack) -> None:
        """Answer over HTTP from the beginning: a load balancer asks long before the network is loaded."""
        if self._config.http.enabled:
            from ecotta_rt.daemon.http.web import Web

            pictures = self._pictures if self._config.http.page else None
            web = Web(self._config.http, self.board, self, pictures, self._clock)
            stack.callback(web.close)
            self._log.say(f"answers at {web.address}")

    def _begun(self, stack: ExitStack) -> Work:
        """Everything opened, what can be refused first; `stack` takes it apart again."""
        options = self._run_options()
        guard = guard_of(options)
        engine = load_network(options, self._log.say)
        self.board.describe(self._facts(engine, options.limit_bytes()))
        desk, outbox, ladder = Desk(self._clock), Outbox(self._clock, self._wall_s), Ladder(engine, guard)
        say = self._log.say
        outlets = Outlets(SinkContext(outbox.tell, self._is_ending, self._clock, engine.class_names, self, say=say))
        self.board.count_missed(outlets.missed)
        every = self._config.network.adapt_every if engine.graph is not None else 0
        feeds = Feeds(
            engine,
            ladder,
            desk,
            self._clock,
            adapt_every=every,
            signs=self._config.signs,
            stopping=self._is_ending,
            sources=self._sources,
        )
        states = States(self._folder, self._config.state, outbox, self._clock, self._wall_s, self._log.say)
        parts, told = (desk, feeds, states, outlets, outbox), (self.board, self._pictures, self._log, self._takers)
        self._work = work = Work(engine, ladder, *parts, *told, self._clock)
        stack.callback(lambda: feeds.join(_READERS_S))
        stack.callback(lambda: outlets.close(min(1.0, max(0.0, self._left_s() - _OTHERS_S))))
        stack.callback(lambda: states.close(max(0.0, self._left_s() - _OUTPUTS_S)))
        stack.callback(work.end)
        stack.callback(self._notifier.stopping)
        stack.callback(self.stop)
        work.begin(self._config)
        if guard is not None:
            stack.enter_context(repeating(work.check_memory, guard.policy.check_every_s, _GUARD_S))
        return work

    def _run_options(self) -> RunOptions:
        network = self._config.network
        options = RunOptions(
            Path(network.bundle),
            "",
            adapt_every=network.adapt_every,
            learning=network.learning,
            answer=network.answer,
            views=network.views,
            batch=network.batch,
            no_state=True,
            device=network.device,
            threads=network.threads,
            memory_limit_bytes=network.memory_limit_bytes,
            max_temperature=network.max_temperature,
            trial=self._trial,
        )
        options.check()
        return options

    def _facts(self, engine: "Runtime", limit_bytes: int | None) -> BoardFacts:
        network, signs = self._config.network, engine.signs_recipe
        return BoardFacts(
            Path(network.bundle).name,
            digest=engine.state.network_digest,
            classes=signs.classes,
            limit_bytes=limit_bytes,
            gate_nats=signs.gate * math.log(signs.classes),
            device=network.device or "",
        )

    def _switches(self) -> dict[str, bool]:
        if self._work is None:
            return {camera.name: camera.adapt for camera in self._config.cameras}
        return self._work.switches

    def _is_ending(self) -> bool:
        return self._stop_s is not None

    def _left_s(self) -> float:
        """Seconds that are left to end in."""
        return max(0.0, STOP_S + (self._stop_s or 0.0) - time.monotonic())
