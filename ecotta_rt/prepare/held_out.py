"""How often a network is wrong about frames that nothing learned from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecotta_rt.data import Labelled

__all__ = ["GUESSES", "HeldOut", "is_guessing", "wrong_answers"]

GUESSES = (
    "warning: the network is hardly better than guessing; is the order of the classes (--classes) that of its "
    "outputs, and does it get its frames as it was trained (--mean, --std, --size)?"
)

_GUESSING = 0.8
"""Of the error of a network that guesses: from there on something about the data is not what it was trained on."""


def is_guessing(error_percent: float, data: Labelled | None) -> bool:
    """Whether a network with this error on `data` is hardly better than guessing."""
    return data is not None and error_percent > _GUESSING * (100 - 100 / len(np.unique(data.labels)))


@torch.no_grad()
def wrong_answers(answer: Callable[[Tensor], Tensor], data: Labelled, batch: int) -> NDArray[np.bool_]:
    """Which of `data` are answered wrongly, bool `[N]`.

    Args:
        answer: From float32 frames `[n, C, H, W]` in [0, 1] to logits.
        data: The frames, played in their order.
        batch: Frames a forward pass, at most; a batch more or less has one frame less, so that none is left with one.
    """
    wrong = []
    for places in np.array_split(np.arange(len(data.labels)), -(-len(data.labels) // batch)):
        piece = torch.from_numpy(data.frames[places]).permute(0, 3, 1, 2)
        wrong.append(answer(piece.float().div_(255)).argmax(1).numpy() != data.labels[places])
    return np.concatenate(wrong)


class HeldOut:
    """Measures the same held-out frames again and again, and keeps what it found.

    Args:
        data: The frames; None: nothing is measured.
        batch: Frames a forward pass.
        tell: Called with a line for each error that was measured.
    """

    def __init__(self, data: Labelled | None, batch: int, tell: Callable[[str], None] | None = None) -> None:
        self._data, self._batch, self._tell = data, batch, tell
        self._found: dict[str, float] = {}

    def measure(self, when: str, answer: Callable[[Tensor], Tensor]) -> float | None:
        """Count the frames that `answer` is wrong about.

        Args:
            when: For people: "before the warm-up".
            answer: From float32 frames `[N, C, H, W]` in [0, 1] to logits.

        Returns:
            Their share in percent; None without frames.
        """
        if self._data is None:
            return None
        labels = self._data.labels
        error_percent = 100 * float(wrong_answers(answer, self._data, self._batch).mean())
        self._found[when] = error_percent
        if self._tell is not None:
            self._tell(f"{when} {error_percent:.1f} % of {len(labels)} held-out pictures wrong")
        return error_percent

    def record(self) -> dict[str, str]:
        """What was found, for a state's metadata."""
        if self._data is None:
            return {}
        found = ", ".join(f"{error:.1f} % {when}" for when, error in self._found.items())
        return {"held_out": f"{len(self._data.labels)} pictures, wrong: {found}"}

    def as_json(self) -> dict[str, Any] | None:
        """The same in numbers; None without frames."""
        if self._data is None:
            return None
        wrong = {when.partition(" ")[0]: error for when, error in self._found.items()}  # before, after
        return {"pictures": len(self._data.labels), "wrong_percent": wrong}
