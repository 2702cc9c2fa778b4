"""How often a network is wrong about frames that nothing learned from."""

from collections.abc import Callable

import torch
from torch import Tensor

from ecotta_rt.data import Labelled

__all__ = ["HeldOut"]


class HeldOut:
    """Measures the same held-out frames again and again, and keeps what it found.

    Args:
        data: The frames; None: nothing is measured.
        batch: Frames a forward pass.
        tell: Hears of each error.
    """

    def __init__(self, data: Labelled | None, batch: int, tell: Callable[[str], None] | None = None) -> None:
        self._data, self._batch, self._tell = data, batch, tell
        self._found: dict[str, str] = {}

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
        self._found[when] = f"{error_percent:.1f} %"
        if self._tell is not None:
            self._tell(f"{when} {self._found[when]} of {len(labels)} held-out pictures wrong")
        return error_percent

    def record(self) -> dict[str, str]:
        """What was found, for a state's metadata."""
        if self._data is None:
            return {}
        found = ", ".join(f"{error} {when}" for when, error in self._found.items())
        return {"held_out": f"{len(self._data.labels)} pictures, wrong: {found}"}
