"""DistillNearest and DistillWeighted: the loss by hand and by autograd, the loop, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_rt.errors import InputFileError, NetworkError, UsageError
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.student.feature_tap import FeatureTap
from ecotta_rt.student.source_networks import SourceNetwork
from ecotta_rt.student.training import Moment, TrainingOptions, train
from ecotta_rt.student.weighted import Teaching, chosen_sources, distillation_loss, source_steps

SHAPE = (3, 8, 8)
PLAIN = TrainingOptions(
    epochs=1, batch=8, lr=0.1, momentum=0.0, weight_decay=0.0, rate="constant", augmentation=Augmentation(())
)


def small(classes, seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
    )


def source(name, classes, seed):
    network = small(classes, seed).eval().requires_grad_(False)
    return SourceNetwork(name, FeatureTap(network, SHAPE), None, f"digest of {name}")


def pictures(count, seed=0):
    draw = np.random.default_rng(seed)
    labels = (np.arange(count) % 3).astype(np.int64)
    frames = draw.integers(0, 120, (count, 8, 8, 3))
    frames[np.arange(count), :, :, labels] += 100
    return frames.astype(np.uint8), labels


TEACHING = (Teaching(source("five", 5, 1), 0.75), Teaching(source("two", 2, 2), 0.25))


def steps_for(student, teaching=TEACHING, options=PLAIN, share=0.8, labelled=None, unlabelled=None):
    few = labelled or pictures(6)
    many = pictures(32, 1)[0] if unlabelled is None else unlabelled
    return source_steps(student, teaching, few, many, options, share)


def cross_entropy(wanted, logits):
    """By its definition, in numpy."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return float(-(wanted * np.log(shares / shares.sum(1, keepdims=True))).sum(1).mean())


def test_the_loss_is_the_weighted_sum_of_cross_entropies():
    draw = torch.Generator().manual_seed(0)
    answers = [torch.randn(7, n, generator=draw).softmax(1) for n in (5, 2)]
    logits = [torch.randn(7, n, generator=draw, requires_grad=True) for n in (5, 2)]
    weights = [0.7, 0.3]

    loss = distillation_loss(answers, logits, weights)
    by_hand = [
        w * cross_entropy(a.numpy(), b.detach().numpy()) for w, a, b in zip(weights, answers, logits, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(by_hand), rel=1e-5)
    loss.backward()
    for answer, given, weight in zip(answers, logits, weights, strict=True):
        # The gradient of a cross-entropy by its logits: softmax - wanted.
        assert torch.allclose(given.grad, weight * (given.softmax(1) - answer).detach() / 7, atol=1e-6)


def test_a_step_goes_down_the_papers_loss():
    """One step of plain SGD against autograd on the formula, written out here."""
    student = small(3)
    steps = steps_for(student)
    batch = next(iter(steps.batches(torch.Generator().manual_seed(4))))
    heads = steps.modules["heads"]
    before = [p.detach().clone() for p in (*student.parameters(), *heads.parameters())]
    features = student[:4](batch.frames)
    own = (
        -student[4](features)[: len(batch.labels)].log_softmax(1)[torch.arange(len(batch.labels)), batch.labels].mean()
    )
    taught = sum(
        one.weight * -(one.source.tap.network(batch.frames).softmax(1) * head(features).log_softmax(1)).sum(1).mean()
        for one, head in zip(TEACHING, heads, strict=True)
    )
    wanted = torch.autograd.grad(0.8 * own + 0.2 * taught, [*student.parameters(), *heads.parameters()])

    told = steps.step(batch, Moment(0, 1, 0, 1))
    assert told == {"label loss": pytest.approx(own.item()), "source loss": pytest.approx(taught.item())}
    for parameter, old, gradient in zip((*student.parameters(), *heads.parameters()), before, wanted, strict=True):
        assert torch.allclose(parameter, old - 0.1 * gradient, atol=1e-6)


def test_a_batch_has_a_quarter_of_labelled_frames_first_and_each_picture_once():
    frames, labels = pictures(6)
    steps = steps_for(small(3), labelled=(frames, labels))
    batches = list(steps.batches(torch.Generator().manual_seed(0)))

    assert len(batches) == steps.per_epoch == 4
    assert all(batch.frames.shape == (10, 3, 8, 8) and len(batch.labels) == 2 for batch in batches)
    seen = {frame.numpy().tobytes() for batch in batches for frame in batch.frames[2:]}
    assert len(seen) == 32
    known = {
        (torch.from_numpy(frame).permute(2, 0, 1).float() / 255).contiguous().numpy().tobytes(): label
        for frame, label in zip(frames, labels, strict=True)
    }
    first = [
        (frame.contiguous().numpy().tobytes(), label)
        for b in batches
        for frame, label in zip(b.frames, b.labels, strict=False)
    ]
    assert all(known[frame] == label for frame, label in first)
    assert len({frame for frame, _ in first[:6]}) == 6  # all labelled ones come before one comes again


def test_sources_stay_as_they_are_and_heads_are_no_part_of_the_student():
    student = small(3)
    names = list(student.state_dict())
    before = [p.clone() for one in TEACHING for p in one.source.tap.network.parameters()]

    history = train(steps_for(student), PLAIN)
    assert history[0].keys() == {"label loss", "source loss"}
    assert list(student.state_dict()) == names
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, [p for one in TEACHING for p in one.source.tap.network.parameters()], strict=True)
    )


def tinted(brightness, labels, seed):
    """A little more of one colour in frames that are bright or dark."""
    frames = (
        np.random.default_rng(seed).integers(0, 20, (len(labels), 8, 8, 3)) + np.array(brightness)[:, None, None, None]
    )
    frames[np.arange(len(labels)), :, :, labels] += 40
    return frames.astype(np.uint8)


def test_what_a_source_knows_helps_where_labels_mislead():
    """Six labels, from which brightness tells the classes apart; the source knows colours, under other names."""
    knowing = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3), nn.Linear(3, 3)).requires_grad_(
        False
    )
    for layer, weight in ((knowing[2], torch.eye(3)), (knowing[3], 20 * torch.eye(3)[[2, 0, 1]])):
        layer.weight.copy_(weight)
        layer.bias.zero_()
    colours = SourceNetwork("colours", FeatureTap(knowing.eval(), SHAPE), None, "colours")
    labels = np.arange(96) % 3
    draw = np.random.default_rng(2)
    many, test = (tinted(draw.integers(0, 180, 96), labels, seed) for seed in (3, 4))
    few = (tinted([0, 80, 160, 10, 90, 170], labels[:6], 5), labels[:6])
    options = TrainingOptions(epochs=25, batch=16, lr=0.1, rate="cosine", augmentation=Augmentation(()))

    right = {}
    for name, teaching in {"labels": (), "nearest": (Teaching(colours, 1.0),)}.items():
        student = small(3)
        train(source_steps(student, teaching, few, many, options, 0.3), options)
        answers = student.eval()(torch.from_numpy(test).permute(0, 3, 1, 2).float() / 255).argmax(1)
        right[name] = float((answers.numpy() == labels).mean())
    assert right["labels"] < right["nearest"] - 0.1


def test_without_sources_or_at_share_1_labels_alone_teach():
    for teaching, share in (((), 0.5), (TEACHING, 1.0)):
        steps = steps_for(small(3), teaching, share=share)
        batch = next(iter(steps.batches(torch.Generator().manual_seed(0))))

        assert len(batch.frames) == len(batch.labels) == 2
        assert steps.per_epoch == 4
        assert steps.step(batch, Moment(0, 1, 0, 1)).keys() == {"label loss"}
        assert list(steps.optimisers) == ["student"]


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path):
    options = TrainingOptions(epochs=4, batch=8, lr=0.1)
    whole, halted = small(3), small(3)
    history = train(steps_for(whole, options=options), options)

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.epoch == 3:
            raise Stop

    with pytest.raises(Stop):
        train(steps_for(halted, options=options), options, report=stop, snapshot=tmp_path / "run")
    again = small(3)
    assert train(steps_for(again, options=options), options, snapshot=tmp_path / "run") == history
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize("change", ["weights", "labels", "share"])
def test_a_snapshot_of_another_run_is_refused(tmp_path, change):
    options = TrainingOptions(epochs=1, batch=8, lr=0.1)
    train(steps_for(small(3), options=options), options, snapshot=tmp_path / "run")
    other = {
        "weights": {"teaching": (Teaching(TEACHING[0].source, 0.5), Teaching(TEACHING[1].source, 0.5))},
        "labels": {"labelled": pictures(9)},
        "share": {"share": 0.5},
    }[change]

    with pytest.raises(InputFileError, match="another run"):
        train(steps_for(small(3), options=options, **other), options, snapshot=tmp_path / "run")


def test_light_sources_are_left_out_and_the_others_share_their_weight():
    sources = [source(name, 2, 0) for name in ("a", "b", "c")]
    kept = chosen_sources(sources, {"a": 0.199, "b": 0.796, "c": 0.005})

    assert [(one.source.name, pytest.approx(one.weight)) for one in kept] == [("b", 0.8), ("a", 0.2)]


def test_of_very_many_alike_sources_none_is_left_out():
    one = source("any", 2, 0)
    sources = [SourceNetwork(f"{place}", one.tap, None, one.digest) for place in range(120)]
    kept = chosen_sources(sources, {source.name: 1 / 120 for source in sources})

    assert len(kept) == 120
    assert sum(teaching.weight for teaching in kept) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"share": 0.0}, "label share 0"),
        ({"share": 1.5}, "label share 1.5"),
        ({"unlabelled": np.zeros((32, 4, 4, 3), np.uint8)}, r"labelled frames \[8, 8, 3\]"),
        ({"unlabelled": pictures(7)[0]}, "batch 8"),
        ({"labelled": (pictures(6)[0], np.arange(6))}, "labels up to 5 for a student of 3 classes"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, why):
    with pytest.raises(UsageError, match=why):
        steps_for(small(3), **change)


def test_a_student_without_a_classifier_is_refused():
    with pytest.raises(NetworkError, match="no classifier"):
        steps_for(nn.Flatten())
