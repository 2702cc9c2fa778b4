import numpy as np
import pytest
import torch

from ecotta_rt.student.alignment.domain_confusion import Confusion, backbone_loss, heads_loss
from ecotta_rt.student.alignment.gradient_reversal import dann_coefficient

CLASSES = 3


@pytest.fixture
def logits():
    rng = np.random.default_rng(0)
    return rng.normal(0, 2, (5, 2 * CLASSES)), np.array([0, 2, 1, 1, 0]), rng.normal(0, 2, (4, 2 * CLASSES))


def softmax(values):
    e = np.exp(values - values.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cross_entropy(values, labels):
    return -np.log(softmax(values)[np.arange(len(labels)), labels]).mean()


def tensors(logits):
    return [torch.from_numpy(array) for array in logits]


def test_the_heads_loss_is_that_of_the_definition(logits):
    source, labels, target = logits
    p_source, p_target = softmax(source), softmax(target)

    expected = (
        cross_entropy(source[:, :CLASSES], labels)
        + cross_entropy(source[:, CLASSES:], labels)
        - np.log(p_source[:, :CLASSES].sum(1)).mean()
        - np.log(p_target[:, CLASSES:].sum(1)).mean()
    )
    assert heads_loss(*tensors(logits)).item() == pytest.approx(expected)


@pytest.mark.parametrize("entropy", [True, False])
def test_the_backbone_loss_is_that_of_the_definition(logits, entropy):
    source, labels, target = logits
    p = softmax(target)
    q = p[:, :CLASSES] + p[:, CLASSES:]

    by_class = 0.5 * cross_entropy(source, labels) + 0.5 * cross_entropy(source, labels + CLASSES)
    confusion = -0.5 * np.log(p[:, :CLASSES].sum(1)).mean() - 0.5 * np.log(p[:, CLASSES:].sum(1)).mean()
    confusion += -(q * np.log(q)).sum(1).mean() if entropy else 0.0
    assert backbone_loss(*tensors(logits), 0.7, entropy=entropy).item() == pytest.approx(by_class + 0.7 * confusion)


def test_no_logarithm_of_nothing():
    sure = torch.zeros(2, 2 * CLASSES)
    sure[:, 0] = 1e4

    losses = (
        heads_loss(sure, torch.zeros(2, dtype=torch.int64), sure),
        backbone_loss(sure, torch.zeros(2, dtype=torch.int64), sure, 1.0),
    )
    assert all(bool(torch.isfinite(loss)) for loss in losses)


def test_each_side_gets_the_gradient_of_its_own_objective():
    torch.manual_seed(0)
    source, target = (torch.randn(4, 6, dtype=torch.double, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 1])
    loss_of = Confusion(6, CLASSES).double()

    loss_of(source, target, labels, 0.3).backward()

    heads = list(loss_of.heads.parameters())
    expected = torch.autograd.grad(heads_loss(loss_of.heads(source), labels, loss_of.heads(target)), heads)
    assert all(torch.allclose(p.grad, g) for p, g in zip(heads, expected, strict=True))
    whole = backbone_loss(loss_of.heads(source), labels, loss_of.heads(target), dann_coefficient(0.3))
    expected = torch.autograd.grad(whole, [source, target])
    assert torch.allclose(source.grad, expected[0]) and torch.allclose(target.grad, expected[1])
