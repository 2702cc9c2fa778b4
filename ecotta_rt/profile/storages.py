"""Which memory lies under a tensor, which there was before a step began, and which torch's operators make in it."""

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["AllocationWatch", "EarlierStorages", "storages_of"]


def storages_of(tensor: Tensor) -> tuple[UntypedStorage, ...]:
    """The storages that hold a tensor's elements: one for a dense tensor, one for each component of a sparse one."""
    if tensor.layout is torch.strided:
        return (tensor.untyped_storage(),)
    if tensor.layout is torch.sparse_coo:
        return (tensor._indices().untyped_storage(), tensor._values().untyped_storage())
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    else:  # torch._mkldnn: opaque, and there is no way to ask
        return ()
    return tuple(part.untyped_storage() for part in parts)


class EarlierStorages:
    """The storages that existed at one moment.

    Not every tensor of a step is made by an operator that a dispatch mode sees: `torch.from_numpy` and extensions make
    theirs unseen. So what is new is told by what is not old.

    Args:
        more: Tensors that may have no Python object yet, such as gradients.
    """

    def __init__(self, more: Iterable[Tensor] = ()) -> None:
        # Weak: addresses are used again, so a storage that dies must leave the list.
        self._storages = weakref.WeakValueDictionary[int, UntypedStorage]()
        for tensor in (*_all_tensors(), *more):
            for storage in storages_of(tensor):
                self._storages[storage._cdata] = storage

    def __contains__(self, storage: UntypedStorage) -> bool:
        return storage._cdata in self._storages


def _all_tensors() -> Iterator[Tensor]:
    # `type(...)`: isinstance asks an object for its class, and some lazy ones import a library to answer.
    return (found for found in gc.get_objects() if issubclass(type(found), Tensor))


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
