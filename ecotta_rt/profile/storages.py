"""Which memory lies under a tensor, and which memory there was before a step began."""

import gc
import weakref
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, UntypedStorage

__all__ = ["EarlierStorages", "storages_of"]


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
