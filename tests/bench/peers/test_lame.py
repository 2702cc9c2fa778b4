import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ecotta_rt.bench.peers.lame import Lame, affinity_of, corrected, objective
from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, 1).eval()


def _frames(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# On the unit circle at 0, 10, 30 and 90 degrees, of various lengths.
_FEATURES = torch.tensor(
    [[length * math.cos(math.radians(a)), length * math.sin(math.radians(a))] for a, length in
     ((0, 1.0), (10, 7.0), (30, 0.2), (90, 2.0))]
)  # fmt: skip


def test_the_nearest_neighbours_are_those_by_angle_and_never_oneself():
    assert affinity_of(_FEATURES, 1, "knn").tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


def test_equal_features_are_each_others_neighbours():
    assert affinity_of(torch.ones(3, 2), 2, "knn").tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


def test_the_gaussian_kernel_is_as_wide_as_the_mean_distance_to_the_farthest_that_counts():
    distances = torch.tensor([2 * math.sin(math.radians(angle / 2)) for angle in (10, 10, 20, 60)])
    width = distances.mean()  # of each to its nearest, since itself counts
    expected = math.exp(-(float(distances[0]) ** 2) / (2 * float(width) ** 2))

    assert float(affinity_of(_FEATURES, 2, "rbf")[0, 1]) == pytest.approx(expected, rel=1e-5)


def test_where_nothing_is_near_the_answers_stay():
    logs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)

    torch.testing.assert_close(corrected(logs, torch.zeros(5, 5)), logs)


def test_two_neighbours_end_where_each_is_its_own_answer_times_the_pull_of_the_other():
    logs = torch.tensor([[0.9, 0.1], [0.4, 0.6]], dtype=torch.float64).log()
    affinity = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    z = corrected(logs, affinity).exp()

    expected = torch.stack([(logs[0].exp() * z[1].exp()), (logs[1].exp() * z[0].exp())])
    torch.testing.assert_close(z, expected / expected.sum(1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert z[1, 0] > 0.5  # the sure one has won the other over


@given(st.integers(0, 1000), st.integers(2, 12), st.sampled_from(["knn", "rbf"]))
def test_every_iteration_lowers_the_objective_where_the_affinity_is_symmetric_and_positive(seed, frames, kind):
    generator = torch.Generator().manual_seed(seed)
    logs = torch.randn(frames, 4, generator=generator, dtype=torch.float64).log_softmax(1)
    affinity = affinity_of(torch.randn(frames, 3, generator=generator, dtype=torch.float64), 3, kind)
    affinity = (affinity + affinity.T) / 2
    # Equation 4 is concave-convex for positive semi-definite affinities; a frame's pull on itself makes it one.
    affinity = affinity + affinity.sum(1).diag()
    values = [float(objective(corrected(logs, affinity, n).exp(), logs, affinity)) for n in range(6)]

    assert all(after <= before + 1e-9 for before, after in pairwise(values))


def test_the_objective_is_the_divergence_less_the_agreement():
    z = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    q = torch.tensor([[0.6, 0.4], [0.5, 0.5]])
    affinity = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    divergence = sum(z[i, c] * math.log(z[i, c] / q[i, c]) for i in range(2) for c in range(2))

    assert float(objective(z, q.log(), affinity)) == pytest.approx(float(divergence - 3 * (z[0] @ z[1])), rel=1e-5)


def test_a_frame_alone_is_answered_as_by_the_source():
    torch.testing.assert_close(
        Lame(_network())(_frames(1)), _network()(_frames(1)).log_softmax(1), rtol=1e-4, atol=1e-4
    )


def test_its_features_are_what_the_classifier_reads():
    method, seen = Lame(_network()), []
    method.network.fc.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    logits = method(_frames(6))

    expected = corrected(method.network.fc(seen[0]).log_softmax(1), affinity_of(seen[0], 5, "knn"))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_network_without_a_classifier_is_refused():
    with pytest.raises(NetworkError, match="no Linear"):
        Lame(nn.Sequential(nn.Conv2d(3, 4, 1)))


def test_an_unknown_affinity_is_refused():
    with pytest.raises(UsageError, match="known are knn and rbf"):
        Lame(_network(), affinity="cosine")
