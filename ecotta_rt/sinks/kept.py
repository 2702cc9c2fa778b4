"""A sink for tests."""

from ecotta_rt.events import Answer, Event, GuardStep, Refusal

__all__ = ["Kept"]


class Kept:
    """Keeps everything.

    Attributes:
        events: In the order they came.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def take(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass

    @property
    def answers(self) -> list[Answer]:
        return [event for event in self.events if isinstance(event, Answer)]

    @property
    def refusals(self) -> list[Refusal]:
        return [event for event in self.events if isinstance(event, Refusal)]

    @property
    def steps(self) -> list[GuardStep]:
        return [event for event in self.events if isinstance(event, GuardStep)]
