"""One camera's part in the daemon: its source, its slot at the desk, its stream, and what answers it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ecotta_rt.bundle import Resize
from ecotta_rt.daemon.camera_thread import CameraThread
from ecotta_rt.daemon.desk import Desk, Slot, SlotOptions
from ecotta_rt.daemon.doubts import DoubtLimits
from ecotta_rt.daemon.returns import Returns
from ecotta_rt.daemon.stream_watch import StreamWatch, WatchTimes
from ecotta_rt.errors import EcottaError
from ecotta_rt.events import Event, Item
from ecotta_rt.machine.clock import Clock
from ecotta_rt.runtime.answering import Answering
from ecotta_rt.runtime.frozen_look import FrozenLook
from ecotta_rt.runtime.ladder import Ladder
from ecotta_rt.sources.source import Source
from ecotta_rt.state import AdaptState

if TYPE_CHECKING:
    from ecotta_rt.daemon.configuration.tables import CameraOptions, SignsOptions
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["Feed"]

_SILENT_S = 10.0


class Feed:
    """A camera's frames from its source to its events. All but `adapting` is for the thread that answers.

    Args:
        engine: Answers it; the feed has a stream of its own there.
        ladder: Of the engine.
        desk: Where it gets a slot.
        clock: Dates the frames.
        adapt_every: Learn by gradients from each n-th frame; 0: never.
        signs: How it is watched.
        stopping: Whether the daemon is to end.

    Attributes:
        options: Of the configuration.
        watch: Whether its answers are still right.
        returns: Where it goes back to when it has collapsed.
        stream: What it has taught.
        ended: Whether its source has come to its end.
        error: What ended it; None: nothing went wrong.
        position: Of the last frame in the stream.
    """

    def __init__(
        self,
        engine: "Runtime",
        ladder: Ladder,
        desk: Desk,
        clock: Clock,
        options: "CameraOptions",
        *,
        adapt_every: int,
        signs: "SignsOptions",
        stopping: Callable[[], bool],
    ) -> None:
        self._engine, self._ladder, self._desk, self._clock = engine, ladder, desk, clock
        self._adapt_every, self._stopping = adapt_every, stopping
        self._dropped_before: Counter[str] = Counter()
        self._slot: Slot | None = None
        self._thread: CameraThread | None = None
        self.stream = engine.new_stream()
        look, times = FrozenLook(engine, signs.frozen_every), WatchTimes(every_s=signs.every_s)
        limits = DoubtLimits(most_error=signs.most_error)
        self.watch = StreamWatch(engine.signs_recipe, self.stream.adaptation, look, clock, times, limits)
        self.returns = Returns(signs.go_back)
        self.ended = False
        self.error: EcottaError | None = None
        self.position = 0
        self.adapting = options.adapt
        self.options = options
        self._answering = self._new_answering()

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def dropped(self) -> Counter[str]:
        """Frames that came and were not answered so far, by reason; see `Slot.dropped`."""
        total = Counter(self._dropped_before)
        if self._slot is not None and self._thread is not None:
            total += self._slot.dropped
            total["source"] += self._thread.dropped
        return total

    @property
    def all_dropped(self) -> int:
        """All of `dropped`, and those that the guard did without."""
        return self._answering.dropped

    @property
    def silent_s(self) -> float | None:
        """Without a frame for so many seconds something is wrong; None: it gives frames when it likes."""
        if self._slot is None or self._slot.options.waits:
            return None
        return max(_SILENT_S, 3 / (self.options.most_fps or _SILENT_S))

    def begin(self, source: Source, *, waits: bool, after: Sequence[CameraThread] = ()) -> Slot:
        """Read from a source, in place of the one there was.

        Args:
            source: Opened anew.
            waits: Whether it is no camera, and loses no frame.
            after: Those who may still have its device.

        Returns:
            Its slot, by which its items can be known.
        """
        self.leave()
        self.ended, self.error, self.position = False, None, 0
        self._slot = self._desk.slot(_asked(self.options, waits))
        self._thread = CameraThread(source, self._slot, self.name, after)
        return self._slot

    def go_on_with(self, options: "CameraOptions") -> None:
        """Other options; the stream is as it was, and so is the switch unless the configuration moves it."""
        if options.adapt != self.options.adapt:
            self.adapting = options.adapt
        self.options = options
        self._answering.ask_for(resize=_resize(options), top=options.top)
        if self._slot is not None:
            self._slot.options = _asked(options, self._slot.options.waits)

    def take(self, item: Item | None) -> Iterator[Event]:
        """What comes of one of its items; see `Answering.take`."""
        self._answering.adapting = self.adapting
        yield from self._answering.take(item)

    def state(self) -> AdaptState:
        """Its state, as a copy."""
        self._engine.use(self.stream)
        return self._engine.state

    def restore(self, state: AdaptState | None) -> None:
        """Go on from a state, None: from the bundle's own; raises as `Runtime.restore`."""
        self._engine.use(self.stream)
        if state is None:
            self._engine.reset()
        else:
            self._engine.restore(state)
        self.watch.begin_anew()

    def leave(self) -> CameraThread | None:
        """Let go of source and slot, without waiting; returns who may still read."""
        thread, slot = self._thread, self._slot
        if thread is not None and slot is not None:
            thread.stop()
            self._desk.leave(slot)
            self._dropped_before = self.dropped
            self._thread = self._slot = None
        return thread

    def _new_answering(self) -> Answering:
        return Answering(
            self._engine,
            self._ladder,
            stream=self.stream,
            adapt_every=self._adapt_every,
            resize=_resize(self.options),
            top=self.options.top,
            clock=self._clock,
            dropped=lambda: self.dropped.total(),
            stopping=self._stopping,
            watch=self.watch,
        )


def _resize(camera: "CameraOptions") -> Resize | None:
    return "stretch" if camera.stretch else None


def _asked(camera: "CameraOptions", waits: bool) -> SlotOptions:
    return SlotOptions(camera.share, camera.max_age_s, camera.most_fps, waits)
