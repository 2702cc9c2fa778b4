"""Measure what a training or adaptation step of any torch network keeps in memory for its backward.

    with ActivationProfiler(network) as profiler:
        loss = criterion(network(frames), labels)
        loss.backward()
    print(profiler.report.activation_bytes, profiler.report.peak_at)

*Kept* is what autograd has saved and not yet let go of: each storage once, at its whole size, however many nodes save
it or views of it. Tensors made by recomputation inside a backward count like all others, so that checkpointing can't
hide its peak. Only what the block itself allocates counts: parameters, buffers, gradients and frames that were there
before never do. `activation_bytes` is the largest sum over time.

What is not seen:
    - as kept, what a `torch.autograd.Function` puts on its `ctx` as a plain attribute, or a closure or a caching mode
      holds (`ctx.save_for_backward` is seen); such tensors still count in `step_peak_bytes`;
    - in `step_peak_bytes`, memory that a kernel takes and returns within one operator, and memory that no tensor holds;
    - whatever other threads of the program do, and opaque oneDNN tensors (`to_mkldnn`).
On an accelerator autograd runs in threads of its own; torch hands our hooks on to them, but that is not measured yet.
`torch.func` transforms refuse to run under saved-tensor hooks, and so inside a profiled block.
"""

import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor, UntypedStorage, nn

from ecotta_rt.errors import UsageError
from ecotta_rt.method.cut.module_paths import ModulePaths
from ecotta_rt.profile.profile_report import ActivationReport, KeptStorage, PeakPoint
from ecotta_rt.profile.saved_tensors import SavedTensors
from ecotta_rt.profile.step_memory import Block, StepMemory
from ecotta_rt.profile.storages import AllocationWatch, EarlierStorages, storages_of

__all__ = ["ActivationProfiler", "profile_step"]

_one_at_a_time = threading.Lock()


class ActivationProfiler:
    """Context manager that measures what autograd keeps inside its block; afterwards `report` tells.

    Args:
        network: Gives the names of modules. Without one, the first module called in the block does.
        limit_bytes: Largest `activation_bytes` allowed; None for no limit.
        part_of: Names of parts by module path, for example `{"block1.layer.0": "part 1"}`: a path belongs to the
            longest entry it starts with. Otherwise a part is the first component of a path (`block1`, `blocks.2`).

    Raises:
        BudgetExceeded: From inside the block, at the operator that passes the limit, forward or backward.
        UsageError: A limit below zero, a profiler inside another one or inside other saved-tensor hooks.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        limit_bytes: int | None = None,
        *,
        part_of: Mapping[str, str] | None = None,
    ) -> None:
        if limit_bytes is not None and limit_bytes < 0:
            raise UsageError(f"limit_bytes is {limit_bytes}; a limit is a number of bytes from 0 up, or None")
        self._network, self._limit_bytes, self._part_of = network, limit_bytes, part_of
        self._report: ActivationReport | None = None
        self._open: ExitStack | None = None

    @property
    def report(self) -> ActivationReport:
        """What the last block kept; after an error in the block, what it had kept by then.

        Raises:
            UsageError: The block has not ended yet.
        """
        if self._report is None:
            raise UsageError("the profiler has no report yet: read `report` after its `with` block has ended")
        return self._report

    def __enter__(self) -> "ActivationProfiler":
        if not _one_at_a_time.acquire(blocking=False):
            raise UsageError(
                "an activation profiler is already open in this process; profilers can't be nested, "
                "as each would hide the saved tensors from the other: close the first one, or use its report"
            )
        with ExitStack() as opening:
            opening.callback(_one_at_a_time.release)
            self._report = None
            self._begin(opening)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.__exit__(kind, error, trace)
            self._open = None

    def _begin(self, opening: ExitStack) -> None:
        paths = ModulePaths(self._network, self._part_of)
        watch = _Watch(StepMemory(self._limit_bytes), paths, self._earlier())
        opening.callback(self._finish, watch)
        opening.enter_context(paths)
        opening.enter_context(AllocationWatch(paths.uses, watch.knows, watch.made))
        opening.enter_context(SavedTensors(watch))

    def _earlier(self) -> EarlierStorages:
        # Gradients may have no Python object of their own, so the search for tensors may miss them.
        parameters = [] if self._network is None else list(self._network.parameters())
        return EarlierStorages([*parameters, *(found.grad for found in parameters if found.grad is not None)])

    def _finish(self, watch: "_Watch") -> None:
        self._report = watch.report()
        watch.memory.close()


def profile_step(
    step: Callable[[], object],
    network: nn.Module | None = None,
    limit_bytes: int | None = None,
    *,
    part_of: Mapping[str, str] | None = None,
) -> ActivationReport:
    """Run one step, forward, backward and update, under an `ActivationProfiler`; returns what it kept.

    The other arguments, and what it raises, are those of `ActivationProfiler`.
    """
    with ActivationProfiler(network, limit_bytes, part_of=part_of) as profiler:
        step()
    return profiler.report


class _Kept(NamedTuple):
    """What one node saved, and the module that was at work then."""

    blocks: list[Block]
    module: str


class _Watch:
    """Turns what torch's hooks report into entries of a `StepMemory`."""

    def __init__(self, memory: StepMemory, paths: ModulePaths, earlier: EarlierStorages) -> None:
        self.memory = memory
        self._paths, self._earlier = paths, earlier
        self._in_backward = False

    def knows(self, storage: UntypedStorage) -> bool:
        block = self.memory.find(storage._cdata)
        if block is None:
            return storage in self._earlier
        if block.nbytes != storage.nbytes():
            self.memory.resize(block, storage.nbytes(), self._now(block.operator))
        return True

    def made(self, storage: UntypedStorage, tensor: Tensor, output: str) -> None:
        key, memory, now = storage._cdata, self.memory, self._now(output.split("[")[0])
        dtype = str(tensor.dtype).removeprefix("torch.")
        name = f"{now.module}:{output}"
        block = Block(storage.nbytes(), name, now.operator, tuple(tensor.shape), dtype, now.module)
        block.lifetime = weakref.ref(storage, lambda _: memory.free(key))
        memory.allocate(key, block, now)

    def keep(self, tensor: Tensor) -> _Kept:
        for storage in storages_of(tensor):
            self._paths.uses(storage)
        kept = _Kept([], self._now("").module)
        try:
            for block in self._blocks(tensor):
                self.memory.keep(block, self._now(block.operator))
                kept.blocks.append(block)
        except BaseException:
            self.release(kept)
            raise
        return kept

    def keep_while_alive(self, tensor: Tensor) -> None:
        for block in self._blocks(tensor):
            self.memory.keep_until_freed(block, self._now(block.operator))

    def read(self, kept: _Kept) -> None:
        self._paths.visit(kept.module)

    def release(self, kept: _Kept) -> None:
        for block in kept.blocks:
            self.memory.release(block)

    def report(self) -> ActivationReport:
        live, kept = self.memory.live, self.memory.kept
        tenants = [self._tenant(block, block.kept_by) for block in kept.at_peak()]
        by_part: dict[str, int] = {}
        for tenant in tenants:
            by_part[tenant.part] = by_part.get(tenant.part, 0) + tenant.bytes
        return ActivationReport(
            activation_bytes=kept.peak_bytes,
            peak_at=kept.peak_at,
            tenants=_largest_first(tenants),
            by_part=by_part,
            step_peak_bytes=live.peak_bytes,
            step_peak_at=live.peak_at,
            step_tenants=_largest_first([self._tenant(block, block.made_in) for block in live.at_peak()]),
        )

    def _blocks(self, tensor: Tensor) -> list[Block]:
        """The blocks under a tensor, without those that are older than the step."""
        found = []
        for storage in storages_of(tensor):
            if not self.knows(storage):
                # No operator made it: `torch.from_numpy`, an extension.
                self.made(storage, tensor, "unseen")
            block = self.memory.find(storage._cdata)
            if block is not None:
                found.append(block)
        return found

    def _now(self, operator: str) -> PeakPoint:
        in_backward = torch._C._current_graph_task_id() != -1
        if self._in_backward and not in_backward:
            self._paths.visit(None)
        self._in_backward = in_backward
        return PeakPoint(self._paths.current(), operator, "backward" if in_backward else "forward")

    def _tenant(self, block: Block, module: str) -> KeptStorage:
        part = self._paths.part(module)
        return KeptStorage(block.name, part, block.kept_by, block.shape, block.dtype, block.nbytes)


def _largest_first(tenants: list[KeptStorage]) -> tuple[KeptStorage, ...]:
    return tuple(sorted(tenants, key=lambda tenant: tenant.bytes, reverse=True))
