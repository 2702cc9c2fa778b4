"""What every method promises, checked on each of them: ours, its peers and the controls."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ecotta_rt.bench.peers import METHODS, build_method
from ecotta_rt.bench.peers.ecotta import Ecotta
from ecotta_rt.bench.peers.peer import LabelledPeer, Peer
from ecotta_rt.errors import BadFrames, EcottaError, UsageError
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.state import AdaptState

# One that follows a bundle's rule runs in onnxruntime alone: the engine's tests have it.
IN_TORCH = {name: entry for name, entry in METHODS.items() if not entry.follows}
EVERY = pytest.mark.parametrize("name", IN_TORCH)
LEARNING = pytest.mark.parametrize("name", [name for name, entry in IN_TORCH.items() if entry.trains != "nothing"])
STILL = pytest.mark.parametrize("name", [name for name, entry in IN_TORCH.items() if entry.trains == "nothing"])
ONE_BY_ONE = pytest.mark.parametrize("name", [name for name, entry in IN_TORCH.items() if entry.one_by_one])
BATCH_STATISTICS = pytest.mark.parametrize("name", [name for name, entry in IN_TORCH.items() if not entry.one_by_one])

CLASSES = 4


def _network(seed: int = 0) -> WideResNet:
    """Six blocks, the fewest that can be cut in five; stretched logits, so that some frames pass the entropy gates."""
    torch.manual_seed(seed)
    network = WideResNet(16, 1, classes=CLASSES).eval()
    with torch.no_grad():
        network.fc.weight.mul_(20)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # trained statistics are not those of the batch
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@functools.cache
def _warmed(parts: int) -> AdaptState:
    """Meta groups for `_network()` as warm-up would leave them, as far as a contract can tell: any state that fits."""
    torch.manual_seed(1)
    return TorchEngine(attach(partition(_network(), torch.zeros(1, 3, 32, 32), parts))).state


def _build(name: str, network: nn.Module, **options: object) -> Peer:
    parts = 5 if name == "ecotta-k5" else 4
    method = build_method(
        name,
        network,
        classes=CLASSES,
        source_frames=_frames(16, seed=5),
        warmed=_warmed(parts) if "warmed" in METHODS[name].takes else None,
        fine_tuned=_network(seed=2),
        **(_QUICK.get(name, {}) | options),
    )
    if isinstance(method, LabelledPeer):
        method._answer = _then_taught(method, method._answer)
    return method


def _then_taught(method: LabelledPeer, answer: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What learns from labels gets some after each answer, so that all that is promised below holds for it too."""

    def answer_and_teach(frames: Tensor) -> Tensor:
        logits = answer(frames)
        method.teach(torch.arange(len(frames)) % CLASSES)
        return logits

    return answer_and_teach


_NOT_OF_THE_BATCH = {"source": "source", "lame": "source", "rotta": "running", "note": "running"}

# 2 augmented views test what 32 do, and updates every 8 frames what those every 64 do; an open gate and a short climb,
# since chance decides how sure a random network is.
_QUICK: dict[str, dict[str, object]] = {
    "eata": {"d_margin": 1.1},
    "cotta": {"augmentations": 2},
    "rotta": {"update_every": 8},
    "note": {"update_every": 8},
    "sar": {"reset_below": 0.0, "rho": 1e-3},
    "rdumb": {"d_margin": 1.1},
    "ecotta-k4": {"step_options": StepOptions(entropy_margin=1.0)},
    "ecotta-k4-constant": {"step_options": StepOptions(entropy_margin=1.0)},
    "ecotta-k5": {"step_options": StepOptions(entropy_margin=1.0)},
}


def _frames(count: int = 8, seed: int = 3) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _snapshot(method: Peer) -> dict[str, Tensor]:
    """Every parameter and buffer the method holds, by name, wherever it keeps them."""
    if isinstance(method, Ecotta):
        held = {name: torch.from_numpy(array) for name, array in method.engine.state.parameters.items()}
    else:
        held = dict(method.network.named_parameters())
    counters = "num_batches_tracked"  # in no formula
    others = {
        name: t for name, t in method.network.state_dict().items() if name not in held and not name.endswith(counters)
    }
    frozen = {f"frozen.{name}": tensor for name, tensor in others.items()}
    return {name: tensor.detach().clone() for name, tensor in {**held, **frozen}.items()}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@EVERY
def test_it_is_a_method_that_carries_the_name_it_was_asked_for(name):
    method = _build(name, _network())

    assert isinstance(method, Peer)
    assert method.name == name
    assert method.normalisation == _NOT_OF_THE_BATCH.get(name, "batch")


@EVERY
@pytest.mark.parametrize("count", [2, 7])
def test_logits_are_finite_float32_one_row_a_frame_and_carry_no_graph(name, count):
    logits = _build(name, _network())(_frames(count))

    assert logits.shape == (count, CLASSES)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert not logits.requires_grad


@EVERY
def test_the_callers_network_stays_as_it_was(name):
    network = _network()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    gradients = [parameter.requires_grad for parameter in network.parameters()]

    method = _build(name, network)
    for seed in range(2):
        method(_frames(seed=seed))

    assert _changed(before, network.state_dict()) == set()
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == gradients
    assert all(parameter.grad is None for parameter in network.parameters())


@EVERY
def test_what_changes_is_what_it_says_it_trains(name):
    method = _build(name, _network())
    before = _snapshot(method)

    for seed in range(3):
        method(_frames(seed=seed))

    changed = _changed(before, _snapshot(method))
    if method.normalisation == "running":  # statistics follow the stream, and are not learnt
        changed = {key for key in changed if "running_" not in key}
    assert sum(before[key].numel() for key in changed) == method.trainable_parameters
    assert not any(key.startswith("frozen.") for key in changed)


@STILL
def test_what_trains_nothing_answers_the_same_forever(name):
    method = _build(name, _network())
    first = method(_frames())
    method(_frames(seed=4))

    assert method.trainable_parameters == 0
    assert torch.equal(method(_frames()), first)


@LEARNING
def test_what_trains_answers_differently_the_second_time(name):
    method = _build(name, _network())

    assert method.trainable_parameters > 0
    assert not torch.equal(method(_frames()), method(_frames()))


@EVERY
def test_reset_repeats_the_stream_bit_for_bit(name):
    method = _build(name, _network())

    def play() -> list[Tensor]:
        return [method(_frames(seed=seed)) for seed in range(3)]

    first = play()
    before = _snapshot(method)
    method.reset()
    again = play()

    assert all(map(torch.equal, first, again))
    assert _changed(before, _snapshot(method)) == set()


@EVERY
def test_two_of_the_same_seed_agree_and_the_global_random_state_does_not_matter(name):
    def play(seed: int) -> list[Tensor]:
        method = _build(name, _network())
        torch.manual_seed(seed)
        return [method(_frames(seed=s)) for s in range(2)]

    assert all(map(torch.equal, play(0), play(1)))


# Some predict with something else than the network and the statistics of the batch: these are tested below and in
# their own files.
_OTHER = {*_NOT_OF_THE_BATCH, "cotta", "roid", "tent-fine-tuned", "oracle-k4"}
_PLAIN = [name for name in IN_TORCH if name not in _OTHER and "ecotta" not in name]


@pytest.mark.parametrize("name", _PLAIN)
def test_the_first_prediction_is_that_of_batch_statistics_alone(name):
    network = _network()

    torch.testing.assert_close(_build(name, network)(_frames()), _build("bn", network)(_frames()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["source", "rotta"])
def test_what_starts_from_source_statistics_predicts_first_as_the_network_in_evaluation_mode(name):
    network = _network()

    torch.testing.assert_close(_build(name, network)(_frames()), network(_frames()), rtol=0, atol=0)


def test_tent_fine_tuned_predicts_first_as_the_fine_tuned_network():
    assert torch.equal(_build("tent-fine-tuned", _network())(_frames()), _build("bn", _network(seed=2))(_frames()))


def test_cottas_first_prediction_is_the_teachers_before_any_update():
    network = _network()
    sure = _build("cotta", network, confidence=0.0)  # the source counts as sure, so no augmentation

    assert torch.equal(sure(_frames()), _build("bn", network)(_frames()))


@pytest.mark.parametrize("parts", [4, 5])
def test_ecottas_first_prediction_is_that_of_the_warmed_groups_not_adapting(parts):
    network = _network()
    still = Ecotta(network, parts=parts, warmed=_warmed(parts), adapting=False)

    torch.testing.assert_close(_build(f"ecotta-k{parts}", network)(_frames()), still(_frames()), rtol=1e-5, atol=1e-5)


def _with_nan(frames: Tensor) -> Tensor:
    frames[1, 0, 3, 3] = float("nan")
    return frames


_BAD: dict[str, tuple[Callable[[], object], str]] = {
    "NaN": (lambda: _with_nan(_frames()), "NaN or infinity in 1 of 8 frames, first at index 1"),
    "infinity": (lambda: _frames() / 0, "NaN or infinity in 8 of 8"),
    "uint8": (lambda: (_frames() * 255).byte(), "must be float32 in .*, got torch.uint8"),
    "float64": (lambda: _frames().double(), "got torch.float64"),
    "no frame": (lambda: _frames(0), r"at least one frame .* \[0, 3, 32, 32\]"),
    "a frame without its batch axis": (lambda: _frames()[0], r"got shape \[3, 32, 32\]"),
    "channels last in shape": (lambda: _frames().permute(0, 2, 3, 1), "reads 3 channels"),
    "grey": (lambda: _frames()[:, :1], r"reads 3 channels, got shape \[8, 1, 32, 32\]"),
    "numpy": (lambda: _frames().numpy(), "torch tensor, got ndarray"),
}


@EVERY
def test_frames_that_no_method_can_use_are_refused_and_nothing_is_learnt(name, subtests):
    method = _build(name, _network())
    before = _snapshot(method)

    for kind, (make, message) in _BAD.items():
        with subtests.test(kind), pytest.raises(BadFrames, match=message):
            method(make())

    assert _changed(before, _snapshot(method)) == set()


@BATCH_STATISTICS
def test_a_single_frame_is_refused_where_the_batch_gives_the_statistics(name):
    with pytest.raises(BadFrames, match=r"at least 2 frames in a batch, got 1.*`running`"):
        _build(name, _network())(_frames(1))


@ONE_BY_ONE
def test_a_single_frame_is_fine_where_statistics_are_not_those_of_the_batch(name):
    assert _build(name, _network())(_frames(1)).shape == (1, CLASSES)


@pytest.mark.parametrize("name", ["ecotta-k4", "ecotta-k4-warmed"])
@pytest.mark.parametrize("normalisation", ["running", "source"])
def test_ecotta_takes_single_frames_in_the_modes_that_do_not_ask_the_batch(name, normalisation):
    method = _build(name, _network(), step_options=StepOptions(normalisation=normalisation))

    assert method.normalisation == normalisation
    assert method(_frames(1)).shape == (1, CLASSES)


@EVERY
@pytest.mark.parametrize("classes", [1, 0])
def test_a_network_with_nothing_to_choose_from_is_refused(name, classes):
    with pytest.raises(UsageError, match=f"at least 2 classes, got {classes}"):
        build_method(name, _network(), classes=classes)


@EVERY
def test_weights_in_channels_last_give_the_same_first_prediction(name):
    network = _network()
    expected = _build(name, network)(_frames())

    method = _build(name, network.to(memory_format=torch.channels_last))
    logits = method(_frames().to(memory_format=torch.channels_last))

    # Another order of summation in the convolutions.
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


@EVERY
def test_a_caller_without_gradients_gets_the_same_answers(name):
    with_gradients, without = _build(name, _network()), _build(name, _network())
    expected = [with_gradients(_frames(seed=seed)) for seed in range(2)]

    with torch.no_grad():
        logits = [without(_frames(seed=seed)) for seed in range(2)]

    assert all(map(torch.equal, logits, expected))


@EVERY
def test_a_new_corruption_is_heard_without_complaint(name):
    method = _build(name, _network())
    method(_frames())

    method.begin_corruption("fog")

    assert torch.isfinite(method(_frames())).all()


@pytest.mark.parametrize("name", ["ecotta-k4", "ecotta-k5", "ecotta-k4-warmed", "tent-fine-tuned"])
def test_what_needs_preparation_says_so_when_it_is_missing(name):
    with pytest.raises(EcottaError, match=rf"{name} needs"):
        build_method(name, _network(), classes=CLASSES)


@EVERY
def test_only_what_says_that_it_takes_labels_has_a_door_for_them(name):
    method = _build(name, _network())

    assert hasattr(method, "teach") == isinstance(method, LabelledPeer) == ("labels" in METHODS[name].takes)


@EVERY
def test_with_two_views_it_answers_with_the_mean_of_a_frame_and_its_mirror_image_and_learns_as_with_one(name):
    one, two, mirrored = (_build(name, _network()) for _ in range(3))
    two.views = 2
    for seed in range(2):  # the same state before each answer: that is why all three go on
        frames = _frames(4, seed)
        others = mirrored._predict(frames.flip(3)).softmax(1)
        mirrored(frames)
        answer = two(frames)

        torch.testing.assert_close(answer.exp(), (one(frames).softmax(1) + others) / 2, rtol=1e-5, atol=1e-6)
    assert _changed(_snapshot(one), _snapshot(two)) == set()


def test_neither_one_view_nor_two_is_refused():
    with pytest.raises(UsageError, match="views=3: 1 is the frame alone"):
        build_method("source", _network(), classes=CLASSES, views=3)
