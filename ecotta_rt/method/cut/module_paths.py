"""Know at any moment which module of a network is at work, forward or backward.

Forward it is the innermost module being called. In a backward, and in code that computes with a network's parameters
but does not call its modules (fx interpreters, functional calls), it is the owner of the parameter that was used last,
or the module that saved the tensor that a backward read last.

torch's own `torch.utils.module_tracker` names modules by class, loses count when a forward raises, and puts hooks on
the tensors it sees; a plain stack fed by torch's global module hooks does none of that.
"""

from collections.abc import Mapping
from typing import Any

from torch import UntypedStorage, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

__all__ = ["OUTSIDE", "ModulePaths"]

OUTSIDE = "outside the network"
"""Path and part of what runs in no module, for example a loss function."""


class ModulePaths:
    """A context that follows the module at work.

    Args:
        network: Gives the paths. Without one, the first module that is called does.
        part_of: Part names by module path; a path belongs to the longest entry that it starts with. A path without an
            entry belongs to its first component, with the number after it where the component is a list of modules.
    """

    def __init__(self, network: nn.Module | None = None, part_of: Mapping[str, str] | None = None) -> None:
        self._part_of = dict(part_of or {})
        self._root: nn.Module | None = None
        self._paths: dict[nn.Module, str] = {}
        self._owners: dict[int, str] = {}  # of parameters and buffers, by storage
        self._called: list[tuple[nn.Module, str | None]] = []
        self._visited: str | None = None
        self._handles: list[RemovableHandle] = []
        if network is not None:
            self._index(network)

    def __enter__(self) -> "ModulePaths":
        self._handles = [
            register_module_forward_pre_hook(self._begin),
            # Also when a forward raises, as checkpointing does to stop its recomputation early.
            register_module_forward_hook(self._end, always_call=True),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._called.clear()

    def current(self) -> str:
        """Path of the module at work, the class name for the network itself, or `OUTSIDE`."""
        if not self._called:
            return self._visited or OUTSIDE
        module, path = self._called[-1]
        return path or self._visited or type(module).__name__

    def uses(self, storage: UntypedStorage) -> None:
        """Note that an operator reads this storage: it may be a parameter's."""
        owner = self._owners.get(storage._cdata)
        if owner is not None:
            self._visited = owner

    def visit(self, path: str | None) -> None:
        """Note that the module at `path` is at work though nobody calls it; None when it no longer is."""
        self._visited = path

    def part(self, path: str) -> str:
        """The part that a module path belongs to."""
        named = [prefix for prefix in self._part_of if path == prefix or path.startswith(f"{prefix}.")]
        if named:
            return self._part_of[max(named, key=len)]
        first, *rest = path.split(".")
        return f"{first}.{rest[0]}" if rest and rest[0].isdecimal() and not first.isdecimal() else first

    def _index(self, network: nn.Module) -> None:
        self._root = network
        for name, module in network.named_modules():
            path = self._paths[module] = name or type(network).__name__
            for owned in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                self._owners.setdefault(owned.untyped_storage()._cdata, path)

    def _begin(self, module: nn.Module, _: Any) -> None:
        if self._root is None:
            self._index(module)
        # A module that is not the network's, such as one made on the fly, counts for the one that calls it.
        caller = self._called[-1][1] if self._called else None
        self._called.append((module, self._paths.get(module, caller)))

    def _end(self, module: nn.Module, _: Any, __: Any) -> None:
        while self._called and self._called.pop()[0] is not module:
            pass
        if module is self._root:
            self._visited = None
