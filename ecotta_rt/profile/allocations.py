"""See every storage that torch's operators make, forward and backward."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode

from ecotta_rt.profile.storages import storages_of

__all__ = ["AllocationWatch"]


class AllocationWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that reports the storages that operators read and make.

    A dispatch mode belongs to a thread, and torch takes it along into a backward, so it sees that too. Memory that a
    kernel takes and returns within one operator is not visible to it.

    Args:
        uses: Called with every storage that an operator is about to read.
        knows: Whether a storage needs no report. Asked about every output.
        made: Called with a new storage, its tensor, and the name of the output: `convolution`, `native_batch_norm[1]`.
    """

    def __init__(
        self,
        uses: Callable[[UntypedStorage], None],
        knows: Callable[[UntypedStorage], bool],
        made: Callable[[UntypedStorage, Tensor, str], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._uses, self._knows, self._made = uses, knows, made

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = [storage for tensor in _tensors((args, tuple(kwargs.values()))) for storage in storages_of(tensor)]
        for storage in inputs:
            self._uses(storage)
        result = func(*args, **kwargs)
        # lift_fresh hands on a tensor that was made, unseen, a moment ago: from a Python list or scalar.
        handed_on = set() if func is torch.ops.aten.lift_fresh.default else {storage._cdata for storage in inputs}
        outputs = list(_tensors((result,)))
        for index, output in enumerate(outputs):
            for storage in storages_of(output):
                if not self._knows(storage) and storage._cdata not in handed_on:
                    name = func.overloadpacket.__name__
                    self._made(storage, output, name if len(outputs) == 1 else f"{name}[{index}]")
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
