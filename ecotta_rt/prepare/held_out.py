"""How often a network is wrong about frames that nothing learned from."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ecotta_rt.data import Labelled

__all__ = ["HeldOut"]


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
        frames, labels = self._data.frames, self._data.labels
        wrong = 0
        for start in range(0, len(labels), self._batch):
            piece = torch.from_numpy(frames[start : start + self._batch].copy()).permute(0, 3, 1, 2)
            found = answer(piece.float().div_(255)).argmax(1).numpy()
            wrong += int((found != labels[start : start + self._batch]).sum())
        error_percent = 100 * wrong / len(labels)
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
