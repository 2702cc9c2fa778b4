import pytest

from ecotta_rt.plan.shapes import said_tensors
from ecotta_rt.plan.workspace import workspace_bytes


def own(graph, threads=1):
    values = said_tensors(graph)
    return workspace_bytes(graph.nodes[0], values, threads)


def test_a_choice_writes_both_sides_out_first(make_graph):
    assert own(make_graph(["Where: m x z -> y"], {"y": (2, 8)})) == (64, 64)


def test_a_convolution_with_more_filters_than_places_has_all_columns_of_a_frame(make_graph):
    """128 filters for 64 places: 128 channels x 9 taps x 64 places x 4 bytes."""
    shapes, weights = {"x": (64, 128, 8, 8), "y": (64, 128, 8, 8)}, {"w": (128, 128, 3, 3)}
    graph = make_graph(["Conv: x w -> y"], shapes, weights=weights, attributes={0: {"pads": (1, 1, 1, 1)}})

    assert own(graph) == (294912,)


@pytest.mark.parametrize("threads", [1, 2])
def test_another_has_a_segment_a_thread(make_graph, threads):
    shapes, weights = {"x": (64, 32, 32, 32), "y": (64, 32, 32, 32)}, {"w": (32, 32, 3, 3)}
    graph = make_graph(["Conv: x w -> y"], shapes, weights=weights, attributes={0: {"pads": (1, 1, 1, 1)}})

    assert own(graph, threads) == (65536 * threads,)


def test_a_convolution_that_is_a_product_needs_nothing(make_graph):
    graph = make_graph(["Conv: x w -> y"], {"x": (1, 8, 4, 4), "y": (1, 8, 4, 4)}, weights={"w": (8, 8, 1, 1)})

    assert own(graph) == ()


def test_a_blocked_convolution_needs_nothing(make_graph):
    shapes, weights = {"x": (1, 128, 8, 8), "y": (1, 128, 8, 8)}, {"w": (128, 128, 3, 3)}

    assert own(make_graph(["com.microsoft.nchwc/Conv: x w -> y"], shapes, weights=weights)) == ()


def test_a_transposed_convolution_has_its_columns(make_graph):
    """64 x 3 x 3 columns of 8 x 8 places, 4 bytes each."""
    graph = make_graph(
        ["ConvTranspose: x w -> y"], {"x": (2, 128, 8, 8), "y": (2, 64, 16, 16)}, weights={"w": (128, 64, 3, 3)}
    )

    assert own(graph) == (4 * 64 * 9 * 64,)


def test_a_sum_needs_nothing(make_graph):
    assert own(make_graph(["Add: x x -> y"], {"y": (2, 8)})) == ()
