import gc
import json
import threading
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from ecotta_rt.errors import BudgetExceeded, UsageError
from ecotta_rt.method.cut.module_paths import OUTSIDE
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.profile.profile_report import PeakPoint
from ecotta_rt.profile.profiled_steps import STEPS
from ecotta_rt.profile.profiler import ActivationProfiler, profile_step
from ecotta_rt.profile.step_memory import Block, Tally

FLOAT = 4  # bytes
ELEMENTS = 1000


@pytest.fixture
def leaf() -> Tensor:
    return torch.rand(ELEMENTS, requires_grad=True)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)
    )


def tanh_three_times(x: Tensor) -> Tensor:
    return x.tanh().tanh().tanh()


def backward(loss: Tensor) -> None:
    torch.autograd.backward(loss)


# What counts


def test_the_training_step_of_a_small_network_equals_the_count_by_hand() -> None:
    network, frames = small_network(), torch.rand(2, 3, 6, 6)

    report = profile_step(lambda: backward(network(frames).square().sum()), network)

    feature_map = 2 * 8 * 6 * 6  # elements of the first convolution's output
    kept = [
        feature_map,  # convolution's output, kept by the batch norm
        8 + 8,  # mean and inverse deviation of the batch, kept by the batch norm
        feature_map,  # ReLU's output, kept by the ReLU and by the second convolution: once
        2 * 4 * 6 * 6,  # network's output, kept by the square
    ]  # and not the weights, the running statistics, or the frames, which were there before
    assert report.activation_bytes == sum(kept) * FLOAT
    by_hand = sorted(size * FLOAT for size in (feature_map, 8, 8, feature_map, 2 * 4 * 6 * 6))
    assert [tenant.bytes for tenant in report.tenants] == by_hand[::-1]


def test_tent_on_wrn_40_2_at_batch_64_keeps_the_344_mib_known_from_a_separate_measurement() -> None:
    # Without arithmetic: the meta device has shapes and sizes, and what autograd saves is the same.
    step = STEPS["tent"](build_network("wrn-40-2").to("meta"), torch.rand(64, 3, 32, 32, device="meta"))

    report = profile_step(step.run, step.network)

    assert report.activation_bytes / 2**20 == pytest.approx(344, abs=0.5)


def test_the_meta_device_keeps_as_many_bytes_as_the_cpu() -> None:
    figures = []
    for device in ("cpu", "meta"):
        step = STEPS["train"](build_network("resnet-20").to(device), torch.rand(2, 3, 16, 16, device=device))
        report = profile_step(step.run, step.network)
        figures.append((report.activation_bytes, report.step_peak_bytes, report.by_part))

    assert figures[0] == figures[1]


def test_nothing_is_kept_without_gradients() -> None:
    network, frames = small_network(), torch.rand(2, 3, 6, 6)

    with ActivationProfiler(network) as profiler, torch.no_grad():
        network(frames)

    assert profiler.report.activation_bytes == 0
    assert profiler.report.peak_at is None
    assert profiler.report.tenants == ()
    assert profiler.report.step_peak_bytes > 0


def test_frames_count_when_the_step_produces_them() -> None:
    network = nn.Conv2d(3, 4, 1, bias=False)
    frames = torch.rand(2, 3, 5, 5)

    given = profile_step(lambda: backward(network(frames).sum()), network)
    produced = profile_step(lambda: backward(network(frames * 2).sum()), network)

    assert given.activation_bytes == 0
    assert produced.activation_bytes == frames.numel() * FLOAT


def test_views_count_once_and_as_the_whole_storage(leaf: Tensor) -> None:
    def step() -> None:
        whole = leaf * 2
        backward(whole[:10].sin().sum() + whole[-10:].cos().sum() + whole.view(10, -1).t().exp().sum())

    report = profile_step(step)

    # The whole once for its three views, and the exponential's output.
    assert report.activation_bytes == 2 * ELEMENTS * FLOAT
    assert report.tenants[0].shape == (ELEMENTS,)


def test_memory_made_by_no_torch_operator_counts_at_its_true_size(leaf: Tensor) -> None:
    np = pytest.importorskip("numpy")

    class Masked(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(torch.from_numpy(np.packbits(x.detach().numpy() > 0.5)))
            return x.clamp_min(0.5)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (bits,) = ctx.saved_tensors
            return gradient * torch.from_numpy(np.unpackbits(bits.numpy(), count=gradient.numel()))

    report = profile_step(lambda: backward(Masked.apply(leaf).sum()))

    assert report.activation_bytes == ELEMENTS // 8
    assert report.tenants[0].dtype == "uint8"


def test_constants_that_were_there_before_do_not_count(leaf: Tensor) -> None:
    weights = torch.rand(ELEMENTS)

    report = profile_step(lambda: backward((leaf * weights).sum()))

    assert report.activation_bytes == 0


def test_sparse_gradients_are_followed() -> None:
    table = nn.Embedding(10, 4, sparse=True)
    picks = torch.tensor([1, 2])

    report = profile_step(lambda: backward(table(picks).exp().sum()), table)

    assert report.activation_bytes == 2 * 4 * FLOAT


# When it counts


def test_what_a_backward_has_used_is_released(leaf: Tensor) -> None:
    def two_steps() -> None:
        backward(tanh_three_times(leaf).sum())
        backward(tanh_three_times(leaf).sum())

    assert profile_step(two_steps).activation_bytes == 3 * ELEMENTS * FLOAT


def test_a_graph_that_is_dropped_is_released(leaf: Tensor) -> None:
    def step() -> None:
        for _ in range(3):
            tanh_three_times(leaf)

    gc.disable()  # by reference counting alone: no cycle may go through the profiler
    try:
        assert profile_step(step).activation_bytes == 3 * ELEMENTS * FLOAT
    finally:
        gc.enable()


def test_a_graph_that_is_retained_stays_counted_until_its_last_backward(leaf: Tensor) -> None:
    def step() -> None:
        loss = tanh_three_times(leaf).sum()
        torch.autograd.backward(loss, retain_graph=True)
        other = leaf.tanh()  # on top of what is retained
        backward(loss)
        backward(other.sum())

    assert profile_step(step).activation_bytes == 4 * ELEMENTS * FLOAT


def test_two_profiles_of_the_same_step_are_equal() -> None:
    network, frames = small_network(), torch.rand(2, 3, 6, 6)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        backward(network(frames).square().sum())
        optimiser.step()
        optimiser.zero_grad()

    step()  # the optimiser's own state is allocated in the first step
    first, second = profile_step(step, network), profile_step(step, network)

    assert first == second


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_counts_what_it_recomputes(leaf: Tensor, reentrant: bool) -> None:
    def step() -> None:
        x: Any = leaf
        for _ in range(2):
            x = checkpoint(tanh_three_times, x, use_reentrant=reentrant)
        backward(x.sum())

    plain = profile_step(lambda: backward(tanh_three_times(tanh_three_times(leaf)).sum()))
    report = profile_step(step)

    assert plain.activation_bytes == 6 * ELEMENTS * FLOAT
    # The border between the segments, and three outputs made again in the backward.
    assert report.activation_bytes == 4 * ELEMENTS * FLOAT
    assert report.peak_at is not None
    assert report.peak_at.phase == "backward"


def test_nested_checkpoints_count_every_level(leaf: Tensor) -> None:
    def level(depth: int, x: Tensor) -> Tensor:
        x = x.tanh().tanh()
        return x if depth == 0 else checkpoint(level, depth - 1, x, use_reentrant=False)

    assert profile_step(lambda: backward(level(3, leaf).sum())).activation_bytes == 8 * ELEMENTS * FLOAT


class Recomputed(torch.autograd.Function):
    """A recomputation of one's own, as the lean operators have it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.run = run
        result: Tensor = run(x)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            again = ctx.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(ctx.run(again), again, gradient)[0], None


def test_a_function_that_recomputes_in_its_backward_counts_what_it_makes(leaf: Tensor) -> None:
    def step() -> None:
        border = Recomputed.apply(leaf, tanh_three_times)
        backward(Recomputed.apply(border, tanh_three_times).sum())

    assert profile_step(step).activation_bytes == 4 * ELEMENTS * FLOAT


def test_a_backward_that_torch_moves_to_another_thread_is_followed(leaf: Tensor) -> None:
    threads = set()

    def deeper(depth: int, x: Tensor) -> Tensor:
        threads.add(threading.get_ident())
        x = x.tanh()
        result: Tensor = Recomputed.apply(x, lambda y: deeper(depth - 1, y)) if depth else x
        return result

    report = profile_step(lambda: backward(deeper(80, leaf).sum()))

    assert len(threads) == 2  # torch opens one when backwards nest more than 60 deep
    assert report.activation_bytes == 81 * ELEMENTS * FLOAT


def test_an_offload_counts_the_copies_that_it_makes(leaf: Tensor) -> None:
    def step() -> None:
        with save_on_cpu():
            loss = leaf.tanh().tanh().sum()
        backward(loss)

    assert profile_step(step).activation_bytes == 2 * ELEMENTS * FLOAT


def test_hooks_that_compress_count_what_they_hold(leaf: Tensor) -> None:
    def step() -> None:
        with saved_tensors_hooks(lambda x: {"half": x.half()}, lambda held: held["half"].float()):
            loss = tanh_three_times(leaf).sum()
        backward(loss)

    assert profile_step(step).activation_bytes == 3 * ELEMENTS * FLOAT // 2


# The step as torch would run it


def test_gradients_are_those_without_a_profiler() -> None:
    network, frames = small_network(), torch.rand(2, 3, 6, 6)

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(network(frames).square().sum(), list(network.parameters())))

    plain = gradients()
    with ActivationProfiler(network):
        profiled = gradients()

    assert all(torch.equal(a, b) for a, b in zip(plain, profiled, strict=True))


def test_a_backward_may_run_after_the_block(leaf: Tensor) -> None:
    with ActivationProfiler() as profiler:
        loss = tanh_three_times(leaf).sum()
    backward(loss)

    assert profiler.report.activation_bytes == 3 * ELEMENTS * FLOAT
    assert leaf.grad is not None


def test_an_in_place_change_of_a_saved_tensor_is_still_an_error(leaf: Tensor) -> None:
    with ActivationProfiler():
        saved = leaf.tanh()
        loss = saved.sum()
        saved.detach().zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            backward(loss)


def test_no_tensor_outlives_its_step_because_of_the_profiler(leaf: Tensor) -> None:
    with ActivationProfiler() as profiler:
        middle = leaf.tanh()
        seen = weakref.ref(middle.untyped_storage())
        loss = middle.sum()
        del middle
        backward(loss)
        assert seen() is None

    assert profiler.report.tenants[0].bytes == ELEMENTS * FLOAT


# Names


class TwoBlocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).sigmoid()
        for block in self.blocks:
            x = block(x)
        return x


def test_bytes_are_told_by_part_and_by_tensor() -> None:
    network, features = TwoBlocks(), torch.rand(4, 8)
    one = 4 * 8 * FLOAT

    report = profile_step(lambda: backward(network(features).exp().sum()), network)

    # Of a list of modules each member is a part; what the network computes itself goes by its class name.
    assert report.by_part == {"TwoBlocks": one, "blocks.0": one, "blocks.1": one, OUTSIDE: one}
    assert {(tenant.name, tenant.kept_by) for tenant in report.tenants} == {
        ("TwoBlocks:sigmoid", "TwoBlocks"),
        ("blocks.0.1:tanh", "blocks.0.1"),
        ("blocks.1.1:tanh", "blocks.1.1"),
        (f"{OUTSIDE}:exp", OUTSIDE),
    }
    assert report.peak_at == PeakPoint(OUTSIDE, "exp", "forward")
    assert sum(report.by_part.values()) == report.activation_bytes


def test_parts_can_be_given_names() -> None:
    network, features = TwoBlocks(), torch.rand(4, 8)
    names = {"TwoBlocks": "shallow", "blocks": "deep", "blocks.1": "deepest"}

    report = profile_step(lambda: backward(network(features).sum()), network, part_of=names)

    assert list(report.by_part) == ["shallow", "deep", "deepest"]


def test_without_a_network_the_first_module_called_gives_the_names() -> None:
    network, features = TwoBlocks(), torch.rand(4, 8)

    named = profile_step(lambda: backward(network(features).sum()), network)
    network.zero_grad()
    found = profile_step(lambda: backward(network(features).sum()))

    assert named == found


def test_recomputation_is_told_by_the_module_that_runs_again() -> None:
    network, features = TwoBlocks(), torch.rand(4, 8, requires_grad=True)

    report = profile_step(lambda: backward(checkpoint(network, features, use_reentrant=False).sum()), network)

    assert set(report.by_part) == {"TwoBlocks", "blocks.0", "blocks.1"}
    assert report.peak_at == PeakPoint("blocks.1.1", "tanh", "backward")


def test_code_that_only_uses_the_parameters_is_told_by_their_owner() -> None:
    network, frames = small_network(), torch.rand(2, 3, 6, 6)
    first, last = network[0], network[3]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)

    def step() -> None:
        hidden = F.conv2d(frames, first.weight).tanh()
        backward(F.conv2d(hidden, last.weight).sigmoid().sum())

    assert {tenant.name for tenant in profile_step(step, network).tenants} == {"0:tanh", "3:sigmoid"}


def test_a_module_that_raises_does_not_confuse_the_names() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ArithmeticError("no")

    network = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    network.add_module("fails", Fails())
    features, large = torch.rand(4, 8), torch.rand(ELEMENTS, requires_grad=True)

    with ActivationProfiler(network) as profiler:
        with pytest.raises(ArithmeticError):
            network(features)
        large.exp()

    assert profiler.report.tenants[0].kept_by == OUTSIDE


def test_a_report_becomes_json() -> None:
    network, features = TwoBlocks(), torch.rand(4, 8)

    report = profile_step(lambda: backward(network(features).exp().sum()), network)
    read = json.loads(json.dumps(report.to_json()))

    assert read["activation_bytes"] == report.activation_bytes
    assert read["peak_at"] == {"module": OUTSIDE, "operator": "exp", "phase": "forward"}
    assert read["by_part"] == report.by_part
    assert len(read["tenants"]) == len(report.tenants)


# The peak of all tensors


def test_the_step_peak_counts_transient_tensors() -> None:
    x = torch.rand(ELEMENTS)

    def step() -> None:
        first = x.sin()
        second = first.cos()  # two alive
        del first
        second.exp()  # two again

    report = profile_step(step)

    assert report.step_peak_bytes == 2 * ELEMENTS * FLOAT
    assert [tenant.name for tenant in report.step_tenants] == [f"{OUTSIDE}:sin", f"{OUTSIDE}:cos"]


def test_the_step_peak_sees_the_backward(leaf: Tensor) -> None:
    report = profile_step(lambda: backward(leaf.exp().sum()))

    # The exponential's output, its expanded gradient (a view of one element), and the product; and the sum and its
    # gradient, one element each.
    assert report.step_peak_bytes == (2 * ELEMENTS + 2) * FLOAT
    assert report.step_peak_at == PeakPoint(OUTSIDE, "mul", "backward")


def test_a_storage_that_grows_in_place_is_followed() -> None:
    def step() -> None:
        out = torch.empty(0)
        torch.cat((torch.ones(10), torch.ones(10)), out=out)

    assert profile_step(step).step_peak_bytes == (20 + 10 + 10) * FLOAT


# The limit


def test_a_limit_is_refused_where_it_is_passed_and_names_the_largest_tenant() -> None:
    network, frames = small_network(), torch.rand(2, 3, 6, 6)
    whole = profile_step(lambda: backward(network(frames).square().sum()), network)
    before = [parameter.grad for parameter in network.parameters()]

    with pytest.raises(BudgetExceeded) as caught:
        profile_step(lambda: backward(network(frames).square().sum()), network, limit_bytes=3000)

    error = caught.value
    assert error.limit_bytes == 3000
    assert 3000 < error.need_bytes < whole.activation_bytes  # so far: the step was cut short
    assert error.largest_tenant == "0:convolution"
    assert f"{2 * 8 * 6 * 6 * FLOAT} bytes" in str(error)
    assert "0:convolution" in str(error)
    assert [parameter.grad for parameter in network.parameters()] == before


def test_a_limit_equal_to_the_need_is_enough(leaf: Tensor) -> None:
    need_bytes = 3 * ELEMENTS * FLOAT

    assert (
        profile_step(lambda: backward(tanh_three_times(leaf).sum()), limit_bytes=need_bytes).activation_bytes
        == need_bytes
    )
    with pytest.raises(BudgetExceeded):
        profile_step(lambda: backward(tanh_three_times(leaf).sum()), limit_bytes=need_bytes - 1)


@pytest.mark.parametrize("how", ["reentrant", "not reentrant", "own function"])
def test_a_limit_passed_by_recomputation_is_refused_inside_the_backward(leaf: Tensor, how: str) -> None:
    def step() -> None:
        if how == "own function":
            x = Recomputed.apply(leaf, tanh_three_times)
        else:
            x = checkpoint(tanh_three_times, leaf, use_reentrant=how == "reentrant")
        backward(x.sum())

    with pytest.raises(BudgetExceeded, match="backward pass"):
        profile_step(step, limit_bytes=2 * ELEMENTS * FLOAT)

    assert profile_step(step).activation_bytes == 3 * ELEMENTS * FLOAT


def test_a_negative_limit_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="-1"):
        ActivationProfiler(limit_bytes=-1)


# Opening and closing


def test_an_error_in_the_block_leaves_no_hook_behind(leaf: Tensor) -> None:
    enter = saved_tensors_hooks.__enter__

    def fail() -> None:
        middles.append(leaf.tanh())
        raise ZeroDivisionError

    profiler, middles = ActivationProfiler(), list[Tensor]()
    with pytest.raises(ZeroDivisionError), profiler:
        fail()
    backward(middles[0].sum())

    assert profiler.report.activation_bytes == ELEMENTS * FLOAT  # until the error
    assert saved_tensors_hooks.__enter__ is enter
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    assert profile_step(lambda: leaf.tanh()).activation_bytes == ELEMENTS * FLOAT


def test_a_profiler_may_be_used_again(leaf: Tensor) -> None:
    profiler = ActivationProfiler()
    with profiler:
        tanh_three_times(leaf)
    with profiler:
        leaf.tanh()

    assert profiler.report.activation_bytes == ELEMENTS * FLOAT


def test_nested_profilers_are_a_usage_error_and_the_outer_one_goes_on(leaf: Tensor) -> None:
    with ActivationProfiler() as outer:
        with pytest.raises(UsageError, match="nested"), ActivationProfiler():
            pass
        leaf.tanh()

    assert outer.report.activation_bytes == ELEMENTS * FLOAT


def test_a_profiler_inside_other_hooks_is_a_usage_error() -> None:
    with save_on_cpu(), pytest.raises(UsageError, match="around them"), ActivationProfiler():
        pass
    with ActivationProfiler():
        pass


def test_the_report_can_be_read_only_after_the_block() -> None:
    with ActivationProfiler() as profiler, pytest.raises(UsageError, match="after"):
        _ = profiler.report


# The sums behind it


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), max_size=60))
def test_a_tally_remembers_the_largest_sum_and_what_it_was_made_of(events: list[tuple[int, int]]) -> None:
    """Each event lets a block enter, or leave if it is there; the same is done with plain sets."""
    at = PeakPoint("m", "o", "forward")
    tally, present = Tally(), {}
    peak_bytes, peak_blocks = 0, set()

    for slot, nbytes in events:
        if slot in present:
            tally.remove(present.pop(slot))
        else:
            present[slot] = Block(nbytes, "n", "o", (), "uint8", "m")
            tally.add(present[slot], at)
        total = sum(block.nbytes for block in present.values())
        if total > peak_bytes:
            peak_bytes, peak_blocks = total, set(map(id, present.values()))

    assert tally.peak_bytes == peak_bytes
    if peak_bytes:
        # Empty blocks may come and go at the peak without being part of it or not.
        found = {id(block) for block in tally.at_peak() if block.nbytes}
        assert found <= peak_blocks
        assert sum(block.nbytes for block in tally.at_peak()) == peak_bytes
