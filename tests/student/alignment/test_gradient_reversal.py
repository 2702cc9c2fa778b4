import math

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_rt.student.alignment.gradient_reversal import Adversarial, dann_coefficient, reverse_gradient


def test_the_coefficient_is_that_of_the_paper():
    assert [dann_coefficient(p) for p in (0.0, 0.1, 0.5, 1.0)] == pytest.approx(
        [0.0, (1 - math.exp(-1)) / (1 + math.exp(-1)), math.tanh(2.5), math.tanh(5.0)]
    )


def test_values_pass_and_gradients_turn_round():
    values = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)

    out = reverse_gradient(values, 0.3)
    out.square().sum().backward()

    assert torch.equal(out, values) and torch.allclose(values.grad, -0.3 * 2 * values)


def test_the_loss_and_both_gradients_are_those_of_the_definition():
    torch.manual_seed(0)
    source, target = (torch.randn(5, 4, dtype=torch.double, requires_grad=True) for _ in range(2))
    loss_of = Adversarial(4, 3).double()

    loss = loss_of(source, target, torch.zeros(5, dtype=torch.int64), 0.2)
    ours = torch.autograd.grad(loss, [source, target, *loss_of.parameters()])

    # By hand: two layers, the logistic loss, and the features' gradients turned round.
    probability = [torch.sigmoid(loss_of.classifier(features))[:, 0] for features in (source, target)]
    by_hand = -(1 - probability[0]).log().mean() - probability[1].log().mean()
    theirs = torch.autograd.grad(by_hand, [source, target, *loss_of.parameters()])
    assert loss.item() == pytest.approx(by_hand.item())
    for ours_, theirs_, sign in zip(ours, theirs, [-dann_coefficient(0.2)] * 2 + [1.0] * 4, strict=True):
        assert torch.allclose(ours_, sign * theirs_)


def test_it_aligns_what_a_classifier_could_tell_apart():
    """A shift between domains that the features can undo."""
    rng = np.random.default_rng(0)
    source, target = (torch.from_numpy(rng.normal(shift, 1, (256, 2))).float() for shift in (0, 3))
    torch.manual_seed(0)
    shift, loss_of = nn.Parameter(torch.zeros(2)), Adversarial(2, 2)
    optimiser = torch.optim.SGD([shift, *loss_of.parameters()], lr=0.1)
    for step in range(120):
        optimiser.zero_grad()
        loss_of(source, target + shift, torch.zeros(256, dtype=torch.int64), step / 120).backward()
        optimiser.step()

    assert (target + shift).mean(0).abs().max() < 1.5  # of 3
