"""EfficientNet-Lite0: the published layout, and the public weights where they are installed."""

import pytest
import torch
import torch.nn.functional as F

from ecotta_rt.method.cut.partition import partition
from ecotta_rt.prepare.checkpoint import load_checkpoint, load_network, save_network
from ecotta_rt.prepare.networks import build_network


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("efficientnet-lite0").eval()


def test_it_has_the_published_size_and_layout(network):
    """4.65 million parameters; 32, 16, 24, 40, 80, 112, 192, 320 and 1280 channels."""
    widths = [network.get_submodule(block)._project_conv.out_channels for block in network.blocks]

    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    assert widths == [16, *[24] * 2, *[40] * 2, *[80] * 3, *[112] * 3, *[192] * 4, 320]
    assert (network._conv_stem.out_channels, network._conv_head.out_channels) == (32, 1280)


def test_its_keys_are_those_of_the_public_checkpoint(network):
    keys = network.state_dict().keys()

    assert {"_conv_stem.weight", "_bn0.running_var", "_blocks.0._depthwise_conv.weight", "_fc.bias"} <= keys
    assert {"_blocks.15._expand_conv.weight", "_blocks.15._bn2.bias", "_conv_head.weight", "_bn1.weight"} <= keys
    assert "_blocks.0._expand_conv.weight" not in keys
    assert len([key for key in keys if not key.endswith("num_batches_tracked")]) == 247


@pytest.mark.parametrize(("kernel", "near", "far"), [(3, 0, 1), (5, 1, 2)])
def test_a_stride_of_two_pads_less_at_the_near_edges(network, kernel, near, far):
    """As TensorFlow's SAME; padding alike on both sides would shift what every later layer sees."""
    pads = [
        network.get_submodule(block).pad.padding
        for block in network.blocks
        if network.get_submodule(block)._depthwise_conv.stride == (2, 2)
        and network.get_submodule(block)._depthwise_conv.kernel_size == (kernel, kernel)
    ]

    assert pads and set(pads) == {(near, far, near, far)}


def test_the_pieces_composed_are_the_network_bit_for_bit(network):
    frames = torch.rand(2, 3, 64, 64)
    pieces = partition(network, frames)

    with torch.no_grad():
        features = pieces.stem(frames)
        for part in pieces.parts:
            features = part.module(features)

        assert torch.equal(pieces.head(features), network(frames))


def test_it_survives_a_file_of_ours(network, tmp_path):
    path = tmp_path / "network.safetensors"
    save_network(network, path, model="efficientnet-lite0")

    loaded = load_network(path)

    assert torch.equal(loaded._bn0.weight, network._bn0.weight)
    assert torch.equal(loaded._fc.weight, network._fc.weight.half().float())


def test_the_public_weights_load_and_know_a_uniform(efficientnet_lite0_weights):
    """A photograph that ships with matplotlib: Rear Admiral Hopper, in a uniform with a cap, before a flag."""
    image = pytest.importorskip("PIL.Image")
    cbook = pytest.importorskip("matplotlib.cbook")
    with image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as photograph:
        pixels = torch.tensor(list(photograph.convert("RGB").resize((256, 300)).tobytes()), dtype=torch.uint8)
    frames = F.interpolate(
        pixels.view(1, 300, 256, 3).permute(0, 3, 1, 2)[:, :, 22:278].float() / 255,
        size=224,
        antialias=True,
        mode="bilinear",
    )
    network = build_network("efficientnet-lite0").eval()
    load_checkpoint(network, efficientnet_lite0_weights)

    with torch.no_grad():
        best = network(frames)[0].topk(3).indices.tolist()

    assert 652 in best  # military uniform; the others are a mortarboard and a suit
