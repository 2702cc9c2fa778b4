import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition


class Network(nn.Module):
    """Three convolutions, each with its norm; `twice` runs the first norm again, `tracked` gives it statistics."""

    def __init__(self, twice=False, tracked=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4, track_running_stats=tracked) for _ in range(2))
        self.dropout = nn.Dropout(0.5)
        self.classify = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5))
        self._twice = twice

    def forward(self, x):
        x = self.stem(x)
        for index, conv in enumerate(self.convs):
            norm = self.norms[0 if self._twice else index]
            x = x + self.dropout(F.relu(norm(conv(x))))
        return self.classify(x.mean((2, 3)))


def attached(network):
    torch.manual_seed(0)
    return attach(partition(network, torch.zeros(1, 3, 8, 8), 2))


def test_of_a_network_in_training_mode_only_the_norms_of_feature_maps_stay_in_it():
    network = attached(Network().train())
    frames = torch.rand(4, 3, 8, 8)
    buffers = {name: value.clone() for name, value in network.named_buffers() if "num_batches" not in name}

    for mode in (True, False):
        network.train(mode)
        assert torch.equal(network(frames), network(frames))  # no dropout

    assert all(torch.equal(value, buffers[name]) for name, value in network.named_buffers() if name in buffers)


def test_only_the_groups_can_learn():
    network = attached(Network())

    assert {name for name, p in network.named_parameters() if p.requires_grad} == set(network.learned_parameters())


@pytest.mark.parametrize(
    ("options", "reason"), [({"twice": True}, "called twice"), ({"tracked": False}, "no running statistics")]
)
def test_norms_whose_statistics_have_no_single_name_are_refused(options, reason):
    with pytest.raises(NetworkError, match=rf"norms\.0.*{reason}"):
        attached(Network(**options).eval())
