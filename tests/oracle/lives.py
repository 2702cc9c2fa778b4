"""How long each tensor of a program lives, and so what any executor in that order must hold: at least, at most.

    Program  ->  find_lives()  ->  Lives: bytes at each operation, the worst of them, who is alive there

A tensor lives from the operation that makes it to the last one that reads it, or a view of it. What the caller has
anyway is not counted: inputs, results, constants. Three figures for each operation:

    least    an elementwise operation may write over an input that nobody reads again
    live     every tensor has a place of its own; views share theirs
    most     a place is kept for the next tensor of that shape, from its first tenant to its last, as onnxruntime keeps
             it; and an operator's own working memory comes on top

Of an operation with branches, the dearer branch counts while it runs; what a branch reads of the graph around it lives
until then. An executor that fuses operations, or leaves some out, may hold less than `least`; one whose arena has
holes, or that runs them in another order, more than `most`.

WRN-40-2, 64 frames in `running` normalisation: least and live 100.7 MiB, most 125.0. onnxruntime 1.31.1, asked to
rewrite nothing and to give every freed tensor back, grew by 158 MiB from loaded to its peak; the weights that it had
mapped by then were 16 of these, and 10 were pages of its own code.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from oracle.program import Operation, Program

__all__ = ["VIEWS", "Life", "Lives", "Place", "find_lives", "working_bytes"]

VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""The same bytes under another shape."""

_ELEMENTWISE = frozenset(
    "Abs Add And BatchNormalization Cast Clip Div Equal Exp Greater GreaterOrEqual HardSigmoid HardSwish Less "
    "LessOrEqual Log Max Min Mul Neg Not Or Pow Reciprocal Relu Sigmoid Sign Sqrt Sub Tanh Where Xor".split()
)
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Life:
    """A tensor with a place of its own, from the operation that makes it to the last one that needs it."""

    name: str
    op_type: str
    size_bytes: int
    born: int
    dies: int


@dataclass(frozen=True)
class Place:
    """Memory for one tensor after the other, from the first one's birth to the last one's death."""

    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Lives:
    """What a program holds, operation by operation, in bytes."""

    lives: tuple[Life, ...]  # in the order in which they are made; those of branches are not among them
    places: tuple[Place, ...]  # where onnxruntime would put them
    least: tuple[int, ...]
    live: tuple[int, ...]
    most: tuple[int, ...]

    @property
    def least_bytes(self) -> int:
        """The worst moment of `least`."""
        return max(self.least, default=0)

    @property
    def live_bytes(self) -> int:
        """The worst moment of `live`."""
        return max(self.live, default=0)

    @property
    def most_bytes(self) -> int:
        """The worst moment of `most`."""
        return max(self.most, default=0)

    @property
    def peak(self) -> int:
        """Index of the first operation at which `live` is worst."""
        return max(range(len(self.live)), key=self.live.__getitem__, default=0)

    def at(self, index: int) -> tuple[Life, ...]:
        """Who is alive while an operation runs, the largest first."""
        alive = [life for life in self.lives if life.born <= index <= life.dies]
        return tuple(sorted(alive, key=lambda life: -life.size_bytes))


def find_lives(program: Program) -> Lives:
    """Walk through a program in its order."""
    owners = _owners(program)
    born: dict[str, int] = {}
    dies: dict[str, int] = {}
    for index, operation in enumerate(program.operations):
        for name in (*_reads(operation), *operation.outputs):
            owner = owners.get(name)
            if owner is not None:
                born.setdefault(owner, index)
                dies[owner] = index
    lives = tuple(
        Life(name, program.operations[born[name]].op_type, program.tensors[name].size_bytes, born[name], dies[name])
        for name in born
    )
    places = _places(program, lives)
    count = len(program.operations)
    held = _sums(((life.size_bytes, life.born, life.dies) for life in lives), count)
    kept = _sums(((place.size_bytes, place.first, place.last) for place in places), count)
    least, live, most = [], [], []
    for index, operation in enumerate(program.operations):
        branches = [find_lives(branch) for branch in operation.branches]
        overwritten = _overwritten(program, owners, dies, index)
        working = sum(working_bytes(operation, program))
        least.append(held[index] - overwritten + max((branch.least_bytes for branch in branches), default=0))
        live.append(held[index] + max((branch.live_bytes for branch in branches), default=0))
        most.append(kept[index] + working + max((branch.most_bytes for branch in branches), default=0))
    return Lives(lives, places, tuple(least), tuple(live), tuple(most))


def _sums(spans: Iterable[tuple[int, int, int]], count: int) -> list[int]:
    """Bytes at each of `count` operations of what is there from one of them to another: (bytes, first, last)."""
    changes = [0] * (count + 1)
    for size_bytes, first, last in spans:
        changes[first] += size_bytes
        changes[last + 1] -= size_bytes
    return list(accumulate(changes))[:count]


def _places(program: Program, lives: Sequence[Life]) -> tuple[Place, ...]:
    """Each tensor takes the latest place that is free and had one of its shape.

    Source: onnxruntime, core/framework/allocation_planner.cc, FindReusableTensor: same shape and size of an element,
    the one freed last first; a place goes back when its last tenant has died.
    """
    free: defaultdict[tuple[tuple[int, ...], int], list[int]] = defaultdict(list)
    places: list[Place] = []
    leaving: defaultdict[int, list[tuple[tuple[tuple[int, ...], int], int]]] = defaultdict(list)
    coming = deque(lives)
    for index in range(len(program.operations)):
        while coming and coming[0].born == index:
            life = coming.popleft()
            kind = (program.tensors[life.name].shape, life.size_bytes)
            if free[kind]:
                place = free[kind].pop()
                places[place] = replace(places[place], last=life.dies)
            else:
                place = len(places)
                places.append(Place(life.size_bytes, life.born, life.dies))
            leaving[life.dies].append((kind, place))
        for kind, place in leaving.pop(index, ()):
            free[kind].append(place)
    return tuple(places)


def _owners(program: Program) -> dict[str, str | None]:
    """For each name made here the one whose place it has; None for the caller's places."""
    results = set(program.results)
    owners: dict[str, str | None] = {}
    for operation in program.operations:
        for name in filter(None, operation.outputs):
            owners[name] = None if name in results else name
        if operation.op_type in VIEWS and operation.outputs[0] not in results:
            owners[operation.outputs[0]] = owners.get(operation.inputs[0])
    return owners


def _reads(operation: Operation) -> set[str]:
    """What an operation reads; with branches, what any of theirs does."""
    nested = (_reads(inner) for branch in operation.branches for inner in branch.operations)
    return set(filter(None, operation.inputs)).union(*nested)


def _overwritten(program: Program, owners: Mapping[str, str | None], dies: Mapping[str, int], index: int) -> int:
    """Bytes of a result that an elementwise operation can put where one of its inputs was."""
    operation = program.operations[index]
    result = owners.get(operation.outputs[0])
    if operation.op_type not in _ELEMENTWISE or result is None:
        return 0
    size_bytes = program.tensors[result].size_bytes
    read = [owners.get(name) for name in operation.inputs]
    free = [owner for owner in read if owner is not None and dies[owner] == index]
    fits = any(program.tensors[owner].size_bytes >= size_bytes for owner in free)
    return size_bytes if fits else 0


def working_bytes(operation: Operation, program: Program) -> tuple[int, ...]:
    """What onnxruntime's plain kernels take for themselves while they run, piece by piece; read off its sources.

    Source: onnxruntime, core/providers/cpu: tensor/where_op.cc (both sides are spread out before they are merged),
    nn/conv.cc and nn/conv_transpose.cc with core/mlas (columns of one image and one group; kernels that take them in
    parts need less).
    """
    shapes = [program.tensors[name].shape if name else () for name in (*operation.inputs[:2], operation.outputs[0])]
    if operation.op_type == "Where":
        return (program.tensors[operation.outputs[0]].size_bytes,) * 2
    if operation.op_type == "Conv" and not _is_product(operation, shapes[1]):
        return (_FLOAT_BYTES * math.prod(shapes[1][1:]) * math.prod(shapes[2][2:]),)
    if operation.op_type == "ConvTranspose":
        return (_FLOAT_BYTES * math.prod(shapes[1][1:]) * math.prod(shapes[0][2:]),)
    return ()


def _is_product(conv: Operation, weight: tuple[int, ...]) -> bool:
    """Whether a convolution is a plain product of matrices: it needs no columns."""
    apart = {*conv.numbers.get("strides", ()), *conv.numbers.get("dilations", ())} - {1}
    return set(weight[2:]) == {1} and not apart and not any(conv.numbers.get("pads", ()))
