"""Networks of others: found, described, opened, tried; every one that cannot be used is named."""

import os

import pytest
import torch
from torch import nn

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import ConfigurationError, InputFileError, NetworkError, UsageError
from ecotta_rt.prepare.checkpoint import save_network
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.student.feature_tap import FeatureTap
from ecotta_rt.student.source_networks import find_source_networks, largest_frame, open_source_networks

FRAME = FrameSpec(3, 32, 32)
FACTORY = """
from torch import nn
def make():
    return nn.Sequential(nn.Conv2d({channels}, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
"""


def save_ours(path, classes=4, seed=0):
    torch.manual_seed(seed)
    network = build_network("resnet-8", classes=classes).eval()
    save_network(network, path, model="resnet-8")
    return network


def write_zoo(folder, table, channels=3):
    (folder / "zoo.py").write_text(FACTORY.format(channels=channels))
    (folder / "zoo.toml").write_text(table)
    return folder / "zoo.toml"


def test_a_folder_gives_the_files_of_ours_in_natural_order(tmp_path):
    for name in ("net-10", "net-9", ".hidden"):
        save_ours(tmp_path / f"{name}.safetensors")
    (tmp_path / "notes.txt").write_text("none of ours")

    networks, left = open_source_networks(find_source_networks([tmp_path]), FRAME)
    assert [one.name for one in networks] == ["net-9", "net-10"]
    assert left == ()
    assert {one.classes for one in networks} == {4}
    assert largest_frame(networks).size == (32, 32)
    assert not any(p.requires_grad for one in networks for p in one.tap.network.parameters())


def test_a_network_answers_with_its_own_softmax(tmp_path):
    network = save_ours(tmp_path / "net.safetensors")
    (opened,), _ = open_source_networks(find_source_networks([tmp_path / "net.safetensors"]), FRAME)
    frames = torch.rand(5, 3, 32, 32)

    with torch.no_grad():
        expected = network(frames).softmax(1)
    assert torch.allclose(opened.answers(frames), expected, atol=2e-3)  # the file holds fp16


def test_a_checkpoint_of_others_is_described_in_a_file(tmp_path):
    torch.manual_seed(3)
    theirs = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "birds.pth")
    table = '[birds]\nnetwork = "zoo.py:make"\ncheckpoint = "birds.pth"\nmean = [0.5]\nstd = [0.25]\nsize = 16\n'

    (birds,), _ = open_source_networks(find_source_networks([write_zoo(tmp_path, table)]), FRAME)
    frames = torch.rand(4, 3, 32, 32)
    small = nn.functional.interpolate(frames, (16, 16), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        expected = theirs((small - 0.5) / 0.25).softmax(1)
    assert birds.name == "birds"
    assert birds.made_for == (16, 16)
    assert torch.allclose(birds.answers(frames), expected, atol=1e-5)


@pytest.mark.parametrize(("channels", "frame"), [(1, FRAME), (3, FrameSpec(1, 32, 32))])
def test_grey_and_colour_are_made_of_each_other(tmp_path, channels, frame):
    path = write_zoo(tmp_path, '[grey]\nnetwork = "zoo.py:make"\n', channels)
    (network,), _ = open_source_networks(find_source_networks([path]), frame)

    assert network.answers(torch.rand(2, frame.channels, 32, 32)).shape == (2, 3)


def test_a_file_in_a_folder_does_not_make_its_code_run(tmp_path):
    """A folder from a stranger: only what the user names may name code."""
    save_ours(tmp_path / "net.safetensors")
    (tmp_path / "zoo.py").write_text("raise SystemExit('run')")
    (tmp_path / "zoo.toml").write_text('[trap]\nnetwork = "zoo.py:make"\n')

    networks, _ = open_source_networks(find_source_networks([tmp_path]), FRAME)
    assert [one.name for one in networks] == ["net"]


class Evil:
    def __reduce__(self):
        return (os.system, ("touch evil",))


def spoil(tmp_path):
    save_ours(tmp_path / "good.safetensors")
    whole = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bomb.safetensors").write_bytes(b"\xff" * 8 + b"{")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    torch.save(Evil(), tmp_path / "evil.pt")
    return {"torn", "bomb", "empty", "evil"}


def test_all_that_cannot_be_used_are_named_at_once(tmp_path):
    bad = spoil(tmp_path)

    with pytest.raises(InputFileError, match=f"{len(bad)} of {len(bad) + 1}") as caught:
        open_source_networks(find_source_networks([tmp_path]), FRAME)
    assert all(f"\n  {name}: " in str(caught.value) for name in bad)
    assert "TOML" in str(caught.value)


def test_they_are_left_out_where_that_is_asked(tmp_path):
    bad = spoil(tmp_path)
    networks, left = open_source_networks(find_source_networks([tmp_path]), FRAME, leave_out=True)

    assert [one.name for one in networks] == ["good"]
    assert {one.name for one in left} == bad
    assert not (tmp_path / "evil").exists() and not os.path.exists("evil")


def test_a_described_checkpoint_with_code_in_it_is_refused(tmp_path):
    torch.save(Evil(), tmp_path / "evil.pt")
    path = write_zoo(tmp_path, '[evil]\nnetwork = "zoo.py:make"\ncheckpoint = "evil.pt"\n')

    with pytest.raises(InputFileError, match=r"evil.*would run code"):
        open_source_networks(find_source_networks([path]), FRAME)
    assert not os.path.exists("evil")


def test_nothing_is_left_of_a_folder_that_is_all_bad(tmp_path):
    (tmp_path / "torn.safetensors").write_bytes(b"torn")

    with pytest.raises(InputFileError, match="1 of 1"):
        open_source_networks(find_source_networks([tmp_path]), FRAME, leave_out=True)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("", "no table"),
        ("[a]\nnetwork = 3\n", "expected a text"),
        ('[a]\nnetwork = "resnet-8"\nweights = "a.pt"\n', "weights"),
        ('[a]\nnetwork = "resnet-8"\nsize = 0\n', "size"),
        ("a = 1\n", "expected a table"),
        ('[a]\ncheckpoint = "a.pt"\n', "network"),
        ("[a\n", "not TOML"),
    ],
)
def test_a_description_with_a_mistake_says_where(tmp_path, table, why):
    with pytest.raises((InputFileError, ConfigurationError), match=why):
        find_source_networks([write_zoo(tmp_path, table)])


def test_a_place_that_is_not_there_or_has_nothing(tmp_path):
    with pytest.raises(InputFileError, match="no such folder"):
        find_source_networks([tmp_path / "nowhere"])
    with pytest.raises(InputFileError, match="no network file in it"):
        find_source_networks([tmp_path])


def test_two_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_ours(tmp_path / folder / "net.safetensors")

    with pytest.raises(UsageError, match="'net'"):
        find_source_networks([tmp_path / "a", tmp_path / "b"])


def test_a_network_that_says_no_size_needs_one(tmp_path):
    path = write_zoo(tmp_path, '[any]\nnetwork = "zoo.py:make"\n')

    with pytest.raises(InputFileError, match="give a size"):
        open_source_networks(find_source_networks([path]))
    assert open_source_networks(find_source_networks([path]), FRAME)[0][0].made_for is None


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2)), "cannot run on frames 3x8x8"),
        (nn.Flatten(), "no classifier"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "not logits"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), "not logits"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.Softmax(1)), "probabilities"),
    ],
)
def test_a_network_without_features_or_logits_is_refused(network, why):
    with pytest.raises(NetworkError, match=why):
        FeatureTap(network, (3, 8, 8))


def test_a_network_that_gives_nan_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    nn.init.constant_(network[1].weight, float("nan"))

    with pytest.raises(NetworkError, match="NaN"):
        FeatureTap(network, (3, 8, 8))


def test_a_tap_sees_what_the_classifier_reads_and_leaves_the_network_alone():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.Dropout(0.5), nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network.train()
    tap = FeatureTap(network, (3, 8, 8))
    network.eval()
    frames = torch.rand(2, 3, 8, 8, requires_grad=True)
    found = tap(frames)

    assert (tap.width, tap.classes) == (5, 4)
    assert torch.allclose(found.features, network[0](frames).mean((2, 3)))
    found.features.sum().backward()
    assert frames.grad.abs().sum() > 0
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())


def test_trying_a_network_in_training_mode_leaves_its_statistics_and_the_generator_alone():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 3)
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(0)
    drawn = torch.get_rng_state()

    FeatureTap(network, (3, 8, 8), trains=True)

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn) and network.training


class OnTokens(nn.Module):
    """Its classifier answers for each of 16 places, `[N, 16, D]`, and the answers are averaged."""

    def __init__(self):
        super().__init__()
        self.patches, self.classifier = nn.Conv2d(3, 5, 2, stride=2), nn.Linear(5, 3)

    def tokens(self, frames):
        return self.patches(frames).flatten(2).transpose(1, 2)

    def forward(self, frames):
        return self.classifier(self.tokens(frames)).mean(1)


def test_features_of_a_classifier_on_tokens_are_their_mean_over_places():
    torch.manual_seed(0)
    network = OnTokens().eval()
    frames = torch.rand(2, 3, 8, 8)

    tap = FeatureTap(network, (3, 8, 8))

    assert tap.width == 5
    assert torch.allclose(tap(frames).features, network.tokens(frames).mean(1))


def test_trying_a_network_leaves_each_module_in_its_mode():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(4, 3))

    FeatureTap(network, (3, 8, 8), trains=True)

    assert network.training and not network[1].training
