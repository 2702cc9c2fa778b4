"""Partitions of the networks defined here."""

import copy

import pytest
import torch

from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.method.cut.cost import macs
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.prepare.networks.wide_resnet import WideResNet

FRAMES = {"resnet-50": (2, 3, 64, 64)}


def frames_for(model):
    torch.manual_seed(1)
    return torch.rand(FRAMES.get(model, (4, 3, 32, 32)))


def compose(pieces, frames, *, cells=False):
    features = pieces.stem(frames)
    for part in pieces.parts:
        for piece in part.cells if cells else (part.module,):
            features = piece(features)
    return pieces.head(features)


def cells_per_part(pieces):
    return [len(part.cells) for part in pieces.parts]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("model", ["wrn-40-2", "resnet-20", "resnet-56", "resnet-50"])
def test_the_pieces_composed_are_the_network_bit_for_bit(model, training):
    network = build_network(model).train(training)
    twin, frames = copy.deepcopy(network), frames_for(model)[:2, :, ::2, ::2]
    pieces = partition(network, frames)

    for cells in (False, True):
        with torch.no_grad():
            logits, expected = compose(pieces, frames, cells=cells), twin(frames)

        assert torch.equal(logits, expected), "composed of cells" if cells else "composed of parts"
        for (name, moved), expected in zip(network.named_buffers(), twin.buffers(), strict=True):
            assert torch.equal(moved, expected), name


def test_a_small_wide_network_is_cut_like_the_large_ones():
    """WRN-28-10's layout at width 1: the real one takes seconds to build."""
    pieces = partition(WideResNet(28, 1), frames_for("wrn"), parts=5)

    assert cells_per_part(pieces) == [2, 2, 2, 2, 4]


@pytest.mark.parametrize(
    ("model", "parts", "expected"),
    [
        ("wrn-40-2", 4, [3, 3, 6, 6]),
        ("wrn-40-2", 5, [3, 3, 3, 3, 6]),
        ("resnet-50", 4, [3, 3, 5, 5]),
        ("resnet-50", 5, [2, 2, 4, 4, 4]),
    ],
)
def test_the_papers_cuts_are_presets(model, parts, expected):
    assert cells_per_part(partition(build_network(model), frames_for(model), parts)) == expected


@pytest.mark.parametrize(("parts", "expected"), [(1, [9]), (3, [2, 2, 5]), (4, [1, 2, 3, 3]), (9, [1] * 9)])
def test_a_network_without_a_preset_is_cut_by_cost_finer_in_the_shallow_layers(parts, expected):
    assert cells_per_part(partition(build_network("resnet-20"), frames_for("resnet-20"), parts)) == expected


def test_cells_per_part_may_be_given():
    pieces = partition(build_network("resnet-20"), frames_for("resnet-20"), [1, 6, 2])

    assert cells_per_part(pieces) == [1, 6, 2]
    assert pieces.parts[0].cell_names == ("layer1.0",)


def test_a_part_knows_its_shapes_and_its_stride():
    pieces = partition(build_network("wrn-40-2"), frames_for("wrn-40-2"))

    assert [part.name for part in pieces.parts] == ["part1", "part2", "part3", "part4"]
    assert [part.stride for part in pieces.parts] == [1, 1, 2, 2]
    assert [part.in_shape for part in pieces.parts] == [(16, 32, 32), (32, 32, 32), (32, 32, 32), (64, 16, 16)]
    assert [(part.in_channels, part.out_channels) for part in pieces.parts] == [(16, 32), (32, 32), (32, 64), (64, 128)]
    assert pieces.parts[-1].out_shape == (128, 8, 8)


def test_a_stride_counts_for_frames_of_odd_size():
    pieces = partition(build_network("resnet-20"), torch.rand(1, 3, 33, 35))

    assert [part.stride for part in pieces.parts] == [1, 1, 2, 2]
    assert pieces.parts[-1].out_shape == (64, 9, 9)


def test_multiply_accumulates_are_those_counted_by_hand():
    pieces = partition(build_network("resnet-20"), frames_for("resnet-20"), [1] * 9)
    same, first_of_stage = 2 * 16 * 16 * 9 * 32 * 32, (16 + 32) * 32 * 9 * 16 * 16

    assert [part.macs for part in pieces.parts][:4] == [same, same, same, first_of_stage]
    assert macs(pieces.head.graph.nodes, pieces.head) == 64 * 10
    assert macs(pieces.stem.graph.nodes, pieces.stem) == 3 * 16 * 9 * 32 * 32


def test_pieces_share_the_networks_weights():
    network = build_network("resnet-20")
    pieces = partition(network, frames_for("resnet-20"))

    inside = {
        id(p)
        for piece in (pieces.stem, *(part.module for part in pieces.parts), pieces.head)
        for p in piece.parameters()
    }

    assert inside == {id(parameter) for parameter in network.parameters()}
    assert pieces.stem.get_submodule("normalise") is network.normalise


def test_cutting_leaves_statistics_and_mode_alone():
    network = build_network("resnet-20").train()
    before = copy.deepcopy(network.state_dict())

    partition(network, frames_for("resnet-20"))

    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_stem_of_a_post_activation_network_ends_after_its_activation():
    pieces = partition(build_network("resnet-50"), frames_for("resnet-50"))

    assert [str(node.target) for node in pieces.stem.graph.nodes][1:-1] == [
        "normalise",
        "conv1",
        "bn1",
        "relu",
        "maxpool",
    ]


def test_the_head_of_a_pre_activation_network_begins_with_its_norm():
    pieces = partition(build_network("wrn-40-2"), frames_for("wrn-40-2"))

    assert [node.name for node in pieces.stem.graph.nodes] == ["frames", "normalise", "conv1", "output"]
    assert next(node.target for node in pieces.head.graph.nodes if node.op == "call_module") == "bn1"


def test_gradients_reach_the_input_of_a_part():
    part = partition(build_network("resnet-20").eval(), frames_for("resnet-20")).parts[2]
    features = torch.rand(1, *part.in_shape, requires_grad=True)

    part.module(features).sum().backward()

    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_parts_that_cannot_be_meant_are_refused(subtests):
    for parts in [0, -1, [], [0, 9], [4.5, 4.5]]:
        with subtests.test(parts=parts), pytest.raises(UsageError, match="parts="):
            partition(build_network("resnet-20"), frames_for("resnet-20"), parts)


def test_more_parts_than_cells_are_refused_with_the_list_of_cells():
    said = (
        r"10 parts asked for, but CifarResNet has 9 cells: layer1\.0, .* and 1 more\. .* network\.blocks lists no more"
    )
    with pytest.raises(NetworkError, match=said):
        partition(build_network("resnet-20"), frames_for("resnet-20"), 10)


def test_cell_counts_that_do_not_add_up_are_refused():
    with pytest.raises(NetworkError, match="parts of 3-3-4 cells need 10, but CifarResNet has 9 cells"):
        partition(build_network("resnet-20"), frames_for("resnet-20"), [3, 3, 4])


@pytest.mark.parametrize(
    "frames", [torch.rand(3, 32, 32), torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.rand(0, 3, 32, 32), "frames"]
)
def test_example_frames_that_are_no_batch_are_refused(frames):
    with pytest.raises(UsageError, match=r"must be a float tensor \[N, C, H, W\]"):
        partition(build_network("resnet-20"), frames)


def test_frames_the_network_cannot_take_name_the_node():
    with pytest.raises(NetworkError, match=r"node 'normalise' \(normalise\) cannot run on example frames: The size"):
        partition(build_network("resnet-20"), torch.rand(2, 4, 32, 32))


def test_a_listed_block_that_is_never_called_is_named():
    network = build_network("resnet-20")
    network.blocks = (*network.blocks, "linear.missing")

    with pytest.raises(NetworkError, match=r"block 'linear\.missing' of network\.blocks is never called"):
        partition(network, frames_for("resnet-20"))


def test_a_listed_block_that_is_no_block_is_named():
    network = build_network("resnet-20")
    network.blocks = ("layer1.0", "layer1.1.conv2", "layer1.2")

    with pytest.raises(
        NetworkError, match=r"cannot cut after layer1\.0: needed later are .*layer1_0_relu2.*layer1_1_relu1"
    ):
        partition(network, frames_for("resnet-20"))
