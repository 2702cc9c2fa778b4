"""Run a torch function twice, by torch and as an exported graph in onnxruntime, and compare."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ecotta_rt.exporter.lowering import lower
from ecotta_rt.exporter.traced import Traced


def session_of(model):
    """An onnxruntime session on one thread, for a checked model."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def relative_error(found, expected):
    """Largest difference, as a share of the largest expected value where that is above 1."""
    found, expected = (np.asarray(value, np.float64) for value in (found, expected))
    assert found.shape == expected.shape
    return np.abs(found - expected).max(initial=0.0) / max(np.abs(expected).max(initial=0.0), 1.0)


def _lower_function(function, *inputs):
    traced = make_fx(function)(*inputs)
    results = list(traced.graph.output_node().args[0])
    names = tuple(f"input{i}" for i in range(len(inputs)))
    return lower(Traced(traced, names, tuple(f"output{i}" for i in range(len(results)))), "function")


def _check(function, *inputs, tolerance=1e-5):
    """`function` and its gradients with respect to every input; a random direction stands for the loss."""
    with torch.no_grad():
        direction = torch.randn(function(*inputs).shape, generator=torch.Generator().manual_seed(9))

    def value_and_gradients(direction, *inputs):
        leaves = [value.detach().requires_grad_() for value in inputs]
        with torch.enable_grad():
            value = function(*leaves)
            gradients = torch.autograd.grad(value, leaves, direction)
        return value.detach(), *gradients

    session = session_of(_lower_function(value_and_gradients, direction, *inputs))
    feeds = {f"input{i}": value.numpy() for i, value in enumerate((direction, *inputs))}
    wanted = {value.name for value in session.get_inputs()}
    found = session.run(None, {name: value for name, value in feeds.items() if name in wanted})
    for one, other in zip(found, value_and_gradients(direction, *inputs), strict=True):
        assert relative_error(one, other.numpy()) < tolerance


@pytest.fixture
def check_rules():
    return _check


@pytest.fixture
def lower_function():
    return _lower_function


@pytest.fixture
def open_session():
    return session_of


@pytest.fixture
def distance():
    return relative_error
