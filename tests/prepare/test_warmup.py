import numpy as np
import pytest
import torch
from torch import nn

from ecotta_rt.data.labelled import Labelled, SourceData
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.state import initial_state
from ecotta_rt.method.step import Step
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.calibrate import match_frozen_features, measure_statistics
from ecotta_rt.prepare.epochs import WarmUpOptions, _rate
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.prepare.pipeline import _snapshot_beside, prepare
from ecotta_rt.prepare.warmup import fine_tune, warm_up

QUICK = WarmUpOptions(epochs=2, batch=16, lr=0.02)


def small_network():
    torch.manual_seed(0)
    return WideResNet(10, 1, classes=2).eval()


@pytest.fixture
def network():
    return attach(partition(small_network(), torch.zeros(1, 3, 16, 16), 2))


@pytest.fixture(scope="module")
def source():
    """Two classes that colour tells apart."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 96)
    frames = generator.integers(0, 120, (96, 16, 16, 3), dtype=np.uint8)
    frames[labels == 1, :, :, 0] += 100
    return frames, labels


def test_a_seed_decides_all_of_a_warm_up(source, tmp_path):
    def prepared(name, seed):
        torch.manual_seed(len(name))  # every process has a generator of its own
        return prepare(
            small_network(), SourceData(Labelled(*source)), tmp_path / name, parts=2, kernel=3,
            options=WarmUpOptions(epochs=1, batch=16, lr=0.02, seed=seed),
        ).parameters  # fmt: skip

    first, again, other = prepared("a", 3), prepared("again", 3), prepared("other", 4)

    assert all(np.array_equal(array, again[name]) for name, array in first.items())
    assert not np.array_equal(first["groups.0.conv.weight"], other["groups.0.conv.weight"])


def test_warming_up_lowers_the_loss_and_touches_only_the_groups(network, source):
    digest, seen = network.digest(), []
    before = network.learned_parameters()["groups.0.conv.weight"].clone()

    plain = Augmentation(())
    state = warm_up(network, *source, WarmUpOptions(epochs=8, batch=8, lr=0.3, augmentation=plain), report=seen.append)

    first, last = (np.mean([p.loss for p in seen if p.epoch == epoch]) for epoch in (1, 8))
    assert last < 0.8 * first
    assert network.digest() == digest
    assert not torch.equal(network.learned_parameters()["groups.0.conv.weight"], before)
    assert [p.step for p in seen] == list(range(1, 8 * 12 + 1))
    assert set(state.metadata) >= {"warm_up", "frames"}
    TorchEngine(network, state=state)  # fits


def test_only_a_forced_warm_up_removes_the_snapshot_of_another_run(source, tmp_path):
    def run(lr, **more):
        options = WarmUpOptions(epochs=1, batch=16, lr=lr)
        data = SourceData(Labelled(*source))
        return prepare(small_network(), data, tmp_path / "net", parts=2, kernel=3, options=options, **more)

    def stop(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    whole, seen = run(0.01), []
    with pytest.raises(KeyboardInterrupt):
        run(0.02, report=stop)
    with pytest.raises(InputFileError, match="lr was 0.02 and is 0.01"):
        run(0.01)

    assert set(run(0.01, force=True, report=seen.append).compare(whole).values()) == {0.0}
    assert seen[0].step == 1
    with pytest.raises(KeyboardInterrupt):
        run(0.02, report=stop)
    run(0.02, force=True, report=seen.append)
    assert seen[6].step == 3


def test_the_same_seed_gives_the_same_state(source):
    states = [
        warm_up(attach(partition(small_network(), torch.zeros(1, 3, 16, 16), 2)), *source, QUICK) for _ in range(2)
    ]

    # Fresh groups are drawn from torch's own generator, seeded by small_network.
    assert set(states[0].compare(states[1]).values()) == {0.0}


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(source, tmp_path):
    def run(report=None, snapshot=None):
        network = attach(partition(small_network(), torch.zeros(1, 3, 16, 16), 2))
        return warm_up(network, *source, QUICK, report=report, snapshot=snapshot)

    def stop_in_the_second_epoch(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(stop_in_the_second_epoch, tmp_path / "run.snapshot")
    seen = []
    resumed = run(seen.append, tmp_path / "run.snapshot")

    assert {p.epoch for p in seen} == {2}
    assert set(whole.compare(resumed).values()) == {0.0}


class Noisy(nn.Module):
    """Draws from torch's own generator at each step."""

    def __init__(self):
        super().__init__()
        self.inner, self.dropout = small_network(), nn.Dropout(0.3)

    def forward(self, frames):
        return self.inner(self.dropout(frames))


def test_fine_tuning_that_is_killed_inside_an_epoch_ends_where_an_undisturbed_one_does(source, tmp_path):
    options = WarmUpOptions(epochs=2, batch=4, lr=0.02)  # 24 steps an epoch, a snapshot after each third one

    def run(report=None, snapshot=None):
        torch.manual_seed(len(str(report)))  # another state of torch's generator in every process
        return fine_tune(Noisy(), *source, options, report=report, snapshot=snapshot).state_dict()

    def killed_at(step):
        def report(progress):
            if progress.step == step:
                raise KeyboardInterrupt

        return report

    seen = []
    whole = run(seen.append)
    for step in (2, 11, 41):
        with pytest.raises(KeyboardInterrupt):
            run(killed_at(step), tmp_path / "run.snapshot")
    again = []
    resumed = run(again.append, tmp_path / "run.snapshot")

    assert again[0].step == 40
    assert [(p.loss, p.error_percent) for p in again] == [(p.loss, p.error_percent) for p in seen[39:]]
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_snapshot_that_an_older_version_left_after_an_epoch_goes_on(source, tmp_path):
    options = WarmUpOptions(epochs=2, batch=16, lr=0.02)
    whole = fine_tune(small_network(), *source, options).state_dict()
    path = tmp_path / "run.snapshot"

    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(small_network(), *source, options, report=stop, snapshot=path)
    old = torch.load(path, weights_only=True)
    del old["torch_generator"]
    torch.save(old, path)

    seen = []
    resumed = fine_tune(small_network(), *source, options, report=seen.append, snapshot=path).state_dict()
    assert seen[0].step == 7
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_training_leaves_torchs_own_generator_as_it_was(source):
    network = Noisy()
    torch.manual_seed(7)
    before = torch.get_rng_state()

    fine_tune(network, *source, QUICK)

    assert torch.equal(torch.get_rng_state(), before)


def test_the_snapshot_that_an_older_version_left_is_taken_up(tmp_path):
    (tmp_path / "net.checkpoint").write_bytes(b"two epochs")

    snapshot = _snapshot_beside(tmp_path / "net.safetensors")

    assert snapshot.read_bytes() == b"two epochs"
    assert [path.name for path in tmp_path.iterdir()] == ["net.snapshot"]


def test_the_snapshot_of_another_run_is_refused(network, source, tmp_path):
    warm_up(network, *source, QUICK, snapshot=tmp_path / "run.snapshot")

    with pytest.raises(InputFileError, match=r"another run: epochs was 2 and is 3, lr was 0.02 and is 0.05\. Give"):
        warm_up(network, *source, WarmUpOptions(epochs=3, batch=16), snapshot=tmp_path / "run.snapshot")
    frames, labels = source
    with pytest.raises(InputFileError, match="another run: frames was .* of 16x16 and is .* of 12x16"):
        warm_up(network, frames[:, :12], labels, QUICK, snapshot=tmp_path / "run.snapshot")
    with pytest.raises(InputFileError, match=r"another run: pictures was \w+ and is \w+\. Give"):
        warm_up(network, frames[:, ::-1], labels, QUICK, snapshot=tmp_path / "run.snapshot")
    other_groups = attach(partition(small_network(), torch.zeros(1, 3, 16, 16), 2), kernel=1)
    with pytest.raises(InputFileError, match="other meta groups"):
        warm_up(other_groups, *source, QUICK, snapshot=tmp_path / "run.snapshot")
    (tmp_path / "run.snapshot").write_bytes(b"\x80\x04 hostile")
    with pytest.raises(InputFileError, match="damaged"):
        warm_up(network, *source, QUICK, snapshot=tmp_path / "run.snapshot")


def test_rates_rise_over_a_tenth_and_fall_at_the_milestones():
    options = WarmUpOptions(lr=0.05, decay=0.2)

    assert _rate(0, 100, options) == pytest.approx(0.005)
    assert _rate(9, 100, options) == pytest.approx(0.05)
    assert [_rate(s, 100, options) for s in (29, 30, 60, 80)] == pytest.approx([0.05, 0.01, 0.002, 0.0004])


def test_fine_tuning_trains_every_weight_with_the_same_recipe(source):
    network = small_network()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}

    fine_tune(network, *source, QUICK)

    assert not network.training
    assert all(not torch.equal(p, before[name]) for name, p in network.named_parameters())


def test_source_data_that_cannot_be_used_is_refused(network, subtests):
    for frames, labels, reason in [
        (np.zeros((20, 16, 16, 3), np.float32), np.zeros(20, int), "float32"),
        (np.zeros((20, 16, 16), np.uint8), np.zeros(20, int), r"\[20, 16, 16\]"),
        (np.zeros((20, 16, 16, 3), np.uint8), np.zeros(19, int), "19 labels"),
        (np.zeros((20, 16, 16, 3), np.uint8), np.zeros(20), "labels are float64"),
        (np.zeros((20, 16, 16, 3), np.uint8), np.zeros((20, 1), int), r"labels are int64 \[20, 1\]"),
        (np.zeros((20, 16, 16, 3), np.uint8), np.full(20, 2), "labels go from 2 to 2, but the network has 2 classes"),
        (np.zeros((20, 16, 16, 3), np.uint8), np.full(20, -1), "labels go from -1"),
        (np.zeros((8, 16, 16, 3), np.uint8), np.zeros(8, int), "fewer than one batch of 16"),
    ]:
        with subtests.test(reason), pytest.raises(UsageError, match=reason):
            warm_up(network, frames, labels, QUICK)


def test_recipes_that_cannot_be_meant_are_refused(subtests):
    for wrong in [
        {"epochs": 0},
        {"batch": 1},
        {"lr": 0.0},
        {"lr": float("inf")},
        {"decay": 2.0},
        {"milestones": (3.0, 6.0)},  # epochs, where shares are meant
        {"statistics_frames": 1},
        {"precision": "fp8"},
    ]:
        with subtests.test(**wrong), pytest.raises(UsageError, match=next(iter(wrong))):
            WarmUpOptions(**wrong)


def test_a_loss_that_is_no_longer_finite_ends_the_run(network, source):
    with pytest.raises(UsageError, match="smaller lr"):
        warm_up(network, *source, WarmUpOptions(epochs=2, batch=16, lr=1e30))


def test_a_matched_start_predicts_as_the_frozen_network_does(source):
    plain = small_network()
    frames = torch.from_numpy(source[0]).permute(0, 3, 1, 2).float() / 255
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = 0.0
    expected = plain(frames).detach()
    network = attach(partition(plain.eval(), torch.zeros(1, 3, 16, 16), 2))
    usual = (network(frames) - expected).abs().mean()

    match_frozen_features(network, source[0])

    assert (network(frames) - expected).abs().mean() < 0.3 * usual


def test_measured_statistics_are_those_of_the_whole_source_set(network, source):
    """In one batch the pooled moments must be the batch's; dealt out in three, the first norm's must not change."""
    state = initial_state(network)

    whole = measure_statistics(network, state, source[0], batch=96)
    dealt = measure_statistics(network, state, source[0], batch=32)

    first = next(iter(whole))
    with torch.no_grad():
        x = network.stem(torch.from_numpy(source[0]).permute(0, 3, 1, 2).float() / 255)
    by_hand = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    torch.testing.assert_close(whole[first], by_hand, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dealt[first], by_hand, rtol=1e-4, atol=1e-5)
    assert whole.keys() == state.statistics.keys()


def test_with_measured_statistics_source_mode_predicts_as_batch_mode_does(network, source):
    state = initial_state(network)
    state = state._replace(statistics=measure_statistics(network, state, source[0], batch=96))
    frames = torch.from_numpy(source[0]).permute(0, 3, 1, 2).float() / 255

    by_source = Step(network, StepOptions(normalisation="source")).predict(state, frames)
    by_batch = Step(network, StepOptions(normalisation="batch")).predict(state, frames)

    torch.testing.assert_close(by_source, by_batch, rtol=1e-3, atol=1e-3)
