import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from ecotta_rt.method.lean.operators import lean_l1
from ecotta_rt.method.losses import entropy_nats, entropy_threshold_nats, self_distilled_l1


def test_entropy_is_that_of_the_softmax_in_nats():
    logits = torch.randn(7, 10, dtype=torch.float64) * 4

    np.testing.assert_allclose(entropy_nats(logits), entropy(softmax(logits.numpy(), axis=1), axis=1), rtol=1e-10)


def test_entropy_lies_between_certain_and_undecided():
    logits = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    assert entropy_nats(logits).tolist() == [0.0, torch.tensor(math.log(3)).item()]
    assert entropy_threshold_nats(10, 0.4) == 0.4 * math.log(10)


@pytest.mark.parametrize("l1", [self_distilled_l1, lean_l1])
def test_l1_is_the_mean_distance_and_pulls_only_the_adapted_features(l1):
    adapted = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    frozen = torch.tensor([[0.0, 2.0], [5.0, 1.0]], dtype=torch.float64, requires_grad=True)

    distance = l1(adapted, frozen)
    distance.backward()

    assert distance.item() == (1 + 0 + 2 + 3) / 4
    assert adapted.grad.tolist() == [[0.25, 0.0], [-0.25, 0.25]]  # no pull where they agree
    assert frozen.grad is None
