"""See what autograd saves, and for how long.

`torch.autograd.graph.saved_tensors_hooks` lets us hold what a node saves in an object of our own. The node drops that
object when its backward has run, or when its graph dies: that is the moment at which the memory is released.

Hooks do not add up: only the innermost ones are called. Checkpointing and offloading install their own, so while we
watch, theirs are wrapped, and what their pack hook hands over is counted instead: nothing for a checkpoint, the copy
for an offload, and the recomputed tensors while a checkpoint is unpacked.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ecotta_rt.errors import UsageError

__all__ = ["Keeper", "SavedTensors"]


class Keeper(Protocol):
    """Who is told what autograd keeps."""

    def keep(self, tensor: Tensor) -> object:
        """A node saved `tensor`; the result stands for that in `read` and `release`."""

    def keep_while_alive(self, tensor: Tensor) -> None:
        """Somebody else's hook holds `tensor`, in a place we can't see."""

    def read(self, kept: Any) -> None:
        """The node is about to use what it saved."""

    def release(self, kept: Any) -> None:
        """The node let go of what it saved."""


class _Saved:
    """One tensor saved by one node."""

    __slots__ = ("keeper", "kept", "tensor", "version")

    def __init__(self, tensor: Tensor, keeper: Keeper, kept: object) -> None:
        self.keeper, self.kept = keeper, kept
        # Detached: a node that saves its own output would otherwise hold itself alive through us.
        self.tensor = tensor.detach()
        self.version = tensor._version

    def __del__(self) -> None:
        self.keeper.release(self.kept)


class SavedTensors:
    """A context in which `keeper` is told about every tensor that autograd saves, in this thread.

    Raises:
        UsageError: Other hooks are already installed around it.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._hooks = saved_tensors_hooks(self._pack, self._unpack)
        self._enter_others = saved_tensors_hooks.__enter__

    def __enter__(self) -> "SavedTensors":
        if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
            raise UsageError(
                "an activation profiler was opened inside torch.autograd.graph.saved_tensors_hooks (or save_on_cpu), "
                "whose hooks it would replace; open the profiler around them"
            )
        self._hooks.__enter__()
        enter_others, watch = self._enter_others, self._watch

        def enter_watched(hooks: saved_tensors_hooks) -> None:
            own_pack = hooks.pack_hook
            hooks.pack_hook = watch(own_pack)
            try:
                enter_others(hooks)
            finally:
                hooks.pack_hook = own_pack

        saved_tensors_hooks.__enter__ = enter_watched  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        saved_tensors_hooks.__enter__ = self._enter_others  # type: ignore[method-assign]
        self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> _Saved:
        return _Saved(tensor, self._keeper, self._keeper.keep(tensor))

    def _unpack(self, saved: _Saved) -> Tensor:
        self._keeper.read(saved.kept)
        if saved.tensor._version != saved.version:
            # torch makes this check itself, but not for tensors that went through a hook.
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: "
                f"{saved.tensor.dtype} {list(saved.tensor.shape)} is at version {saved.tensor._version}, "
                f"was saved at version {saved.version}"
            )
        return saved.tensor

    def _watch(self, pack: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
        def watched(tensor: Tensor) -> Any:
            try:
                packed = pack(tensor)
            except BaseException:
                # Checkpointing stores the last tensor that it needs, then raises to stop the recomputation there.
                self._keeper.keep_while_alive(tensor)
                raise
            for held in _tensors_in(packed):
                self._keeper.keep_while_alive(held)
            return packed

        return watched


def _tensors_in(packed: Any, depth: int = 3) -> Iterator[Tensor]:
    """The tensors in what a pack hook returned: a tensor, or containers and plain objects of them."""
    if isinstance(packed, Tensor):
        yield packed
    elif depth:
        if isinstance(packed, dict):
            inner = list(packed.values())
        elif isinstance(packed, (list, tuple)):
            inner = list(packed)
        else:
            inner = list(getattr(packed, "__dict__", {}).values())
        for value in inner:
            yield from _tensors_in(value, depth - 1)
