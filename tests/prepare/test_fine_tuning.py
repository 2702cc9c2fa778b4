import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.cli.tune import _CORRUPTIONS
from ecotta_rt.data.corruptions import corrupt
from ecotta_rt.data.corruptions.any_shape import SAMPLE
from ecotta_rt.data.labelled import Labelled, SourceData, Unlabelled
from ecotta_rt.errors import InputFileError, Unavailable, UsageError
from ecotta_rt.method.cut.normalise import Normalised
from ecotta_rt.method.width.groups import find_groups
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare import epochs
from ecotta_rt.prepare import looks as looks_module
from ecotta_rt.prepare.checkpoint import load_network, read_network_file, save_network
from ecotta_rt.prepare.epochs import WarmUpOptions
from ecotta_rt.prepare.fine_tuning import Origin, fine_tuned, load_fine_tuned, require_free, snapshot_beside
from ecotta_rt.prepare.looks import Looks, Seen
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.prepare.open_network import made_for
from ecotta_rt.prepare.snapshot import weights_digest
from ecotta_rt.prepare.weights import read_safetensors

QUICK = WarmUpOptions(epochs=1, batch=8, lr=0.02)
HERE = {"origin": Origin("net.py:make", data="two colours"), "frame": FrameSpec(3, 16, 16)}


def small_network():
    torch.manual_seed(0)
    return WideResNet(10, 1, classes=2).eval()


@pytest.fixture(scope="module")
def source():
    """Two classes that colour tells apart."""
    generator = np.random.default_rng(0)
    labels = np.sort(generator.integers(0, 2, 128))
    frames = generator.integers(0, 120, (128, 16, 16, 3), dtype=np.uint8)
    frames[labels == 1, :, :, 0] += 100
    places = generator.permutation(128)
    kept, held = np.sort(places[:96]), np.sort(places[96:])
    return SourceData(Labelled(frames[kept], labels[kept]), Labelled(frames[held], labels[held]))


def assert_same_weights(network, other):
    """To the bit, but for the counts of batches, which no file of ours has."""
    expected = other.state_dict()
    for name, value in network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(value, expected[name]), name


class Seeing:
    """Stands for `Looks`: so many wrong, before and after."""

    def __init__(self, *wrong):
        self.wrong, self.seen = list(wrong), []

    def see(self, network):
        self.seen.append(weights_digest(network))
        clean = np.arange(20) < self.wrong.pop(0)
        return Seen(clean, None)

    def as_json(self):
        return {"pictures": 20}


def test_the_file_holds_what_is_gone_on_with_and_the_network_given_stays_as_it_was(source, tmp_path):
    network, path, said = small_network(), tmp_path / "net-fine-tuned.safetensors", []
    before = weights_digest(network)
    seen = Seeing(7, 4)

    found = fine_tuned(network, source, path, QUICK, looks=seen, tell=said.append, **HERE)

    assert weights_digest(network) == before == seen.seen[0]
    assert seen.seen[1] == weights_digest(found.network) != before
    assert not found.network.training
    again = load_fine_tuned(small_network(), path)
    frames = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(again(frames), found.network(frames))
    assert_same_weights(again, found.network)
    assert found.facts["used"] and found.file == path
    assert found.facts["held_out"]["wrong_percent"] == {"before": {"clean": 35.0}, "after": {"clean": 20.0}}
    how = "1 x 96 pictures, step size 0.02; held-out pictures wrong: clean 35.0 -> 20.0 %"
    assert found.record() == {"fine_tuned": how}
    metadata = read_safetensors(path)[1]
    recipe = json.loads(metadata["recipe"])
    assert (metadata["factory"], recipe["on"], recipe["frame"]) == ("net.py:make", "two colours", [16, 16])
    assert said == [
        "before it clean 35.0 % of 20 held-out pictures wrong",
        "after it clean 20.0 % of 20 held-out pictures wrong",
    ]


def test_a_network_that_guesses_is_told_of_before_its_mistakes_are_trained_in(source, tmp_path):
    said = []

    fine_tuned(small_network(), source, tmp_path / "x.safetensors", QUICK, looks=Seeing(9, 4), tell=said.append, **HERE)

    assert "is the order of the classes (--classes) that of its outputs" in said[1]


def test_a_network_that_is_the_worse_for_it_stays_and_no_file_is_written(source, tmp_path):
    network, path, said = small_network(), tmp_path / "net-fine-tuned.safetensors", []

    found = fine_tuned(network, source, path, QUICK, looks=Seeing(4, 5), tell=said.append, **HERE)

    assert found.network is network
    assert found.file is None and not found.facts["used"]
    assert not path.exists()
    assert "made it worse (20.0 % wrong in the mean, now 25.0)" in said[-1]
    assert "--fine-tune-lr 0.02" in said[-1]
    path.write_bytes(b"of an earlier run")
    fine_tuned(network, source, path, QUICK, looks=Seeing(4, 5), force=True, tell=said.append, **HERE)
    assert "is of an earlier run" in said[-1]
    assert list(found.record()) == ["fine_tuning_left_out"]


def test_corrupted_pictures_may_be_paid_for_with_clean_ones_but_not_unsaid(source, tmp_path):
    clean = np.arange(20)
    both = [Seen(clean < 2, np.ones((5, 20), bool)), Seen(clean < 10, np.zeros((5, 20), bool))]
    seeing = Seeing()
    seeing.see = lambda network: both.pop(0)
    said = []

    path = tmp_path / "net-fine-tuned.safetensors"
    found = fine_tuned(small_network(), source, path, QUICK, looks=seeing, tell=said.append, **HERE)

    assert found.file == path
    assert "the price of the corrupted ones" in said[-1]


def test_errors_weigh_each_look_alike_and_clean_ones_are_compared_picture_by_picture():
    corrupted = np.array([[True, True], [True, False]])
    seen = Seen(np.array([True, False, False, False]), corrupted)

    assert seen.errors_percent == {"clean": 25, "corrupted": 75}
    assert seen.error_percent == pytest.approx((25 + 100 + 50) / 3)
    before, after = np.zeros(30, bool), np.zeros(30, bool)
    after[:4] = True  # 4 more wrong, the standard error of the difference is 2
    assert not Seen(after, None).clean_is_worse_than(Seen(before, None))
    after[4] = True
    assert Seen(after, None).clean_is_worse_than(Seen(before, None))


def test_a_killed_run_goes_on_to_the_same_bytes(source, tmp_path):
    steps = []

    def run(name, killed_at=None):
        def report(progress):
            steps.append(progress.step)
            if progress.step == killed_at:
                raise KeyboardInterrupt

        path = tmp_path / name / "net-fine-tuned.safetensors"
        path.parent.mkdir(exist_ok=True)
        fine_tuned(small_network(), source, path, QUICK, report=report, **HERE)
        return path.read_bytes()

    whole = run("undisturbed")
    for step in (3, 9):
        with pytest.raises(KeyboardInterrupt):
            run("killed", step)

    steps.clear()
    assert run("killed") == whole
    assert steps == [9, 10, 11, 12]  # a snapshot after each second step


def killed(source, path, options, at):
    def report(progress):
        if progress.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tuned(small_network(), source, path, options, report=report, **HERE)
    return snapshot_beside(path)


def test_the_snapshot_of_another_run_is_refused_early_and_removed_by_force(source, tmp_path):
    path, other = tmp_path / "net-fine-tuned.safetensors", replace(QUICK, lr=0.01)
    fine_tuned(small_network(), source, path, other, **HERE)
    expected = path.read_bytes()
    path.unlink()
    snapshot_beside(path).unlink()
    snapshot = killed(source, path, QUICK, 9)

    require_free(small_network(), path, QUICK, Origin("net.safetensors"), force=False)
    for refused in (
        lambda: require_free(small_network(), path, other, Origin("net.safetensors"), force=False),
        lambda: fine_tuned(small_network(), source, path, other, **HERE),
    ):
        with pytest.raises(InputFileError, match=r"another run: lr was 0.02 and is 0.01\. Give"):
            refused()
    fine_tuned(small_network(), source, path, other, force=True, **HERE)

    assert path.read_bytes() == expected
    snapshot.write_bytes(b"damaged")
    fine_tuned(small_network(), source, path, other, force=True, **HERE)
    assert path.read_bytes() == expected


def test_a_forced_run_that_was_interrupted_goes_on_too(source, tmp_path):
    path, seen = tmp_path / "net-fine-tuned.safetensors", []
    killed(source, path, QUICK, 9)

    fine_tuned(small_network(), source, path, QUICK, force=True, report=seen.append, **HERE)

    assert seen[0].step == 9


def test_a_run_that_diverged_leaves_nothing_that_stands_in_the_way_of_a_smaller_step(source, tmp_path, monkeypatch):
    path, step, losses = tmp_path / "net-fine-tuned.safetensors", epochs._step, iter([1.0] * 4 + [float("nan")])
    monkeypatch.setattr(epochs, "_step", lambda *given: (step(*given)[0], next(losses)))
    left = []

    with pytest.raises(UsageError, match=r"fine-tuning: the loss is nan in step 5: give a smaller --fine-tune-lr"):
        fine_tuned(
            small_network(), source, path, QUICK, report=lambda _: left.append(snapshot_beside(path).exists()), **HERE
        )

    assert left == [False, False, True, True]
    assert not snapshot_beside(path).exists() and not path.exists()


def test_weights_that_are_no_longer_finite_leave_nothing_either(source, tmp_path, monkeypatch):
    def broken(network, *given, **more):
        nn.init.constant_(next(network.parameters()), float("nan"))
        snapshot_beside(path).write_bytes(b"of the last step")

    path = tmp_path / "net-fine-tuned.safetensors"
    monkeypatch.setattr("ecotta_rt.prepare.fine_tuning.fine_tune", broken)

    with pytest.raises(UsageError, match="give a smaller --fine-tune-lr than 0.02"):
        fine_tuned(small_network(), source, path, QUICK, **HERE)

    assert not snapshot_beside(path).exists()


def test_what_an_earlier_run_made_is_used_again_by_the_same_run_alone(source, tmp_path):
    path, said = tmp_path / "net-fine-tuned.safetensors", []
    first = fine_tuned(small_network(), source, path, QUICK, looks=Seeing(9, 4), **HERE)
    before = path.read_bytes()

    again = fine_tuned(small_network(), source, path, QUICK, looks=Seeing(), tell=said.append, **HERE)

    assert_same_weights(again.network, first.network)
    assert dict(again.facts) == dict(first.facts)
    assert "is used as it is" in said[0]
    plain = Origin("net.safetensors")
    require_free(small_network(), path, QUICK, plain, force=False)
    smaller = WarmUpOptions(epochs=1, batch=8, lr=0.01)
    for refused in (
        lambda: fine_tuned(small_network(), source, path, smaller, **HERE),
        lambda: require_free(small_network(), path, smaller, plain, force=False),
    ):
        with pytest.raises(UsageError, match=r"made otherwise \(lr was 0.02 and is 0.01\); --force"):
            refused()
    fewer = SourceData(Labelled(source.training.frames[:64], source.training.labels[:64]))
    with pytest.raises(UsageError, match="frames was 96 of 16x16 and is 64 of 16x16"):
        fine_tuned(small_network(), fewer, path, QUICK, **HERE)
    training, held_out = source.training, source.held_out
    other = Labelled(training.frames[:, :, ::-1], training.labels)  # as many pictures a class, and other ones
    with pytest.raises(UsageError, match=r"made otherwise \(pictures was "):
        fine_tuned(small_network(), SourceData(other, held_out), path, QUICK, **HERE)
    unseen = Labelled(held_out.frames[::-1], held_out.labels)
    with pytest.raises(UsageError, match=r"made otherwise \(held out was "):
        fine_tuned(small_network(), SourceData(training, unseen), path, QUICK, **HERE)
    normalised = Normalised(small_network(), (0.2,), (0.5,), 3).eval()
    for refused in (
        lambda: fine_tuned(normalised, source, path, QUICK, **HERE),
        lambda: require_free(normalised, path, QUICK, plain, force=False),
    ):
        with pytest.raises(UsageError, match=r"made otherwise \(network was "):
            refused()
    path.write_bytes(b"precious")
    for forced in (False, True):
        with pytest.raises(UsageError, match="no network that --fine-tune made"):
            require_free(small_network(), path, QUICK, plain, force=forced)
    with pytest.raises(UsageError, match="no network that --fine-tune made"):
        fine_tuned(small_network(), source, path, QUICK, **HERE)
    path.unlink()
    with pytest.raises(UsageError, match="the network itself"):
        require_free(small_network(), path, QUICK, Origin(str(path)), force=True)
    fine_tuned(small_network(), source, path, QUICK, looks=Seeing(9, 4), force=True, **HERE)
    assert path.read_bytes() == before


def test_that_nobody_looks_is_said_before_the_training(source, tmp_path):
    said = []

    found = fine_tuned(
        small_network(), source, tmp_path / "x.safetensors", QUICK, report=said.append, tell=said.append, **HERE
    )

    assert "no pictures are held out" in said[0]
    assert "nothing was held out" in found.record()["fine_tuned"]


def test_without_labels_there_is_nothing_to_learn(source, tmp_path):
    with pytest.raises(UsageError, match="needs labels"):
        fine_tuned(
            small_network(), SourceData(Unlabelled(source.training.frames)), tmp_path / "x.safetensors", QUICK, **HERE
        )


class Buffered(nn.Module):
    """Beside its weights a table of places, or a mask."""

    def __init__(self, buffer):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.table = WideResNet(10, 1, classes=2), nn.Parameter(torch.zeros(5000, 2))
        self.register_buffer("buffer", buffer)

    def forward(self, frames):
        logits = self.body(frames)
        return logits + (self.buffer if self.buffer.is_floating_point() else self.table[self.buffer[0, 0]])


def test_tables_of_places_come_back_whole_and_what_no_file_holds_is_refused_before(source, tmp_path):
    path, places = tmp_path / "net-fine-tuned.safetensors", torch.tensor([[4097, 3]])
    network, origin = Buffered(places), Origin("net.safetensors")

    require_free(network, path, QUICK, origin, force=False)
    found = fine_tuned(network, source, path, QUICK, **HERE)

    stored = read_safetensors(path)[0]
    assert torch.equal(stored["buffer"], places) and stored["table"].dtype == torch.float16
    assert_same_weights(load_fine_tuned(Buffered(torch.zeros_like(places)), path), found.network)
    mask = torch.tensor([0.0, -torch.inf])
    with pytest.raises(UsageError, match="nothing is trained: .*NaN or infinite values: buffer.*persistent=False"):
        require_free(Buffered(mask), tmp_path / "other.safetensors", QUICK, origin, force=False)


class HeldNorms(WideResNet):
    """Keeps the statistics of its norms in training, as detectors do."""

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def test_norms_that_a_network_holds_stay_held_and_networks_without_norms_are_trained_too(source, tmp_path):
    torch.manual_seed(0)
    held = HeldNorms(10, 1, classes=2)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    trained = [fine_tuned(n, source, tmp_path / f"{k}.safetensors", QUICK, **HERE) for k, n in enumerate((held, plain))]

    after = trained[0].network.state_dict()
    for name, value in held.state_dict().items():
        moved = not torch.equal(value, after[name])
        assert moved == (name in dict(held.named_parameters())), name
    assert weights_digest(trained[1].network) != weights_digest(plain)


def test_a_narrower_network_stays_a_file_of_ours_that_says_how_narrow_it_is(source, tmp_path):
    """As `ecotta student pick` takes them out of a bank."""
    torch.manual_seed(0)
    whole = build_network("resnet-8", classes=2)
    widths = {"conv1": 4, "layer2.0.conv1": 2}
    small = narrow(find_groups(whole, torch.zeros(1, 3, 16, 16)), widths).eval()
    given, path = tmp_path / "small.safetensors", tmp_path / "small-fine-tuned.safetensors"
    save_network(small, given, model="resnet-8", channels=widths)
    small = load_network(given)

    found = fine_tuned(small, source, path, QUICK, origin=Origin(str(given)), frame=FrameSpec(3, 16, 16))

    assert_same_weights(load_network(path), found.network)
    described = read_network_file(path)
    assert described.channels == widths
    assert described.recipe["fine_tuned_from"] == "small.safetensors"
    assert made_for(str(path), small) == (16, 16)


def batch_statistics(network):
    """By hand: every norm normalises with the batch's own moments."""
    network = deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    return network


def test_corrupted_pictures_are_those_of_the_benchmark_with_the_statistics_of_each_batch(source):
    held_out = source.held_out
    network = small_network()

    seen = Looks(held_out, parts=2, batch=16, seed=3).see(network)

    def wrong(answer, frames, labels):
        with torch.no_grad():
            logits = [answer(torch.from_numpy(part).permute(0, 3, 1, 2) / 255) for part in np.split(frames, 2)]
        return torch.cat(logits).argmax(1).numpy() != labels

    assert np.array_equal(seen.clean, wrong(network, held_out.frames, held_out.labels))
    places = np.random.default_rng(3).permutation(len(held_out.labels))
    for name, found in zip(SAMPLE, seen.corrupted, strict=True):
        frames = corrupt(held_out.frames[places], name, severity=5, seed=3)
        assert np.array_equal(found, wrong(batch_statistics(network), frames, held_out.labels[places])), name
    assert all(parameter.requires_grad for parameter in network.parameters())  # a copy was cut
    assert SAMPLE == _CORRUPTIONS  # what `ecotta tune` plays


def test_a_network_without_norms_is_looked_at_too(source):
    torch.manual_seed(0)
    convolutions = [layer for c in (3, 4, 4) for layer in (nn.Conv2d(c, 4, 3, 1, 1), nn.ReLU())]
    network = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    held_out = source.held_out

    seen = Looks(held_out, parts=2, batch=16).see(network)

    places = np.random.default_rng(0).permutation(len(held_out.labels))
    for name, found in zip(SAMPLE, seen.corrupted, strict=True):
        frames = torch.from_numpy(corrupt(held_out.frames[places], name, severity=5, seed=0)).permute(0, 3, 1, 2)
        with torch.no_grad():
            answers = network(frames / 255).argmax(1).numpy()
        assert np.array_equal(found, answers != held_out.labels[places]), name


def test_without_scipy_only_clean_pictures_are_looked_at(source, monkeypatch):
    def missing():
        raise Unavailable("corrupting frames needs scipy")

    monkeypatch.setattr(looks_module, "require_packages", missing)
    said = []

    looks = Looks(source.held_out, parts=2, batch=16, tell=said.append)

    assert looks.see(small_network()).corrupted is None
    assert said == ["held-out pictures are played clean alone: corrupting frames needs scipy"]
