import math

import torch

from ecotta_rt.bench.peers.peer import affine_parameters, use_batch_statistics
from ecotta_rt.bench.peers.roid import (
    Roid,
    diverse_and_certain,
    likelihood_ratio,
    prior_corrected,
    symmetric_cross_entropy,
)
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network() -> WideResNet:
    torch.manual_seed(0)
    network = WideResNet(10, 1).eval()
    with torch.no_grad():
        network.fc.weight.mul_(14)
    return network


def _frames(count: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _probabilities(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).log()


def test_the_likelihood_ratio_is_the_mean_log_odds():
    expected = -sum(p * math.log(p / (1 - p)) for p in (0.7, 0.2, 0.1))

    torch.testing.assert_close(
        likelihood_ratio(_probabilities([0.7, 0.2, 0.1])), torch.tensor([expected]), rtol=1e-3, atol=0
    )


def test_the_likelihood_ratio_still_pulls_where_the_entropys_gradient_has_gone():
    logits = torch.tensor([[4.0, 0.0, 0.0]], requires_grad=True)
    (ratio,) = torch.autograd.grad(likelihood_ratio(logits).sum(), [logits])
    entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum()
    (plain,) = torch.autograd.grad(entropy, [logits])

    assert ratio[0, 0] < 2 * plain[0, 0] < 0


def test_beyond_its_cap_a_probability_pulls_no_more():
    logits = torch.tensor([[9.0, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(likelihood_ratio(logits).sum(), [logits])

    assert float(gradient.abs().max()) < 0.02


def test_symmetric_cross_entropy_is_half_of_each_direction_and_gradients_go_to_both():
    one, other = _probabilities([0.7, 0.3]).requires_grad_(), _probabilities([0.4, 0.6]).requires_grad_()
    loss = symmetric_cross_entropy(one, other)
    there = -(0.4 * math.log(0.7) + 0.6 * math.log(0.3))
    back = -(0.7 * math.log(0.4) + 0.3 * math.log(0.6))

    torch.testing.assert_close(loss, torch.tensor([(there + back) / 2]))
    assert all(float(g.abs().sum()) > 0 for g in torch.autograd.grad(loss.sum(), [one, other]))


def test_weights_grow_with_diversity_and_certainty_and_the_common_half_has_none():
    # Against a mean prediction of class 0: two common frames, one rare and sure, one rare and unsure.
    mean = torch.tensor([0.9, 0.05, 0.05])
    logits = _probabilities([0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.01, 0.98, 0.01], [0.2, 0.4, 0.4])
    weights = diverse_and_certain(logits, mean, 1 / 3)

    assert weights[:2].tolist() == [0.0, 0.0]
    torch.testing.assert_close(weights[2], torch.tensor(math.exp(3)))  # the most diverse and the most certain
    torch.testing.assert_close(weights[3], torch.tensor(1.0))  # the least certain


def test_frames_all_alike_weigh_alike():
    logits = _probabilities([0.9, 0.1], [0.9, 0.1])

    assert diverse_and_certain(logits, torch.tensor([0.5, 0.5]), 1 / 3).tolist() == [1.0, 1.0]


def test_the_prior_is_the_smoothed_mean_prediction():
    logits = _probabilities([0.9, 0.1], [0.5, 0.5])  # mean .7 .3, smoothing .5 / .7
    smoothing = 0.5 / 0.7
    prior = torch.tensor([0.7, 0.3]) + smoothing
    prior = prior / (1 + 2 * smoothing)

    torch.testing.assert_close(prior_corrected(logits), logits + prior.log())
    torch.testing.assert_close(prior.sum(), torch.tensor(1.0))


def test_a_balanced_batch_is_not_corrected():
    logits = _probabilities([0.8, 0.2], [0.2, 0.8])

    torch.testing.assert_close(prior_corrected(logits).log_softmax(1), logits)


def test_a_step_is_adam_by_hand_then_a_hundredth_of_the_way_back_to_the_source(monkeypatch):
    monkeypatch.setattr("ecotta_rt.bench.peers.roid.augment", lambda frames, generator, **options: 0.5 * frames)
    frames, by_hand = _frames(), _network()
    use_batch_statistics(by_hand)
    affine_parameters(by_hand)
    bias = by_hand.bn1.bias
    logits = by_hand(frames)
    weights = diverse_and_certain(logits.detach(), torch.full((10,), 0.1), 1 / 3)
    kept = weights > 0
    loss = weights[kept] * (
        likelihood_ratio(logits[kept]) + symmetric_cross_entropy(by_hand(0.5 * frames[kept]), logits[kept])
    )
    (gradient,) = torch.autograd.grad(loss.sum() / len(frames), [bias])
    source = bias.detach()
    stepped = source - 1e-3 * gradient / (gradient.abs() + 1e-8)

    method = Roid(_network())
    answer = method(frames)

    torch.testing.assert_close(answer, prior_corrected(logits.detach()))
    torch.testing.assert_close(method.network.bn1.bias, 0.99 * stepped + 0.01 * source, rtol=0, atol=2e-6)
