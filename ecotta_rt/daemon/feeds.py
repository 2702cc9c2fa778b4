"""The cameras that a daemon has now."""

import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ecotta_rt.daemon.camera_thread import CameraThread
from ecotta_rt.daemon.desk import Desk, Slot
from ecotta_rt.daemon.feed import Feed
from ecotta_rt.machine.clock import Clock
from ecotta_rt.runtime.ladder import Ladder
from ecotta_rt.sources.opening import Opened, open_camera
from ecotta_rt.sources.patience import unending

if TYPE_CHECKING:
    from ecotta_rt.daemon.configuration.tables import CameraOptions, SignsOptions
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["Feeds"]


class Feeds:
    """Feeds by name and by slot; for the thread that answers.

    Args:
        engine: Answers all of them.
        ladder: Of the engine.
        desk: Where they get their slots.
        clock: Dates the frames.
        adapt_every: Learn by gradients from each n-th frame of a camera; 0: never.
        signs: How they are watched.
        stopping: Whether the daemon is to end.
        sources: Of cameras by name, instead of those that the configuration names.
    """

    def __init__(
        self,
        engine: "Runtime",
        ladder: Ladder,
        desk: Desk,
        clock: Clock,
        *,
        adapt_every: int,
        signs: "SignsOptions",
        stopping: Callable[[], bool],
        sources: Mapping[str, Opened] = MappingProxyType({}),
    ) -> None:
        self._engine, self._ladder, self._desk, self._clock = engine, ladder, desk, clock
        self._asked: Any = {"adapt_every": adapt_every, "signs": signs, "stopping": stopping}
        self._sources = sources
        self._by_name: dict[str, Feed] = {}
        self._by_slot: dict[Slot, Feed] = {}
        self._left: list[CameraThread] = []

    def __iter__(self) -> Iterator[Feed]:
        return iter(list(self._by_name.values()))

    def get(self, name: str) -> Feed | None:
        """The camera of this name, where it is still there."""
        return self._by_name.get(name)

    def at(self, slot: Slot) -> Feed | None:
        """Whose slot it is; None: of nobody any more."""
        return self._by_slot.get(slot)

    def open(self, camera: "CameraOptions") -> Opened:
        """Open the source of a camera; nothing is read from it yet. Raises as `open_camera`."""
        if camera.name in self._sources:
            return self._sources[camera.name]
        classes = len(self._engine.class_names) or None
        return open_camera(camera.source, unending(wait=camera.wait), classes=classes, clock=self._clock)

    def add(self, camera: "CameraOptions") -> Feed:
        """A new camera, which has no source yet."""
        feed = Feed(self._engine, self._ladder, self._desk, self._clock, camera, **self._asked)
        self._by_name[feed.name] = feed
        return feed

    def begin(self, feed: Feed, opened: Opened) -> None:
        """Read from this source, in place of the one there was."""
        self.end(feed)
        self._by_slot[feed.begin(opened.source, waits=not opened.live, after=self._left)] = feed

    def end(self, feed: Feed) -> None:
        """Read no more from a camera's source; does not wait for it."""
        thread = feed.leave()
        self._by_slot = {slot: one for slot, one in self._by_slot.items() if one is not feed}
        self._left = [one for one in self._left if not one.join(0)] + ([] if thread is None else [thread])

    def remove(self, name: str) -> None:
        """A camera is no more."""
        self.end(self._by_name[name])
        del self._by_name[name]

    def join(self, most_s: float) -> None:
        """Wait for the threads that have nothing to read any more, but no longer than so long for all of them."""
        until_s = time.monotonic() + most_s
        for thread in self._left:
            thread.join(max(0.0, until_s - time.monotonic()))
