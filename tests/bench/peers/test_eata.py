import math

import pytest
import torch
import torch.nn.functional as F

from ecotta_rt.bench.peers.eata import Eata, fisher_importance, reliable_and_new
from ecotta_rt.bench.peers.peer import affine_parameters, use_batch_statistics
from ecotta_rt.errors import BadFrames
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network(confidence: float = 14.0) -> WideResNet:
    """A random network whose logits are stretched, so that some frames pass the entropy threshold."""
    torch.manual_seed(0)
    network = WideResNet(10, 1).eval()
    with torch.no_grad():
        network.fc.weight.mul_(confidence)
    return network


def _frames(count: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _affine(method: Eata) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in method.network.parameters() if p.requires_grad])


# Certain of class 0, certain of class 1, undecided: entropies 0.03, 0.03 and ln 3 against 0.4 ln 3 = 0.44.
_LOGITS = torch.tensor([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0], [1.0, 1.0, 1.0]])


def test_before_any_frame_was_chosen_only_the_uncertain_are_dropped():
    assert reliable_and_new(_LOGITS, None, 0.4).tolist() == [True, True, False]


def test_frames_like_the_mean_prediction_so_far_are_dropped_as_redundant():
    mean = torch.tensor([0.9, 0.05, 0.05])  # cosine with class 0: 0.997, with class 1: 0.06

    assert reliable_and_new(_LOGITS, mean, 0.4).tolist() == [False, True, False]


def test_the_certainty_threshold_grows_with_the_number_of_classes():
    def two_way(classes: int) -> torch.Tensor:  # entropy ln 2 = 0.69
        return torch.tensor([[20.0, 20.0] + [0.0] * (classes - 2)])

    assert not reliable_and_new(two_way(5), None, 0.4).any()  # 0.4 ln 5 = 0.64
    assert reliable_and_new(two_way(6), None, 0.4).all()  # 0.4 ln 6 = 0.72


def test_one_step_equals_sgd_by_hand_on_the_weighted_entropy_of_the_chosen_frames():
    frames, by_hand = _frames(), _network()
    use_batch_statistics(by_hand)
    affine = list(affine_parameters(by_hand).values())
    probabilities = by_hand(frames).softmax(1)
    entropies = -(probabilities * probabilities.log()).sum(1)
    threshold = 0.4 * math.log(10)
    chosen = entropies[entropies < threshold]
    loss = (chosen * torch.exp(threshold - chosen.detach())).mean()
    gradients = torch.autograd.grad(loss, affine)
    expected = torch.cat([(p - 5e-3 * g).detach().flatten() for p, g in zip(affine, gradients, strict=True)])

    method = Eata(_network())
    method(frames)

    assert 0 < len(chosen) < len(frames)
    torch.testing.assert_close(_affine(method), expected, rtol=1e-5, atol=1e-7)


def test_a_batch_without_a_chosen_frame_changes_nothing():
    method = Eata(_network(confidence=0.01))
    before = _affine(method)

    logits = method(_frames())

    assert torch.isfinite(logits).all()
    assert torch.equal(_affine(method), before)


def test_the_mean_prediction_is_an_average_that_keeps_nine_tenths():
    method = Eata(_network(), d_margin=1.1)  # nothing is redundant, so every certain frame counts
    method(_frames(seed=1))
    first = method._mean_probabilities
    logits = method(_frames(seed=2))
    chosen = logits[reliable_and_new(logits, None, 1.1)].softmax(1)

    assert first is not None
    torch.testing.assert_close(method._mean_probabilities, 0.9 * first + 0.1 * chosen.mean(0))


def test_fisher_importance_is_the_mean_square_of_the_batches_gradients():
    network, frames = _network(), _frames(64 + 16)
    use_batch_statistics(network)
    affine = affine_parameters(network)
    name, parameter = "bn1.bias", affine["bn1.bias"]
    squares = []
    for batch in frames.split(64):
        logits = network(batch)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1)), [parameter])
        squares.append(gradient.square())

    importance = fisher_importance(network, affine, frames)

    torch.testing.assert_close(importance[name], torch.stack(squares).mean(0))


def test_a_leftover_frame_of_the_source_is_not_a_batch_of_its_own():
    network = _network()
    use_batch_statistics(network)
    affine = affine_parameters(network)

    with_leftover = fisher_importance(network, affine, _frames(65))
    without = fisher_importance(network, affine, _frames(65)[:64])

    torch.testing.assert_close(with_leftover, without)


def test_a_heavy_fisher_regulariser_holds_the_parameters_nearer_to_the_source():
    def drift(weight: float) -> float:
        method = Eata(_network(), source_frames=_frames(32, seed=9), fisher_weight=weight, d_margin=1.1)
        start = _affine(method)
        for seed in range(4):
            method(_frames(16, seed))
        return float((_affine(method) - start).norm())

    assert drift(10.0) < drift(0.0)


def test_without_source_frames_it_is_eta_and_says_so():
    assert Eata(_network()).name == "eta"
    assert Eata(_network(), source_frames=_frames()).name == "eata"


def test_a_single_source_frame_is_refused():
    with pytest.raises(BadFrames, match="at least 2 frames"):
        Eata(_network(), source_frames=_frames(1))
