"""Read every batch norm of a traced network as a plain `nn.BatchNorm2d`, however its owner wrote it.

    nn.BatchNorm1d in a head, nn.SyncBatchNorm, subclasses      the module, called whole
    norm, dropout and activation in one module (timm)           F.batch_norm inside its forward
    F.batch_norm with buffers of one's own                      F.batch_norm

What adapts on the device is the statistics of norms. One that was not recognised would be a constant there, and the
network would hardly adapt: whatever reads running statistics and is none of these is refused.

A norm that was written otherwise gets a twin, an `nn.BatchNorm2d` that shares its tensors, as a child of its owner:
`bn1.norm` for `bn1`. Inputs of other ranks are reshaped to `[N, C, 1, 1]` or `[N, C, L, 1]` and back.
"""

import inspect
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.tracing import STATISTICS_NAMES, describe, shape_of
from ecotta_rt.method.modes import kept_modes

__all__ = ["plain_norms"]

_SIGNATURES = {
    F.batch_norm: inspect.signature(F.batch_norm),
    torch.batch_norm: inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in "input weight bias running_mean running_var training momentum eps cudnn_enabled".split()
        ]
    ),
}


class _Norm(NamedTuple):
    """A batch norm as it was written."""

    source: fx.Node
    path: str  # where its twin goes
    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    momentum: float | None
    training: bool


def plain_norms(network: nn.Module, graph: fx.Graph, frames: Tensor) -> None:
    """Replace every other batch norm of `graph` by an `nn.BatchNorm2d`, and refuse what cannot be.

    Args:
        network: Gets the twins as children of the norms' owners.
        graph: Traced from it, with shapes; changed in place.
        frames: float32 `[N, C, H, W]`, whose size counts.

    Raises:
        NetworkError: Running statistics that are read by something else than a batch norm, a norm without them, or one
            over volumes.
    """
    modules = dict(network.named_modules())
    known: list[Tensor] = []
    for node in list(graph.nodes):
        norm = _norm_at(node, network, modules)
        if norm is not None:
            known += [norm.mean, norm.variance]
            _replace(network, graph, node, norm)
    for node in graph.nodes:
        _refuse_other_readers(node, modules)
    known += [value for module in modules.values() if isinstance(module, _NormBase) for value in module.buffers()]
    _refuse_hidden_statistics(network, frames, {id(value) for value in known})


def _norm_at(node: fx.Node, network: nn.Module, modules: dict[str, nn.Module]) -> _Norm | None:
    if node.op == "call_module":
        module = modules[str(node.target)]
        whole = isinstance(module, _BatchNorm) and type(module) is not nn.BatchNorm2d
        return _of_module(node, module) if whole else None  # type: ignore[arg-type]
    if node.op == "call_function" and node.target in _SIGNATURES:
        return _of_function(node, network)
    return None


def _of_module(node: fx.Node, module: _BatchNorm) -> _Norm:
    if module.running_mean is None or module.running_var is None:
        raise NetworkError(
            f"{node.target}: this {type(module).__name__} has no running statistics (track_running_stats=False)"
        )
    return _Norm(
        node.all_input_nodes[0],
        f"{node.target}.norm",
        module.running_mean,
        module.running_var,
        module.weight if module.affine else None,
        module.bias if module.affine else None,
        module.eps,
        module.momentum,
        module.training,
    )


def _of_function(node: fx.Node, network: nn.Module) -> _Norm | None:
    given: dict[str, Any] = _SIGNATURES[node.target].bind(*node.args, **node.kwargs).arguments  # type: ignore[index]
    source = given["input"]
    if shape_of(source) is None:
        return None  # of a weight, say: weights that are standardised this way are constants
    where = _described(node)
    mean, variance = given["running_mean"], given["running_var"]
    training = bool(given.get("training", False))
    if mean is None or variance is None:
        raise NetworkError(f"{where} has no running statistics: give it buffers, or use nn.BatchNorm2d")
    if training and not network.training:
        raise NetworkError(
            f"{where} uses the statistics of the batch in evaluation mode, too: write training=self.training"
        )
    tensors = {name: _fetched(given.get(name), network, f"{name} of {where}") for name in ("weight", "bias")}
    owner, _, name = str(getattr(mean, "target", "")).rpartition(".")
    own = "norm" if name == "running_mean" else f"{name}_norm"
    return _Norm(
        source,
        f"{owner}.{own}" if owner else own,
        _required(_fetched(mean, network, f"the running mean of {where}")),
        _required(_fetched(variance, network, f"the running variance of {where}")),
        tensors["weight"],
        tensors["bias"],
        float(given.get("eps", 1e-5)),
        float(given.get("momentum", 0.1)),
        training,
    )


def _fetched(value: Any, network: nn.Module, what: str) -> Tensor | None:
    if value is None:
        return None
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        raise NetworkError(f"{what} is computed, not a parameter or buffer of the network: use nn.BatchNorm2d there")
    owner, _, name = str(value.target).rpartition(".")
    tensor: Tensor = getattr(network.get_submodule(owner), name)
    return tensor


def _required(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def _replace(network: nn.Module, graph: fx.Graph, node: fx.Node, norm: _Norm) -> None:
    shape = shape_of(norm.source) or ()
    if not 1 <= len(shape) <= 3:
        raise NetworkError(
            f"{_described(node)} normalises {list(shape)} a frame: only batch norms of feature maps [N, C, H, W] and "
            "of rows [N, C] or [N, C, L] can adapt"
        )
    owner, _, name = norm.path.rpartition(".")
    network.get_submodule(owner).add_module(name, _twin(norm))
    flat = 3 - len(shape)
    with graph.inserting_before(node):
        x = norm.source
        if flat:
            x = _noted(graph.call_method("reshape", (x, -1, *shape, *[1] * flat)), (*shape, *[1] * flat), node)
        y = _noted(graph.call_module(norm.path, (x,)), (*shape, *[1] * flat), node)
        if flat:
            y = _noted(graph.call_method("reshape", (y, -1, *shape)), shape, node)
    node.replace_all_uses_with(y)
    graph.erase_node(node)


def _noted(node: fx.Node, shape: tuple[int, ...], instead_of: fx.Node) -> fx.Node:
    node.meta.update(instead_of.meta)
    node.meta["shape"], node.meta["follows_batch"] = shape, True
    return node


def _twin(norm: _Norm) -> nn.BatchNorm2d:
    affine = norm.weight is not None or norm.bias is not None
    twin = nn.BatchNorm2d(norm.mean.numel(), norm.eps, norm.momentum, affine=affine)
    if affine:
        twin.weight = _parameter(norm.weight, torch.ones_like(norm.mean))
        twin.bias = _parameter(norm.bias, torch.zeros_like(norm.mean))
    twin.running_mean, twin.running_var = norm.mean.detach(), norm.variance.detach()
    return twin.train(norm.training)


def _parameter(given: Tensor | None, neutral: Tensor) -> nn.Parameter:
    if isinstance(given, nn.Parameter):
        return given
    return nn.Parameter(neutral if given is None else given, requires_grad=False)


def _refuse_other_readers(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    path = str(node.target)
    if node.op == "get_attr" and node.users and path.rpartition(".")[2] in STATISTICS_NAMES:
        owner = path.rpartition(".")[0]
        raise NetworkError(
            f"{path} is read by {_described(next(iter(node.users)))}, not by a batch norm: as a constant it could not "
            f"adapt. Replace this {type(modules[owner]).__name__} by nn.BatchNorm2d with its values"
        )
    module = modules.get(path) if node.op == "call_module" else None
    if isinstance(module, _NormBase) and not isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
        raise NetworkError(
            f"{path}: a {type(module).__name__} with running statistics is a constant in evaluation mode. "
            "Replace it by nn.BatchNorm2d, or build it with track_running_stats=False"
        )


def _refuse_hidden_statistics(network: nn.Module, frames: Tensor, known: set[int]) -> None:
    """A vector that a forward in training mode changes is a statistic, whatever its name and however it is used."""
    before = {name: value for name, value in network.named_buffers() if value.is_floating_point() and value.ndim == 1}
    after = {name: value.clone() for name, value in network.named_buffers()}
    try:
        with kept_modes(network), torch.no_grad(), torch.random.fork_rng():
            network.train()
            torch.func.functional_call(network, after, torch.rand(2, *frames.shape[1:]))
    except Exception:  # some networks cannot be trained any more: nothing moves in them, either
        return
    for name, value in before.items():
        if id(value) not in known and not torch.equal(value, after[name]):
            raise NetworkError(
                f"{name} follows the frames in training and belongs to no batch norm that is known here: as a constant "
                "it could not adapt. Use nn.BatchNorm2d there, with its values"
            )


def _described(node: fx.Node) -> str:
    return f"node '{node.name}' ({describe(node)})"
