import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.student.domains import Domain, Domains
from ecotta_rt.student.evaluate import error_percent, logits_of
from ecotta_rt.student.methods import METHODS, DistilOptions, Progression, lessons, teachers_needed
from ecotta_rt.student.progressive import distil, distillation
from ecotta_rt.student.training import Moment, TrainingOptions

RECIPE = TrainingOptions(epochs=2, batch=8, lr=0.05, augmentation=Augmentation(()))


def network(seed=0, width=4):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 2),
    )  # fmt: skip


def frames_of(count, seed, brightness=0):
    """Two classes that red and green tell apart, in a domain of its own brightness."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    frames = rng.integers(brightness, brightness + 60, (count, 6, 6, 3), dtype=np.uint8)
    frames[np.arange(count), :, :, labels] += 60
    return frames, labels


@pytest.fixture(scope="module")
def domains():
    source = Domain("day", *frames_of(40, 0))
    return Domains(source, tuple(Domain(f"dusk {k}", frames_of(24, k, 30 * k)[0]) for k in (1, 2)), ("red", "green"))


@pytest.fixture(scope="module")
def one_target(domains):
    return Domains(domains.source, domains.targets[:1], domains.classes)


def weights(module):
    return torch.cat([value.flatten().float() for value in module.state_dict().values()])


def test_distillation_is_the_divergence_of_softened_answers_in_either_direction():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 3, (4, 5)), rng.normal(0, 3, (4, 5))

    def softened(logits):
        e = np.exp(logits / 2.5)
        return e / e.sum(1, keepdims=True)

    q, p = softened(student), softened(teacher)
    expected = {"forward": (p * np.log(p / q)).sum(1).mean(), "reverse": (q * np.log(q / p)).sum(1).mean()}
    for kl, value in expected.items():
        found = distillation(torch.from_numpy(student), torch.from_numpy(teacher), 2.5, kl)
        assert found.item() == pytest.approx(2.5**2 * value)
    assert expected["forward"] != pytest.approx(expected["reverse"])


def test_distillation_lets_the_teacher_alone_and_keeps_the_size_of_gradients():
    student, teacher = (torch.randn(6, 4, dtype=torch.double, requires_grad=True) for _ in range(2))

    gradients = {}
    for temperature in (20.0, 200.0):
        distillation(student, teacher, temperature).backward()
        gradients[temperature], student.grad = student.grad, None

    assert teacher.grad is None
    # At high temperatures it becomes half the mean squared difference of centred logits, over the classes.
    centred = [logits.detach() - logits.detach().mean(1, keepdim=True) for logits in (student, teacher)]
    assert torch.allclose(gradients[200.0], (centred[0] - centred[1]) / 4 / 6, rtol=0.1, atol=1e-3)
    assert torch.allclose(gradients[20.0], gradients[200.0], rtol=0.5, atol=0.01)


def test_beta_grows_exponentially_within_its_ends():
    beta = Progression()
    found = [beta.at(Moment(epoch, 10, 0, 1)) for epoch in range(10)]

    assert found[0] == pytest.approx(0.1) and found[-1] < 0.9
    assert found == pytest.approx([0.1 * math.exp(math.log(9) / 10 * epoch) for epoch in range(10)])
    with pytest.raises(UsageError, match="0 < start <= end"):
        Progression(0.0, 0.9)


def test_lessons_of_the_methods():
    targets = [torch.full((4, 1), float(k)) + torch.arange(4)[:, None] / 10 for k in range(3)]

    alternating = list(lessons(METHODS["mt-mtda"], targets))
    assert [place for place, _ in alternating] == [0, 1, 2]
    assert all(frames is target for (_, frames), target in zip(alternating, targets, strict=True))

    blended = list(lessons(METHODS["kd-mtda"], targets))
    assert [place for place, _ in blended] == [0, 0, 0] and all(len(frames) == 4 for _, frames in blended)
    assert torch.equal(torch.cat([frames for _, frames in blended]).sort(0)[0], torch.cat(targets).sort(0)[0])
    assert all({int(value) for value in frames.flatten()} == {0, 1, 2} for _, frames in blended)

    assert list(lessons(METHODS["source-only"], targets)) == [(0, None)]
    assert [teachers_needed(name, 3) for name in METHODS] == [0, 0, 1, 1, 3]


def test_one_step_is_the_algorithm_written_by_hand(domains):
    """MT-MTDA over two targets, plain SGD, MMD, which has no weights of its own: a step, lesson by lesson."""
    recipe = TrainingOptions(epochs=1, batch=40, lr=0.1, momentum=0, weight_decay=0, augmentation=Augmentation(()))
    options = DistilOptions("mt-mtda", Progression(0.3, 0.3), "mmd", gamma=0.5, temperature=4, alpha=0.2)
    student, teachers = network(0), [network(1, 6), network(2, 6)]
    by_hand, taught_by_hand = copy.deepcopy(student), copy.deepcopy(teachers)

    distil(student, teachers, domains, options, recipe)

    from ecotta_rt.student.alignment.mmd import mmd
    from ecotta_rt.student.batches import batches

    (batch,) = batches(domains, 40, torch.Generator().manual_seed(0), Augmentation(()))

    def features(module, frames):
        return module[:-1](frames)

    def update(module, loss):
        module.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.1 * parameter.grad

    for teacher, target in zip(taught_by_hand, batch.targets, strict=True):
        both = torch.cat([batch.source, target])
        of_both = features(teacher.train(), both)
        loss = F.cross_entropy(teacher[-1](of_both[:40]), batch.labels) + 0.5 * mmd(of_both[:40], of_both[40:])
        update(teacher, 0.7 * loss)
        with torch.no_grad():
            taught = teacher.eval()(both)
        answered = by_hand.train()(both)
        kd = [16 * F.kl_div((a / 4).log_softmax(1), (t / 4).softmax(1), reduction="batchmean")
              for a, t in zip(answered.split(40), taught.split(40), strict=True)]  # fmt: skip
        update(by_hand, 0.3 * (0.2 * kd[0] + 0.8 * F.cross_entropy(answered[:40], batch.labels) + kd[1]))

    assert torch.allclose(weights(student), weights(by_hand), atol=1e-5)
    for teacher, expected in zip(teachers, taught_by_hand, strict=True):
        assert torch.allclose(weights(teacher), weights(expected), atol=1e-5)


def test_kd_mtda_and_mt_mtda_with_one_target_are_kd_stda(one_target):
    results = []
    for method in ("kd-stda", "kd-mtda", "mt-mtda"):
        student = network(0)
        distil(student, [network(1)], one_target, DistilOptions(method), RECIPE)
        results.append(weights(student))

    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("alignment", ["dann", "mmd", "symnet", "none"])
@pytest.mark.parametrize("method", ["adapted", "kd-stda"])
def test_every_alignment_trains_with_and_without_a_teacher(one_target, method, alignment):
    student, before = network(0), weights(network(0))
    teachers = [network(1)] * teachers_needed(method, 1)

    history = distil(student, teachers, one_target, DistilOptions(method, alignment=alignment), RECIPE)

    assert len(history) == 2 and not torch.equal(weights(student), before) and not student.training
    assert {"loss", "confidence"} <= history[0].keys() and ("agreement" in history[0]) == (method == "kd-stda")


def test_a_frozen_teacher_stays_and_consistency_changes_the_student(one_target):
    teacher, before = network(1), weights(network(1).eval())
    students = [network(0), network(0)]
    for student, consistency in zip(students, (False, True), strict=True):
        options = DistilOptions(teacher_learns=False, consistency=consistency)
        distil(student, [teacher], one_target, options, RECIPE)

    assert torch.equal(weights(teacher), before)
    assert not torch.equal(weights(students[0]), weights(students[1]))


def test_a_student_learns_from_its_teacher_in_the_target(one_target):
    """Enough epochs to learn the two colours there, where it has seen no label."""
    frames, labels = frames_of(60, 9, 30)
    recipe = TrainingOptions(epochs=25, batch=8, lr=0.1, augmentation=Augmentation(()))
    student = network(0)

    history = distil(student, [network(1, 8)], one_target, DistilOptions(), recipe)

    assert error_percent(student, frames, labels) < 10
    assert history[-1]["agreement"] > 0.9


def test_an_interrupted_distillation_ends_as_one_that_was_not(domains, tmp_path):
    def interrupt(progress):
        if progress.step == 7:
            raise KeyboardInterrupt

    def run(**kwargs):
        student = network(0)
        return student, lambda: distil(
            student, [network(1), network(2)], domains, DistilOptions("mt-mtda"), RECIPE, **kwargs
        )

    whole, go = run()
    history = go()
    snapshot = tmp_path / "run.snapshot"
    with pytest.raises(KeyboardInterrupt):
        run(report=interrupt, snapshot=snapshot)[1]()
    again, go = run(snapshot=snapshot)

    assert go() == history and torch.equal(weights(again), weights(whole))


def test_refuses_the_snapshot_of_other_data(domains, one_target, tmp_path):
    distil(network(0), [network(1)], one_target, DistilOptions(), RECIPE, snapshot=tmp_path / "run.snapshot")
    other = Domains(domains.source, domains.targets[1:], domains.classes)

    with pytest.raises(ValueError, match="another run: .*dusk"):
        distil(network(0), [network(1)], other, DistilOptions(), RECIPE, snapshot=tmp_path / "run.snapshot")


def test_refuses_teachers_targets_and_classes_that_do_not_fit(domains, one_target):
    def refused(why, student, teachers, data, method):
        with pytest.raises(UsageError, match=why):
            distil(student, teachers, data, DistilOptions(method), RECIPE)

    refused("takes 2 teachers; 1 are given", network(), [network(1)], domains, "mt-mtda")
    refused("one target, and there are 2", network(), [network(1)], domains, "kd-stda")
    refused("needs pictures of a target", network(), [], Domains(domains.source, (), domains.classes), "adapted")
    same = network(1)
    refused("a network of its own", network(), [same, same], domains, "mt-mtda")
    three = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    refused("tells 3 classes apart, the source has 2", network(), [three], one_target, "kd-stda")


@pytest.mark.parametrize(
    "wrong",
    [{"method": "kd"}, {"alignment": "coral"}, {"gamma": -1.0}, {"temperature": 0.0}, {"alpha": 1.5}, {"kl": "both"}],
)
def test_refuses_options_that_cannot_be_meant(wrong):
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        DistilOptions(**wrong)


def test_answers_come_in_evaluation_mode_and_leave_the_mode_alone():
    module = network().train()
    frames = frames_of(5, 0)[0]

    found = logits_of(module, frames)

    expected = copy.deepcopy(module).eval()(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255)
    assert module.training and torch.allclose(found, expected, atol=1e-6)
