"""Rules on the signs of one stream: when its answers are in doubt, and when it has collapsed.

In doubt, with value and limit, where one of these holds; and until none does any more, with a tenth to spare:

    expected error    at least `most_error`; a bundle that is not calibrated: the answers' own doubt, 1 - confidence
    contradiction     at least 0.6 of the frames: the frozen network is certain of another class in so many
    broken            at least half of the answers are no numbers
    collapsed         see below

Doubt moves nothing: hard weather is no reason to begin anew. A stream has collapsed where the network would do better
without what it has learned there. Signs from its own answers cannot say so: a network that has learned to give one
answer to all is certain of it. So the frozen network is asked, and it has to say two things:

    contradiction              at least 1/2: it is certain of another class
    concentration above its    by at least 0.3: it sees many classes where the adapted network answers few

The first alone is hard weather, which the frozen network fails at. The second alone is a camera that sees one class,
and a frozen network that does not know it any more. Or at least half of the answers are no numbers.

Pure: no clock, no thread. The limits were chosen on streams of corrupted images, see `docs/explanation/signs.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ecotta_rt.events import DoubtBegan, DoubtEnded, Event, Signs

__all__ = ["DoubtLimits", "Doubts", "collapse"]


@dataclass(frozen=True)
class DoubtLimits:
    """Where doubt begins.

    Attributes:
        most_error: Expected share of wrong answers.
        least_frames: Nothing is said of fewer frames.
        least_compared: Nor of fewer that the frozen network answered, too.
        most_contradiction: Share of sampled frames, of a doubt.
        contradiction, concentration: See above, of a collapse.
        broken: Share of frames.
        spare: Doubt ends below (1 - spare) times a limit.
    """

    most_error: float = 0.5
    least_frames: int = 100
    least_compared: int = 20
    most_contradiction: float = 0.6
    contradiction: float = 0.5
    concentration: float = 0.3
    broken: float = 0.5
    spare: float = 0.1


def collapse(signs: Signs, compared: int, limits: DoubtLimits, easing: float = 1.0) -> str | None:
    """Why a stream counts as collapsed, as a sentence; None: it does not.

    Args:
        signs: As they are.
        compared: How many frames the frozen network has answered, too.
        limits: Where it begins.
        easing: All limits are multiplied by it.
    """
    if signs.broken is not None and signs.broken >= limits.broken * easing:
        return f"{signs.broken:.0%} of the answers are no numbers, of at most {limits.broken:.0%}"
    if compared < limits.least_compared or signs.contradiction is None or signs.frozen_concentration is None:
        return None
    apart = signs.concentration - signs.frozen_concentration
    if signs.contradiction < limits.contradiction * easing or apart < limits.concentration * easing:
        return None
    return (
        f"the frozen network is certain of another class in {signs.contradiction:.0%} of the frames, of at most "
        f"{limits.contradiction:.0%}, and the answers are concentrated by {signs.concentration:.2f}, against "
        f"{signs.frozen_concentration:.2f} of its own"
    )


class Doubts:
    """The doubt of one stream.

    Args:
        limits: Where it begins.

    Attributes:
        since_s: When it began; None: there is none.
        collapsed: Why the stream counts as collapsed, since it was judged the last time; None: it does not.
    """

    def __init__(self, limits: DoubtLimits | None = None) -> None:
        self._limits = limits or DoubtLimits()
        self.since_s: float | None = None
        self.collapsed: str | None = None

    def judge(self, signs: Signs, compared: int, now_s: float) -> Iterator[Event]:
        """Look at the signs; yields a doubt that begins or ends.

        Args:
            signs: As they are.
            compared: How many frames the frozen network has answered, too.
            now_s: By a clock that never jumps.
        """
        self.collapsed = None
        if signs.frames < self._limits.least_frames:
            return
        self.collapsed = collapse(signs, compared, self._limits)
        easing = 1.0 if self.since_s is None else 1 - self._limits.spare
        why = self.collapsed or collapse(signs, compared, self._limits, easing)
        why = why or self._wrong(signs, easing) or self._contradicted(signs, compared, easing)
        if why is not None and self.since_s is None:
            self.since_s = now_s
            yield DoubtBegan(signs.frame, why)
        elif why is None and self.since_s is not None:
            lasted_s, self.since_s = now_s - self.since_s, None
            yield DoubtEnded(signs.frame, lasted_s)

    def _wrong(self, signs: Signs, easing: float) -> str | None:
        most = self._limits.most_error
        if signs.expected_error is not None:
            error, what = signs.expected_error, "of the answers are wrong, as the signs have it"
        elif signs.confidence is not None:
            error, what = 1 - signs.confidence, "is how far the answers themselves are in doubt"
        else:
            return None
        return f"{error:.0%} {what}, of at most {most:.0%}" if error >= most * easing else None

    def _contradicted(self, signs: Signs, compared: int, easing: float) -> str | None:
        most, found = self._limits.most_contradiction, signs.contradiction
        if found is None or compared < self._limits.least_compared or found < most * easing:
            return None
        return f"the frozen network is certain of another class in {found:.0%} of the frames, of at most {most:.0%}"
