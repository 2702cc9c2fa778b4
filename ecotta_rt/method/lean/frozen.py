"""Run a traced stretch of network with the lean operators."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ecotta_rt.method.lean.operators import frozen_convolution, frozen_norm, frozen_relu
from ecotta_rt.method.lean.trained import trained_norm
from ecotta_rt.method.statistics import Statistics

__all__ = ["FrozenRun", "norms_of"]

_NOTHING: Mapping[str, Tensor] = MappingProxyType({})

# What counts as a ReLU in a trace, and its ceiling. In-place ones are run out of place, see `FrozenRun._relu`.
_RELU_MODULES = {nn.ReLU: float("inf"), nn.ReLU6: 6.0}
_RELU_FUNCTIONS: dict[Any, float] = {
    F.relu: float("inf"),
    torch.relu: float("inf"),
    torch.relu_: float("inf"),
    F.relu6: 6.0,
}
_RELU_METHODS = {"relu": float("inf"), "relu_": float("inf")}


class FrozenRun(fx.Interpreter):
    """Interprets one traced stretch; convolutions, norms and ReLUs are replaced by lean ones.

    Args:
        module: The stretch, `[N, C, H, W]` in and out. None of its own parameters may require a gradient.
        exact: Follow the gradient through batch statistics, instead of treating them as constants.

    Attributes:
        learnable: Names of the scales and shifts of its norms.
    """

    def __init__(self, module: fx.GraphModule, exact: bool) -> None:
        super().__init__(module)
        self.learnable = tuple(f"{name}.{which}" for name in norms_of(module) for which in ("weight", "bias"))
        self._exact = exact
        self._statistics: Statistics | None = None
        self._learn = _NOTHING
        self._fused = {node for node in module.graph.nodes if self._feeds_only_a_relu(node)}

    def __call__(self, x: Tensor, statistics: Statistics, learn: Mapping[str, Tensor] = _NOTHING) -> Tensor:
        """The stretch's output; norms learn whose scale and shift are in `learn`, as `NORM.weight` and `NORM.bias`."""
        self._statistics, self._learn = statistics, learn
        try:
            result: Tensor = self.run(x)
        finally:
            # An interpreter remembers its input and output after a run: whole feature maps that nobody else keeps.
            self._statistics, self._learn, self.env, self.args_iter = None, _NOTHING, {}, iter(())
        return result

    def run_node(self, n: fx.Node) -> Any:
        ceiling = self._relu_ceiling(n)
        if ceiling is not None:
            return self._relu(n, ceiling)
        if n.op == "call_module":
            module = self.fetch_attr(str(n.target))
            if isinstance(module, nn.BatchNorm2d):
                return self._norm(n, module)
            if type(module) is nn.Conv2d:
                return frozen_convolution(self.env[n.all_input_nodes[0]], module)
        return super().run_node(n)

    def _norm(self, node: fx.Node, norm: nn.BatchNorm2d) -> Tensor:
        assert self._statistics is not None
        x, name = self.env[node.all_input_nodes[0]], str(node.target)
        if f"{name}.weight" in self._learn:
            weight, bias = self._learn[f"{name}.weight"], self._learn[f"{name}.bias"]
            return trained_norm(name, norm.eps, x, weight, bias, self._statistics)
        return frozen_norm(x, norm, name, self._statistics, exact=self._exact, relu=node in self._fused)

    def _relu(self, node: fx.Node, ceiling: float) -> Tensor:
        source = node.all_input_nodes[0]
        x: Tensor = self.env[source]
        if source in self._fused and f"{source.target}.weight" not in self._learn:
            return x
        y = frozen_relu(x, ceiling)
        if self._is_in_place(node):
            # Whoever reads the overwritten tensor after this, a shortcut for one, reads the result.
            self.env.update({other: y for other, value in self.env.items() if value is x})
        return y

    def _is_in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(self.fetch_attr(str(node.target)).inplace)
        return node.target in (torch.relu_, "relu_") or bool(node.kwargs.get("inplace"))

    def _relu_ceiling(self, node: fx.Node) -> float | None:
        if node.op == "call_module":
            return _RELU_MODULES.get(type(self.fetch_attr(str(node.target))))
        if node.op == "call_function":
            return _RELU_FUNCTIONS.get(node.target)
        return _RELU_METHODS.get(str(node.target)) if node.op == "call_method" else None

    def _feeds_only_a_relu(self, node: fx.Node) -> bool:
        if node.op != "call_module" or not isinstance(self.fetch_attr(str(node.target)), nn.BatchNorm2d):
            return False
        users = list(node.users)
        return len(users) == 1 and self._relu_ceiling(users[0]) == float("inf")


def norms_of(module: fx.GraphModule) -> dict[str, nn.BatchNorm2d]:
    """Every BatchNorm of a stretch, by the name that `Statistics` knows it under."""
    modules = dict(module.named_modules())
    found = {}
    for node in module.graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], nn.BatchNorm2d):
            found[str(node.target)] = modules[str(node.target)]
    return found
