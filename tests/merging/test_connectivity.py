"""Whether networks come from one checkpoint: small ones are trained from one start and from others, and told apart."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_rt.errors import InputFileError
from ecotta_rt.merging import connectivity
from ecotta_rt.merging.connectivity import HIGHEST_BARRIER, LEAST_COSINE, barriers, likenesses, require_one_origin
from ecotta_rt.merging.members import Member

PATTERNS = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def pictures(count, seed, shade=1.0):
    """Six patterns in noise, float32 in [0, 1], darker in another place; and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(6, (count,), generator=generator)
    noise = torch.rand(count, 3, 8, 8, generator=generator)
    return shade * (0.4 * PATTERNS[labels] + 0.6 * noise), labels


def fresh(seed, classes=6):
    torch.manual_seed(seed)
    layers = []
    for inputs in (3, 8, 8, 8):
        layers += [nn.Conv2d(inputs, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, classes))


def trained(network, seed, shade=1.0, steps=60, lr=0.1):
    optimiser = torch.optim.SGD(network.train().parameters(), lr=lr, momentum=0.9)
    for step in range(steps):
        frames, labels = pictures(48, 1000 * seed + step, shade)
        optimiser.zero_grad()
        F.cross_entropy(network(frames), labels).backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def zoo():
    """Two tuned for two places from one start, and one that began elsewhere."""
    start = trained(fresh(0), 0)
    bright = trained(copy.deepcopy(start), 1, shade=1.0, steps=40, lr=0.02)
    dark = trained(copy.deepcopy(start), 2, shade=0.5, steps=40, lr=0.02)
    return {"bright": bright, "dark": dark, "stranger": trained(fresh(7), 3, shade=0.5)}


@pytest.fixture(scope="module")
def frames():
    """Of both places, uint8 `[N, H, W, C]`."""
    both = torch.cat([pictures(100, 77)[0], pictures(100, 78, shade=0.5)[0]])
    return (255 * both).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def members(zoo, *names):
    return [Member(f"{name}.pt", lambda one=zoo[name]: copy.deepcopy(one)) for name in names]


def test_weights_of_one_origin_are_alike_and_others_are_not(zoo):
    ours, stranger = likenesses(members(zoo, "bright", "dark", "stranger"))

    assert ours.cosine > 2 * LEAST_COSINE and abs(stranger.cosine) < LEAST_COSINE / 2
    assert (stranger.first, stranger.name) == ("bright.pt", "stranger.pt")
    weights = [
        [zoo[name][place].weight.detach().flatten() for place in (0, 3, 6, 9, 13)] for name in ("bright", "dark")
    ]
    cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(*weights, strict=True)]
    assert ours.cosine == pytest.approx(np.median(cosines), abs=1e-6)


def test_half_way_between_networks_of_one_origin_there_is_no_barrier_and_between_others_there_is(zoo, frames):
    ours, stranger = barriers(members(zoo, "dark", "bright", "stranger"), frames)

    assert min(ours.common, stranger.common) > 100
    assert ours.share < HIGHEST_BARRIER / 2
    assert stranger.share > HIGHEST_BARRIER
    assert ours.guessing == pytest.approx(math.log(6))


def test_the_share_is_that_of_the_way_to_guessing():
    wall = connectivity.Barrier("a", "b", 100, 50, loss=(0.5, 1.0), entropy=(0.0, 1.5), guessing=2.0)

    assert wall.share == pytest.approx((0.5 / 1.5 + 1.5 / 2.0) / 2)
    assert math.isnan(connectivity.Barrier("a", "b", 100, 0, (math.nan,) * 2, (0.0, 1.0), 2.0).share)


def test_strangers_are_refused_by_weights_alone_and_by_pictures_alone(zoo, frames, monkeypatch):
    pair = members(zoo, "dark", "stranger")

    with pytest.raises(
        InputFileError, match=r"stranger\.pt and dark\.pt do not come from one checkpoint.* at least 0\.3"
    ):
        require_one_origin(pair)
    monkeypatch.setattr(connectivity, "LEAST_COSINE", -1.0)
    with pytest.raises(InputFileError, match=r"stranger\.pt and dark\.pt are not connected.*200 pictures, at most"):
        require_one_origin(pair, frames)
    assert require_one_origin(members(zoo, "dark", "bright"), frames).doubts == ()


def test_a_head_of_its_own_does_not_count_and_other_classes_leave_the_weights_alone_to_tell(zoo, frames):
    other = copy.deepcopy(zoo["bright"])
    other[13] = fresh(5, classes=4)[13]
    pair = [*members(zoo, "dark"), Member("four.pt", lambda: copy.deepcopy(other))]

    found = require_one_origin(pair, frames, head="13")

    assert found.likenesses[0].cosine > 2 * LEAST_COSINE and found.barriers == ()
    assert "different classes" in found.doubts[0]


def test_few_pictures_to_which_both_answer_the_same_are_a_doubt(zoo, frames):
    found = require_one_origin(members(zoo, "dark", "bright"), frames[:20])

    assert "too few to tell whether they are connected" in found.doubts[0]
