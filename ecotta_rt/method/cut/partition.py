"""Cut a frozen network into a stem, K consecutive parts and a head.

    network, frames  ->  trace()  ->  find_cells()  ->  partition()  ->  Partition

    head(part_K(... part_1(stem(frames)))) == network(frames)        bit for bit

A softmax or sigmoid at the network's end is left out of the head: adaptation wants logits.

Any convolutional network that torch.fx can trace can be cut at its single-tensor borders. Two attributes of a network
help: `blocks`, the paths of its residual blocks (they become the cells), and `cuts`, a mapping from K to cells per part
(the paper's presets). Without a preset the cells are dealt out by their multiply-accumulates, shallow parts finer.

Every piece is an fx.GraphModule that shares the network's modules and parameters: moving or training a piece moves or
trains the network. `node.meta["shape"]` of a piece's nodes is the shape of one frame's tensor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import Tensor, fx, nn

from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.method.cut.batch_axis import follow_the_live_tensor, keep_the_batch_axis
from ecotta_rt.method.cut.cells import Cells, find_cells
from ecotta_rt.method.cut.cost import macs
from ecotta_rt.method.cut.last_activation import take_off_last_activation
from ecotta_rt.method.cut.plain_norms import plain_norms
from ecotta_rt.method.cut.tracing import shape_of, trace
from ecotta_rt.method.cut.unwrapping import settled, unwrapped

__all__ = ["Part", "Partition", "partition"]

_PLAIN_PENALTY, _BULGE_PENALTY = 0.03**2, 0.15**2
"""Costs of a cut where no branches join, and of one where the channels are about to shrink; squared shares of the work.

Rather 3 % (15 %) off balance than there: a meta group's convolution grows with the channels on both sides of its part.
"""


@dataclass(frozen=True)
class Part:
    """One of the K parts.

    Attributes:
        module: The part, feature map to feature map; the composition of its cells.
        cells: The cells one by one; they share the part's weights.
        name: `part1` ... `partK`.
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        stride: Input height over output height, the stride a meta group's convolution needs.
        in_shape: `(C, H, W)` of its input for the example frames.
        out_shape: `(C, H, W)` of its output for the example frames.
        macs: Multiply-accumulates per frame.
        cell_names: Where each cell ends, or the path of its block.
    """

    module: fx.GraphModule
    cells: tuple[fx.GraphModule, ...]
    name: str
    in_channels: int
    out_channels: int
    stride: int
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    macs: int
    cell_names: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """A network as stem, parts and head; see the module's docstring.

    Attributes:
        stem: Up to the first part.
        parts: The K parts.
        head: From the last part to the logits.
        notes: What was read otherwise than its owner wrote it, a line each: a softmax taken off.
    """

    stem: fx.GraphModule
    parts: tuple[Part, ...]
    head: fx.GraphModule
    notes: tuple[str, ...] = ()


def partition(network: nn.Module, example_frames: Tensor, parts: int | Sequence[int] = 4) -> Partition:
    """Cut `network` into stem, K parts and head.

    Args:
        network: Frames to logits; traced in its present mode, its statistics are not moved. Its weights become plain
            ones (see `settled`), and norms that are no `nn.BatchNorm2d` get one as a child (see `plain_norms`).
        example_frames: float32 `[N, C, H, W]` in [0, 1]; one frame is enough, its size is the one that counts.
        parts: K, or the number of cells of each part from shallow to deep.

    Returns:
        The pieces; composed they equal the network bit for bit.

    Raises:
        UsageError: `parts` cannot be meant, or `example_frames` is no batch of frames.
        NetworkError: The network cannot be traced or cut; the message names the node.
    """
    network = settled(unwrapped(network))
    graph = trace(network, example_frames)
    plain_norms(network, graph, example_frames)
    keep_the_batch_axis(graph)
    removed = take_off_last_activation(graph, dict(network.named_modules()))
    follow_the_live_tensor(graph)
    cells = find_cells(graph, dict(network.named_modules()), _blocks(network))
    counts = _cells_per_part(network, cells, parts)
    bounds = [0, *accumulate(counts)]
    return Partition(
        stem=_piece(network, cells.stem, "Stem"),
        parts=tuple(_part(network, cells, f"part{k + 1}", a, b) for k, (a, b) in enumerate(pairwise(bounds))),
        head=_piece(network, cells.head, "Head"),
        notes=() if removed is None else (removed,),
    )


def _blocks(network: nn.Module) -> Sequence[str]:
    # Other libraries use the name too, for the modules themselves: only paths are meant for us.
    blocks = getattr(network, "blocks", ())
    is_paths = isinstance(blocks, tuple | list) and all(isinstance(block, str) for block in blocks)
    return blocks if is_paths else ()


def _presets(network: nn.Module) -> Mapping[int, Sequence[int]]:
    cuts = getattr(network, "cuts", {})
    return cuts if isinstance(cuts, Mapping) and _blocks(network) else {}


def _cells_per_part(network: nn.Module, cells: Cells, parts: int | Sequence[int]) -> tuple[int, ...]:
    have = f"{type(network).__name__} has {len(cells.cells)} cells: {_listed(cells.names)}"
    if isinstance(parts, int):
        if parts < 1:
            raise UsageError(f"parts={parts}: a network has at least one part")
        if parts > len(cells.cells):
            most = len(cells.cells)
            raise NetworkError(
                f"{parts} parts asked for, but {have}. Choose at most {most} (--parts {most}). There are no more"
                f" cells, which lie between the places for a cut, because {cells.limit}"
            )
        presets = _presets(network)
        counts = tuple(presets[parts]) if parts in presets else _by_cost(network, cells, parts)
    else:
        counts = _whole_numbers(parts)
    if sum(counts) != len(cells.cells):
        raise NetworkError(f"parts of {'-'.join(map(str, counts))} cells need {sum(counts)}, but {have}")
    return counts


def _whole_numbers(parts: Sequence[object]) -> tuple[int, ...]:
    counts = tuple(count for count in parts if isinstance(count, int) and count > 0)
    if not counts or len(counts) != len(parts):
        raise UsageError(f"parts={list(parts)}: give the number of cells of each part, each at least 1")
    return counts


def _by_cost(network: nn.Module, cells: Cells, parts: int) -> tuple[int, ...]:
    """Cells per part so that the parts' shares of the work come closest to the paper's proportions."""
    done = list(accumulate((macs(cell, network) for cell in cells.cells), initial=0))
    total = max(done[-1], 1)
    targets = list(accumulate(_shares(parts)))
    # best[b] = (least sum of squared deviations with the k-th part ending at cell b, those ends)
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for k in range(1, parts + 1):
        last = k == parts
        ends = [len(cells.cells)] if last else range(k, len(cells.cells) - (parts - k) + 1)
        best = {
            end: min(
                (loss + (done[end] / total - targets[k - 1]) ** 2 + _penalty(cells, end), (*before, end))
                for start, (loss, before) in best.items()
                if start < end
            )
            for end in ends
        }
    ends_chosen = best[len(cells.cells)][1]
    return tuple(b - a for a, b in pairwise((0, *ends_chosen)))


def _shares(parts: int) -> list[float]:
    """Shares of the work: the last part does twice the others', with K = 4 the last two (1/6 1/6 1/3 1/3)."""
    doubled = 2 if parts == 4 else 1
    return [(1 + (k >= parts - doubled)) / (parts + doubled) for k in range(parts)]


def _penalty(cells: Cells, end: int) -> float:
    here = cells.channels[end - 1]
    following = next((channels for channels in cells.channels[end:] if channels != here), here)
    if following < here:
        return _BULGE_PENALTY
    return 0.0 if cells.joined[end - 1] else _PLAIN_PENALTY


def _part(network: nn.Module, cells: Cells, name: str, first: int, stop: int) -> Part:
    stretches = cells.cells[first:stop]
    nodes = tuple(node for stretch in stretches for node in stretch)
    module = _piece(network, nodes, name.capitalize())
    in_shape, out_shape = _ends(module)
    return Part(
        module=module,
        cells=tuple(_piece(network, stretch, "Cell") for stretch in stretches),
        name=name,
        in_channels=in_shape[0],
        out_channels=out_shape[0],
        stride=_stride(name, cells.names[first:stop], in_shape, out_shape),
        in_shape=in_shape,
        out_shape=out_shape,
        macs=macs(nodes, network),
        cell_names=cells.names[first:stop],
    )


def _stride(name: str, cell_names: Sequence[str], in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
    """The stride with which a convolution that pads to keep the size would make the same change of size."""
    (height, width), (out_height, out_width) = in_shape[1:], out_shape[1:]
    stride = max(1, round(height / out_height))
    if (-(-height // stride), -(-width // stride)) != (out_height, out_width):
        raise NetworkError(
            f"{name} ({_listed(cell_names)}) turns {height}x{width} into {out_height}x{out_width}: no whole stride "
            "does that, so no meta group fits beside it. Choose other cuts (parts=[...]), or frames of another size"
        )
    return stride


def _ends(piece: fx.GraphModule) -> tuple[tuple[int, ...], tuple[int, ...]]:
    inputs = next(node for node in piece.graph.nodes if node.op == "placeholder")
    result = piece.graph.output_node().all_input_nodes[0]
    return shape_of(inputs) or (), shape_of(result) or ()


def _piece(network: nn.Module, nodes: Sequence[fx.Node], name: str) -> fx.GraphModule:
    """Copy `nodes` into a graph of their own; weights and constants are fetched again in each piece, not copied."""
    graph = fx.Graph()
    inside = set(nodes)
    copies: dict[fx.Node, fx.Node] = {}
    border = next(a for node in nodes for a in node.all_input_nodes if a not in inside and a.op != "get_attr")
    copies[border] = graph.placeholder("features" if border.op != "placeholder" else border.name)
    copies[border].meta.update(border.meta)
    for node in nodes:
        for source in node.all_input_nodes:
            if source not in copies and source.op == "get_attr":
                copies[source] = graph.node_copy(source)
        copies[node] = graph.node_copy(node, lambda source: copies[source])
    # A stretch whose own results nobody uses (a branch kept for its statistics) hands its input on.
    result = next((node for node in nodes if any(user not in inside for user in node.users)), border)
    graph.output(copies[result])
    return fx.GraphModule(network, graph, name)


def _listed(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
