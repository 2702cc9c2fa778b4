"""What the daemon's one thread does with the network: frame after frame, and between two what is wished for."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ecotta_rt.daemon.alerts import Alerts
from ecotta_rt.daemon.configuration.config import Config
from ecotta_rt.daemon.desk import Desk, Ended
from ecotta_rt.daemon.feed import Feed
from ecotta_rt.daemon.feeds import Feeds
from ecotta_rt.daemon.http.board import Board
from ecotta_rt.daemon.http.camera_tally import BoardCamera
from ecotta_rt.daemon.http.pictures import Pictures
from ecotta_rt.daemon.log import Log
from ecotta_rt.daemon.outbox import Outbox, Taker
from ecotta_rt.daemon.outlets import Outlets
from ecotta_rt.daemon.reloading import change, differences
from ecotta_rt.daemon.saving.states import States
from ecotta_rt.errors import EcottaError, TransferError
from ecotta_rt.events import AdaptingSet, Answer, Event, GuardStep, Item, Reloaded, StateReturned, StreamEnded
from ecotta_rt.machine.clock import Clock
from ecotta_rt.records import Frame
from ecotta_rt.runtime.ladder import Ladder
from ecotta_rt.state import AdaptState

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["Work"]

_TICK_S = 0.25
_DROPS_S = 1.0


class Work:
    """Answers frames in turn, and obeys between two of them; for one thread.

    Attributes:
        engine: The network.
        switches: Whether each camera adapts, by name; exchanged as a whole, for other threads.
    """

    def __init__(
        self,
        engine: "Runtime",
        ladder: Ladder,
        desk: Desk,
        feeds: Feeds,
        states: States,
        outlets: Outlets,
        outbox: Outbox,
        board: Board,
        pictures: Pictures,
        log: Log,
        takers: Sequence[Taker],
        clock: Clock,
    ) -> None:
        self.engine = engine
        self.switches: dict[str, bool] = {}
        self._ladder, self._desk, self._feeds, self._states = ladder, desk, feeds, states
        self._outlets, self._outbox, self._board, self._pictures = outlets, outbox, board, pictures
        self._log, self._takers, self._clock = log, takers, clock
        self._alerts = Alerts(outbox, clock)
        self._failure: Exception | None = None
        self._told_drops_s = clock.now_s()
        self._reloaded = False

    @property
    def goes_on(self) -> bool:
        """Whether any camera is left, and nothing has gone wrong beside the loop."""
        return self._failure is None and any(not feed.ended for feed in self._feeds)

    def begin(self, config: Config) -> None:
        """Open cameras and outputs, and take up states.

        Raises:
            EcottaError: A camera or an output cannot be opened.
        """
        self._config = config
        self.switches = {camera.name: camera.adapt for camera in config.cameras}  # outputs ask for it at once
        opened = {camera.name: self._feeds.open(camera) for camera in config.cameras}
        self._outlets.exchange(config.sinks)
        self._alerts.follow(config.alert_rules)
        self._hand_on()
        for camera in config.cameras:
            feed = self._feeds.add(camera)
            self._states.take_up(feed, fresh=config.state.fresh)
            self._feeds.begin(feed, opened[camera.name])
        self._note_cameras()

    def turn(self) -> None:
        """Answer what comes next, or look after the rest where nothing comes for a while."""
        self._board.beat()
        found = self._desk.next(_TICK_S)
        feed = None if found is None else self._feeds.at(found[0])
        if found is None or feed is None:
            self._tell_all(self._ladder.check(0, lambda: iter(())), None)
        else:
            begun_s = self._clock.now_s()
            self._take(feed, found[1])
            self._desk.spent(found[0], self._clock.now_s() - begun_s)
        self._states.tick()
        self._alerts.tick()
        self._tell_drops()

    def set_adapting(self, camera: str, on: bool) -> None:
        """Switch a camera's adaptation, unless it is gone meanwhile."""
        feed = self._feeds.get(camera)
        if feed is not None and feed.adapting != on:
            feed.adapting = on
            self._note_cameras()
            self._tell(AdaptingSet(feed.position, on), feed)

    def reset(self, camera: str) -> None:
        """Let a camera begin anew, unless it is gone meanwhile."""
        feed = self._feeds.get(camera)
        if feed is not None:
            self._states.before_reset(camera)
            self._put_back(feed, "source", None, "an owner asked for it")

    def reload(self, read_again: Callable[[], Config] | None) -> None:
        """Open outputs' files anew, and do what a configuration that was read again says; a refusal changes nothing."""
        told: tuple[str, ...] = ()
        try:
            config = self._config if read_again is None else read_again()
            told = differences(self._config, config)
            if told:
                self._states.keep_all("before a reload")
            before = [*self._feeds]
            self._config = change(self._config, config, self._feeds, self._states, self._outlets)
        except (EcottaError, OSError) as error:
            self._tell(Reloaded(why=str(error)), None)
            return
        self._reloaded = True
        self._log.options = self._config.log
        self._alerts.follow(self._config.alert_rules)
        self._hand_on()
        self._tell_gone(before)
        self._note_cameras()
        self._tell(Reloaded(told), None)

    def _tell_gone(self, before: Iterable[Feed]) -> None:
        """Of cameras that are no more: who waits for one of them waits in vain."""
        for feed in before:
            if self._feeds.get(feed.name) is not feed and not feed.ended:
                self._tell(StreamEnded(feed.all_dropped, "taken out of the configuration"), feed)

    def check_memory(self) -> None:
        """See `Ladder.check_memory`; what goes wrong in it ends the daemon. For a thread that watches."""
        try:
            self._ladder.check_memory()
        except Exception as error:
            self._failure = self._failure or error

    def end(self) -> None:
        """Begin to save, read no more, and say what each camera has come to."""
        self._states.stop()  # first: somebody's source may block when it is closed
        for feed in self._feeds:
            self._feeds.end(feed)
            if not feed.ended:
                self._tell(StreamEnded(feed.all_dropped, "stopped"), feed)

    def require_good_end(self) -> None:
        """Raise what ended the work; and where all cameras have ended, the first of their errors."""
        errors = [feed.error for feed in self._feeds if feed.error is not None]
        if self._failure is not None:
            raise self._failure
        if errors and not self.goes_on:
            raise errors[0]

    def _take(self, feed: Feed, item: Item | Ended) -> None:
        if isinstance(item, Ended):
            self._note_end(feed, item.error)
            return
        feed.position = item.index
        captured_s = item.time_s if isinstance(item, Frame) else None
        self._tell_all(feed.take(item), feed, captured_s)
        if isinstance(item, Frame):
            self._pictures.offer(feed.name, item.pixels)
            self._look_after(feed)

    def _look_after(self, feed: Feed) -> None:
        """Put back a state that was good, where the stream has collapsed and that may help."""
        why = feed.watch.collapsed
        where = None if why is None else feed.returns.choose(self._clock.now_s())
        if why is not None and where is not None:
            self._states.keep(feed.name, "before going back")  # so that an owner may look at it
            to, state = ("source", None) if where == "source" else self._states.good(feed.name)
            self._put_back(feed, to, state, why)

    def _put_back(self, feed: Feed, to: str, state: AdaptState | None, why: str) -> None:
        feed.restore(state)
        self._states.keep(feed.name, f"gone back to {to}", changed=True)
        self._tell(StateReturned(feed.position, to, why), feed)

    def _note_end(self, feed: Feed, error: BaseException | None) -> None:
        """A source has come to its end; at the start one that was never there, and is not waited for, ends all."""
        feed.ended = True
        if error is not None:
            feed.error = _ours(error, feed.name)
            if not feed.position and not feed.options.wait and not self._reloaded:
                self._failure = self._failure or feed.error
        self._tell(StreamEnded(feed.all_dropped, "" if feed.error is None else str(feed.error)), feed)

    def _tell_all(self, events: Iterable[Event], feed: Feed | None, captured_s: float | None = None) -> None:
        for event in events:
            self._tell(event, feed, captured_s if isinstance(event, Answer) else None)

    def _tell(self, event: Event, feed: Feed | None, at_s: float | None = None) -> None:
        camera = None if feed is None or isinstance(event, GuardStep) else feed.name
        self._states.saw(event, camera)
        self._outbox.tell(event, camera, at_s)

    def _hand_on(self) -> None:
        # Alerts last: what gave rise to one is told before it.
        first = (self._board, self._log, self._outlets.states)
        self._outbox.hand_to((*first, *self._takers, *self._outlets, self._alerts))

    def _note_cameras(self) -> None:
        self.switches = {feed.name: feed.adapting for feed in self._feeds}
        self._board.show(BoardCamera(feed.name, feed.adapting, feed.silent_s) for feed in self._feeds)

    def _tell_drops(self) -> None:
        now_s = self._clock.now_s()
        if now_s - self._told_drops_s >= _DROPS_S:
            self._told_drops_s = now_s
            for feed in self._feeds:
                self._board.set_dropped(feed.name, dict(feed.dropped))


def _ours(error: BaseException, camera: str) -> EcottaError:
    if isinstance(error, EcottaError):
        return error
    return TransferError(f"{camera}: {type(error).__name__}: {error}")
