"""The ladder of a run that has to do with less: what each rung still does, and what it saves.

| rung | a batch is | saves time | saves memory |
| --- | --- | --- | --- |
| full | answered and learned from | | |
| sparse | answered; each n-th is learned from | most of the step | none: a second graph answers |
| statistics | answered; the statistics follow it, where they follow at all | the step | the graph that learns |
| inference | answered, frame by frame where the bundle can; the state is held | | the tensors of a batch |
| drop | not answered: its frames are counted as dropped | everything | all graphs |

So heat is met with sparse, statistics and drop; lack of memory with statistics, inference and drop. Statistics follow
in `running` normalisation only.
"""

from enum import IntEnum

__all__ = ["Level"]


class Level(IntEnum):
    """A rung; a higher number does less. `str` gives the name of the table.

    >>> str(Level.STATISTICS), Level.DROP > Level.FULL
    ('statistics', True)
    """

    FULL = 0
    SPARSE = 1
    STATISTICS = 2
    INFERENCE = 3
    DROP = 4

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def learns(self) -> bool:
        """Whether the graph that learns is held."""
        return self <= Level.SPARSE
