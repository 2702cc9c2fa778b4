import torch

from ecotta_rt.bench.peers.eata import Eata
from ecotta_rt.bench.peers.rdumb import RDumb
from ecotta_rt.bench.peers.tent import Tent
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network() -> WideResNet:
    torch.manual_seed(0)
    network = WideResNet(10, 1).eval()
    with torch.no_grad():
        network.fc.weight.mul_(14)
    return network


def _frames(seed: int) -> torch.Tensor:
    return torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one, other)


def test_until_the_reset_it_is_eta_step_for_step():
    rdumb, eta = RDumb(_network(), d_margin=1.1), Eata(_network(), d_margin=1.1)

    assert all(_same(rdumb(_frames(seed)), eta(_frames(seed))) for seed in range(3))


def test_after_so_many_steps_it_begins_anew():
    method, fresh = RDumb(_network(), d_margin=1.1, reset_every=2), RDumb(_network(), d_margin=1.1)
    method(_frames(0))
    before = method(_frames(1))

    assert _same(method(_frames(1)), fresh(_frames(1)))
    assert not _same(before, method(_frames(1)))


def test_tent_resets_likewise_where_it_is_told():
    reset, fresh = Tent(_network(), reset_every=2), Tent(_network())
    for seed in range(2):
        reset(_frames(seed))

    assert _same(reset(_frames(5)), fresh(_frames(5)))
    assert _same(reset(_frames(6)), fresh(_frames(6)))
