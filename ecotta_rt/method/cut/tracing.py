"""Record a network as a flat list of operations with known shapes.

    network, frames  ->  trace()  ->  fx.Graph, nodes in execution order, node.meta["shape"] on every tensor

Modules of torch.nn (and our Normalise) stay whole; everything else is traced through. Shapes come from running the
graph once on two frames and once on three: what does not follow the number of frames is a network with a fixed batch
size, and the sizes a forward reads from its tensors are told apart from constants. The run works on copies of the
buffers, so a network in training mode keeps its statistics.

The network is traced in its present mode: `F.dropout(x, training=self.training)` keeps the mode it was traced in.
"""

import traceback
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.method.cut.normalise import Normalise
from ecotta_rt.method.cut.one_line import one_line

__all__ = ["RESHAPES", "STATISTICS_NAMES", "describe", "shape_of", "trace", "uses_views"]

STATISTICS_NAMES = ("running_mean", "running_var", "moving_mean", "moving_var", "moving_variance")
"""What the running statistics of norms are called."""

RESHAPES = {"view": "reshape", "view_as": "reshape_as"}
"""What gives the same on channels-last tensors, on which `view` fails; see `any_layout`."""


def trace(network: nn.Module, example_frames: Tensor) -> fx.Graph:
    """Trace `network` and record the shape of every tensor in it.

    Args:
        network: Any network that takes one batch of frames and returns one tensor.
        example_frames: float32 `[N, C, H, W]`, N at least 1; only the shape of a frame matters.

    Returns:
        The graph. `node.meta["shape"]` is the shape of one frame's tensor, without the batch, and
        `node.meta["follows_batch"]` says whether its first axis is the batch; nodes that are no tensors have no shape.

    Raises:
        UsageError: `example_frames` is no batch of frames.
        NetworkError: Control flow that depends on values, a fixed batch size, more than one input or output.
    """
    _check_frames(example_frames)
    tracer = _Tracer()
    try:
        graph = tracer.trace(network)
    except Exception as error:  # tracing runs foreign code: whatever it raises means "cannot be traced"
        raise _untraceable(network, tracer, error) from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs)
        raise NetworkError(
            f"{_name(network)}.forward takes {len(inputs)} inputs ({names}); a network here takes one batch of frames. "
            "Wrap it in a module whose forward fills in the others"
        )
    for node in _views(graph):
        node.target = RESHAPES[str(node.target)]
    _record_shapes(network, graph, example_frames)
    return graph


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of one frame's tensor at `node`, None when it is no tensor or has no batch axis."""
    shape: tuple[int, ...] | None = node.meta.get("shape")
    return shape if node.meta.get("follows_batch") else None


class _Tracer(fx.Tracer):
    """fx.Tracer that remembers which module it was in when the trace failed."""

    def __init__(self) -> None:
        super().__init__()
        self.failed_in: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Normalise) or _is_norm(m) or super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        # What is computed of a buffer is a constant in a trace, and nobody sees of what: of statistics we want to know.
        self.proxy_buffer_attributes = attr in STATISTICS_NAMES
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed_in is None:
                self.failed_in = f"{self.path_of_module(m)} ({_name(m)})"
            raise


class _ShapeRun(fx.Interpreter):
    """Runs the graph, leaves the buffers alone, and keeps each node's shape or value."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.extra_traceback = False  # an error of ours is a sentence; torch would add the node and the stack to it
        self.seen: dict[fx.Node, tuple[bool, Any]] = {}  # is a tensor, its shape or else the value
        self.buffers = {name: value.clone() for name, value in module.named_buffers()}

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except Exception as error:
            raise NetworkError(
                f"node '{n.name}' ({describe(n)}) cannot run on example frames: {one_line(error)}"
            ) from error
        if n.op != "output":
            self.seen[n] = (True, tuple(value.shape)) if isinstance(value, Tensor) else (False, value)
        elif not isinstance(value, Tensor):
            raise NetworkError(
                f"the network returns {type(value).__name__}, not one tensor of logits. "
                "Wrap it in a module whose forward picks the logits"
            )
        return value

    def fetch_attr(self, target: str) -> Any:
        return self.buffers.get(target, super().fetch_attr(target))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.module.get_submodule(target)
        inside = {name: self.buffers[f"{target}.{name}"] for name, _ in module.named_buffers()}
        return torch.func.functional_call(module, inside, args, kwargs)


def describe(node: fx.Node) -> str:
    """A node as its owner would call it: the module path, or the function and the module it is called in."""
    if node.op in ("call_module", "get_attr"):
        return str(node.target)
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    stack = list(node.meta.get("nn_module_stack", {}))
    return f"{target} in {stack[-1]}" if stack and stack[-1] else node.name


def uses_views(network: nn.Module) -> bool:
    """Whether its forward calls `view` or `view_as`; no where it cannot be traced, which others tell of."""
    try:
        return bool(_views(_Tracer().trace(network)))
    except Exception:
        return False


def _views(graph: fx.Graph) -> list[fx.Node]:
    """Those that give another shape, not another number format."""
    return [
        node
        for node in graph.nodes
        if node.op == "call_method"
        and node.target in RESHAPES
        and not any(isinstance(value, torch.dtype) for value in (*node.args, *node.kwargs.values()))
    ]


def _record_shapes(network: nn.Module, graph: fx.Graph, frames: Tensor) -> None:
    two, three = (_run(network, graph, frames, count) for count in (2, 3))
    astray: list[fx.Node] = []
    for node, (is_tensor, seen) in two.items():
        also = three[node][1]
        if not is_tensor:
            node.meta["scalar_is_batch"] = type(seen) is int and (seen, also) == (2, 3)
            continue
        follows = bool(seen) and seen[0] == 2 and also == (3, *seen[1:])
        node.meta["shape"], node.meta["follows_batch"] = seen[1:] if follows else seen, follows
        if not follows and seen != also:
            astray.append(node)
    result = graph.output_node().all_input_nodes[0]
    if shape_of(result) is None:
        # Inside, an attention may put the batch on another axis for a while; the logits may not.
        node = astray[0] if astray else result
        raise NetworkError(
            f"node '{node.name}' ({describe(node)}) has shape {two[node][1]} for 2 frames and {three[node][1]} for 3, "
            "and the logits do not have one row a frame: write the batch size as x.size(0), and do not mix frames"
        )


def _run(network: nn.Module, graph: fx.Graph, frames: Tensor, count: int) -> dict[fx.Node, tuple[bool, Any]]:
    batch = frames[torch.arange(count) % len(frames)]
    run = _ShapeRun(network, graph)
    with torch.no_grad(), torch.random.fork_rng(devices=[frames.device] if frames.is_cuda else []):
        run.run(batch)
    return run.seen


def _check_frames(frames: object) -> None:
    if isinstance(frames, Tensor):
        if frames.ndim == 4 and frames.is_floating_point() and 0 not in frames.shape:
            return
        what = f"{frames.dtype} {tuple(frames.shape)}"
    else:
        what = type(frames).__name__
    raise UsageError(
        f"example_frames must be a float tensor [N, C, H, W], not {what}; for example torch.rand(2, 3, 32, 32)"
    )


def _untraceable(network: nn.Module, tracer: _Tracer, error: Exception) -> NetworkError:
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_torch(frame.filename)]
    where = f', "{own[-1].line}" at {own[-1].filename}:{own[-1].lineno}' if own else ""
    return NetworkError(
        f"torch.fx cannot trace {tracer.failed_in or _name(network)}{where}: {error}. "
        "Write that part without branches on tensor values, or as a module of torch.nn"
    )


def _is_torch(filename: str) -> bool:
    return filename == __file__ or "/torch/" in filename.replace("\\", "/")


def _is_norm(module: nn.Module) -> bool:
    """A subclass that computes what torch's own batch norm does: traced through, its checks would be control flow."""
    return isinstance(module, _BatchNorm) and type(module).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)


def _name(module: nn.Module) -> str:
    return type(module).__name__
