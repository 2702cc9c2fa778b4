"""Where the frames of all cameras meet the one network: a slot for each camera, and whose turn it is.

    desk = Desk()
    door = desk.slot(SlotOptions(share=2.0))
    door.put(item)                          # from the camera's own thread
    slot, item = desk.next(most_s=0.25)    # from the thread that answers
    desk.spent(slot, seconds)

A slot holds one frame, the newest; what it replaces is dropped and counted. So neither a queue nor the age of a frame
grows, and a camera that is slow, dead or far too fast delays nobody. Turns go by shares of the network's time (stride
scheduling, Waldspurger and Weihl 1995): each slot has a clock of its own, which its steps move on by their seconds
divided by its share, and the slot whose clock is furthest behind comes next. A camera that had no frame for a while
has saved up nothing: its clock is set forward to the others'.
"""

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition

from ecotta_rt.events import Item, SourceLost
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame

__all__ = ["Desk", "Ended", "Slot", "SlotOptions"]

_MOST_REFUSALS = 16


@dataclass(frozen=True)
class SlotOptions:
    """What a camera may ask of the desk.

    Attributes:
        share: Of the network's time, against the other cameras' shares.
        max_age_s: An older frame is dropped when its turn comes; None: none is too old.
        most_fps: Frames a second that are handed out at most; None: all.
        waits: Whether the source waits until its frame was taken: one that is no camera, and loses none.
    """

    share: float = 1.0
    max_age_s: float | None = None
    most_fps: float | None = None
    waits: bool = False


@dataclass(frozen=True)
class Ended:
    """The last that comes of a source; `error` says why, where it did not just come to its end."""

    error: BaseException | None = None


class Slot:
    """What waits of one camera; made by `Desk.slot`.

    Attributes:
        options: May be exchanged at any time.
    """

    def __init__(self, options: SlotOptions, changed: Condition, rejoin: "Callable[[Slot], None]") -> None:
        self.options = options
        self._dropped: Counter[str] = Counter()
        self._changed, self._rejoin = changed, rejoin
        self._refusals: deque[Item | Ended] = deque()
        self._frame: Frame | None = None
        self._closed = False
        self.due_s = -math.inf
        self.virtual_s = 0.0

    def put(self, item: Item) -> bool:
        """Let something wait for its turn, in the thread of the camera.

        Returns:
            Whether more is wanted.
        """
        with self._changed:
            if self.options.waits:
                self._changed.wait_for(lambda: self._closed or not self.waiting)
            if not self._closed:
                self._rejoin(self)
                self._keep(item)
                self._changed.notify_all()
            return not self._closed

    def end(self, error: BaseException | None = None) -> None:
        """The source has come to its end; what waits is still handed out."""
        with self._changed:
            if not self._closed:
                self._rejoin(self)
                self._refusals.append(Ended(error))
                self._changed.notify_all()

    def close(self) -> None:
        """Let go of what waits, and of who waits to put something here."""
        with self._changed:
            self._closed = True
            self._refusals.clear()
            if self._frame is not None:
                self._dropped["left"] += 1
                self._frame = None
            self._changed.notify_all()

    @property
    def dropped(self) -> Counter[str]:
        """Frames so far that came and were not handed out, by reason, as a copy.

        `newer`: a newer one came before there was time; `pace`: so did one, before `most_fps` let this one go; `old`:
        older than is allowed; `broken`: a refusal that there was no room for; `left`: it waited when the slot was
        closed.
        """
        with self._changed:
            return self._dropped.copy()

    @property
    def waiting(self) -> bool:
        """Whether anything is there."""
        return self._frame is not None or bool(self._refusals)

    def ready_at_s(self) -> float:
        """When what waits may be handed out, by the clock of the desk; never, where nothing waits."""
        if self._refusals and not isinstance(self._refusals[0], Ended):
            return -math.inf
        if self._frame is not None:
            return self.due_s
        return -math.inf if self._refusals else math.inf

    def take(self, now_s: float) -> "Item | Ended | None":
        """Hand out what is due, refusals before the frame, but no end and no loss; None: it had become too old."""
        if self._refusals and not self._frame_is_before(self._refusals[0], now_s):
            return self._refusals.popleft()
        frame, self._frame = self._frame, None
        assert frame is not None
        oldest_s = now_s - (math.inf if self.options.max_age_s is None else self.options.max_age_s)
        if frame.time_s < oldest_s and not self.options.waits:
            self._dropped["old"] += 1
            return None
        if self.options.most_fps is not None:
            every_s = 1 / self.options.most_fps
            self.due_s = every_s + (self.due_s if now_s - self.due_s < every_s else now_s)
        return frame

    def _frame_is_before(self, item: Item | Ended, now_s: float) -> bool:
        """Whether the frame is to be handed out first: else it would seem to say that a lost camera is back."""
        if self._frame is None or not isinstance(item, Ended | SourceLost):
            return False
        if isinstance(item, Ended):
            return True
        if self._frame.index < item.index and now_s < self.due_s:  # a loss waits for nobody's pace
            self._dropped["pace"] += 1
            self._frame = None
        return self._frame is not None and self._frame.index < item.index

    def _keep(self, item: Item) -> None:
        if isinstance(item, Frame):
            if self._frame is not None:
                self._dropped["pace" if self._frame.time_s < self.due_s else "newer"] += 1
            self._frame = item
            return
        self._refusals.append(item)
        if len(self._refusals) > _MOST_REFUSALS:
            # Of a camera that sends rubbish; that it was lost is to be told all the same.
            first = next((i for i, one in enumerate(self._refusals) if not isinstance(one, SourceLost)), 0)
            del self._refusals[first]
            self._dropped["broken"] += 1


class Desk:
    """Hands out what waits, camera by camera.

    Args:
        clock: The one that the cameras date their frames with.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._changed = Condition()
        self._slots: list[Slot] = []
        self._virtual_s = 0.0  # of the slot that had its turn last

    def slot(self, options: SlotOptions) -> Slot:
        """A slot for one more camera."""
        with self._changed:
            slot = Slot(options, self._changed, self._rejoin)
            self._slots.append(slot)
        return slot

    def leave(self, slot: Slot) -> None:
        """Take a camera's slot away."""
        slot.close()
        with self._changed:
            self._slots.remove(slot)

    def next(self, most_s: float) -> "tuple[Slot, Item | Ended] | None":
        """What comes next, and whose it is. Waits for it at most `most_s` seconds, and may give up sooner: None."""
        with self._changed:
            found = self._hand_out()
            if found is None:
                due_s = min((slot.ready_at_s() for slot in self._slots), default=math.inf)
                self._changed.wait(max(0.0, min(most_s, due_s - self._clock.now_s())))
                found = self._hand_out()
            return found

    def spent(self, slot: Slot, seconds: float) -> None:
        """A turn of this slot took so long."""
        with self._changed:
            slot.virtual_s += seconds / slot.options.share

    def _hand_out(self) -> "tuple[Slot, Item | Ended] | None":
        now_s = self._clock.now_s()
        while ready := [slot for slot in self._slots if slot.ready_at_s() <= now_s]:
            slot = min(ready, key=lambda one: one.virtual_s)
            item = slot.take(now_s)
            self._changed.notify_all()  # a source may wait for that
            if item is not None:
                self._virtual_s = max(self._virtual_s, slot.virtual_s)
                return slot, item
        return None

    def _rejoin(self, slot: Slot) -> None:
        """A camera that had nothing begins where the others are: what it did not use is not saved up."""
        if not slot.waiting:
            slot.virtual_s = max(slot.virtual_s, self._virtual_s)
