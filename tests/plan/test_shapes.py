import pytest

from ecotta_rt.plan.shapes import block_channels, shapes_of

NCHWC = "com.microsoft.nchwc"


def inferred(graph, block=16):
    return {name: value.shape for name, value in shapes_of(graph, graph.nodes, block).items()}


def test_reordering_rounds_channels_up_to_whole_blocks(make_graph):
    graph = make_graph([f"{NCHWC}/ReorderInput: x -> a"], {"x": (2, 24, 8, 8)})

    assert inferred(graph)["a"] == (2, 32, 8, 8)
    assert inferred(graph, block=8)["a"] == (2, 24, 8, 8)


def test_reordering_from_channels_last_moves_them_forward(make_graph):
    graph = make_graph([f"{NCHWC}/ReorderInput: x -> a"], {"x": (2, 8, 6, 16)}, attributes={0: {"channels_last": 1}})

    assert inferred(graph)["a"] == (2, 16, 8, 6)


def test_a_blocked_convolution_has_the_filters_of_its_weight(make_graph, subtests):
    for attributes, size in [
        ({}, (6, 6)),
        ({"pads": (1, 1, 1, 1)}, (8, 8)),
        ({"pads": (1, 1, 1, 1), "strides": (2, 2)}, (4, 4)),
        ({"dilations": (2, 2)}, (4, 4)),
        ({"pads": (0, 0, 1, 1), "strides": (2, 2)}, (4, 4)),
    ]:
        with subtests.test(attributes=attributes, size=size):
            graph = make_graph(
                [f"{NCHWC}/Conv: x w -> a"],
                {"x": (2, 16, 8, 8)},
                weights={"w": (32, 16, 3, 3)},
                attributes={0: attributes},
            )

            assert inferred(graph)["a"] == (2, 32, *size)


def test_pooling_keeps_the_channels(make_graph):
    pool = {"kernel_shape": (2, 2), "strides": (2, 2)}
    graph = make_graph(
        [f"{NCHWC}/MaxPool: x -> a", f"{NCHWC}/GlobalAveragePool: a -> b"],
        {"x": (2, 16, 8, 8)},
        attributes={0: pool},
    )

    assert (inferred(graph)["a"], inferred(graph)["b"]) == ((2, 16, 4, 4), (2, 16, 1, 1))


def test_element_by_element_has_the_largest_shape(make_graph):
    graph = make_graph(["Add: c x -> a"], {"x": (2, 16, 8, 8), "c": (16,)}, inputs=("x", "c"))

    assert inferred(graph)["a"] == (2, 16, 8, 8)


def test_a_shape_that_is_said_is_kept(make_graph):
    graph = make_graph(["Expand: x s -> a"], {"x": (1,), "a": (5, 5)})

    assert inferred(graph)["a"] == (5, 5)


def test_what_comes_of_an_unknown_shape_is_unknown(make_graph):
    graph = make_graph([f"{NCHWC}/ReorderInput: q -> a"], {}, inputs=("q",))

    assert inferred(graph)["a"] is None


@pytest.mark.parametrize(("filters", "block"), [((32, 16), 16), ((24, 16), 8)])
def test_the_block_is_what_divides_all_filters(make_graph, filters, block):
    weights = {f"w{index}": (count, 8, 3, 3) for index, count in enumerate(filters)}
    graph = make_graph([f"{NCHWC}/Conv: x {name} -> y{name}" for name in weights], {}, weights=weights)

    assert block_channels(graph) == block


def test_a_plain_graph_has_no_blocks(make_graph):
    assert block_channels(make_graph(["Conv: x w -> a"], {}, weights={"w": (8, 8, 3, 3)})) == 0
