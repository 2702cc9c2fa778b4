"""The networks defined here: sizes, names and preprocessing of the checkpoints people have."""

import pytest
import torch

from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.networks import MODELS, build_network


def test_a_network_has_the_published_size(subtests):
    for model, parameters, blocks in [
        # WRN: the paper's 2.2 and 36.5 million; ResNet: table 6 and torchvision's documented 25,557,032.
        ("wrn-40-2", 2_243_546, 18),
        ("wrn-28-10", 36_479_194, 12),
        ("resnet-20", 269_722, 9),
        ("resnet-32", 464_154, 15),
        ("resnet-44", 658_586, 21),
        ("resnet-56", 853_018, 27),
        ("resnet-50", 25_557_032, 16),
    ]:
        with subtests.test(model=model):
            network = build_network(model)

            assert sum(parameter.numel() for parameter in network.parameters()) == parameters
            assert len(network.blocks) == blocks


@pytest.mark.parametrize("model", ["wrn-40-2", "resnet-20", "resnet-50"])
def test_every_listed_block_is_a_module(model):
    network = build_network(model)

    assert all(isinstance(network.get_submodule(block), torch.nn.Module) for block in network.blocks)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("wrn-40-2", {"block1.layer.0.convShortcut.weight", "block3.layer.5.bn2.running_var", "bn1.weight", "fc.bias"}),
        ("resnet-20", {"conv1.weight", "layer2.0.conv1.weight", "layer3.2.bn2.running_mean", "linear.weight"}),
        ("resnet-50", {"bn1.bias", "layer1.0.downsample.0.weight", "layer4.2.conv3.weight", "fc.weight"}),
    ],
)
def test_parameters_have_the_names_of_public_checkpoints(model, names):
    keys = build_network(model).state_dict().keys()

    assert names <= keys
    assert not any(key.startswith("normalise") for key in keys)


def test_parameter_free_shortcuts_have_no_parameters():
    keys = build_network("resnet-20").state_dict().keys()

    assert not any("shortcut" in key or "downsample" in key for key in keys)


def test_frames_are_normalised_inside():
    torch.manual_seed(0)
    network = build_network("resnet-20", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).eval()
    plain = build_network("resnet-20", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
    plain.load_state_dict(network.state_dict())
    frames = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in [(0.1, 0.2, 0.3), (0.5, 0.6, 0.7)])

    assert torch.equal(network(frames), plain((frames - mean) / std))


def test_logits_have_one_column_a_class():
    assert build_network("resnet-20", classes=7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert build_network("resnet-50").fc.out_features == 1000


def test_no_activation_works_in_place():
    """A meta group still needs the value that an in-place activation would overwrite."""
    for model in ("wrn-40-2", "resnet-20", "resnet-50"):
        assert not any(getattr(module, "inplace", False) for module in build_network(model).modules())


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"'resnet-19'; known models: wrn-40-2, .*resnet-50"):
        build_network("resnet-19")


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(UsageError, match="classes=1"):
        build_network("wrn-40-2", classes=1)


@pytest.mark.parametrize(
    ("name", "values"), [("mean", (0.5, 0.5)), ("std", (0.5, 0.0, 0.5)), ("mean", (float("nan"), 0.0, 0.0))]
)
def test_a_preprocessing_that_cannot_be_meant_is_refused(name, values):
    with pytest.raises(UsageError, match=f"{name}=.*three finite numbers"):
        build_network("resnet-20", **{name: values})


def test_the_list_of_models_cannot_be_changed():
    with pytest.raises(TypeError):
        MODELS["mine"] = None
