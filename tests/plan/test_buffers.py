import pytest

from ecotta_rt.plan.buffers import plan_buffers
from ecotta_rt.plan.shapes import said_tensors

MIB = (256, 1024)  # float32: 1 MiB


def plan(graph, outside=("x",)):
    values = said_tensors(graph)
    return plan_buffers(graph.nodes, values, frozenset([*outside, *graph.outputs]))


def homes(graph, **how):
    """Names of the tenants of each buffer."""
    return [[name for _, name, _ in buffer.tenants] for buffer in plan(graph, **how)]


def test_an_operator_that_works_in_place_takes_over_its_inputs_buffer(make_graph):
    graph = make_graph(
        ["Add: x x -> a", "Relu: a -> b", "Add: b b -> y"], {"a": MIB, "b": MIB, "y": MIB}, outputs=("y",)
    )

    assert homes(graph) == [["a", "b"]]


def test_it_does_not_where_somebody_else_needs_the_input(make_graph):
    graph = make_graph(
        ["Add: x x -> a", "Relu: a -> b", "Add: a b -> y"], {"a": MIB, "b": MIB, "y": MIB}, outputs=("y",)
    )

    assert homes(graph) == [["a"], ["b"]]


def test_sums_and_products_are_not_done_in_place(make_graph):
    """The kernels for them do not offer it."""
    graph = make_graph(
        ["Add: x x -> a", "Mul: a x -> b", "Add: b b -> y"], {"a": MIB, "b": MIB, "y": MIB}, outputs=("y",)
    )

    assert homes(graph) == [["a"], ["b"]]


def test_another_shape_of_the_same_numbers_needs_no_buffer(make_graph):
    graph = make_graph(
        ["Add: x x -> a", "Reshape: a s -> b", "Neg: b -> c", "Add: a c -> y"],
        {"a": MIB, "b": (1024, 256), "c": (1024, 256), "y": MIB},
        outputs=("y",),
    )

    assert homes(graph) == [["a", "b"], ["c"]]


def test_a_dead_tensors_buffer_goes_to_the_next_of_its_shape(make_graph):
    graph = make_graph(
        ["Add: x x -> a", "Exp: a -> b", "Exp: b -> c", "Exp: c -> y"], dict.fromkeys("abcy", MIB), outputs=("y",)
    )

    first, second = plan(graph)

    assert [name for _, name, _ in first.tenants] == ["a", "c"]
    assert (first.born, first.died) == (0, 3)
    assert (second.born, second.died) == (1, 2)


def test_a_buffer_that_waits_for_its_next_tenant_is_not_given_back(make_graph):
    """Alive from node 0 to node 4, though nobody lives in it at node 2."""
    graph = make_graph(
        ["Add: x x -> a", "Flat: a -> b", "Flat: b -> c", "Wide: c -> d", "Add: d d -> y"],
        {"a": MIB, "b": (2,), "c": (3,), "d": MIB, "y": MIB},
        outputs=("y",),
    )

    (wide, *_) = plan(graph)

    assert [name for _, name, _ in wide.tenants] == ["a", "d"]
    assert (wide.born, wide.died) == (0, 4)


def test_the_last_to_die_is_reused_first(make_graph):
    graph = make_graph(
        ["Exp: x -> a", "Exp: x -> b", "Flat: a -> c", "Flat: b -> d", "Exp: x -> e", "Add: e c -> y"],
        {"a": MIB, "b": MIB, "c": (2,), "d": (3,), "e": MIB, "y": (2,)},
        outputs=("y",),
    )

    assert ["b", "e"] in homes(graph)


@pytest.mark.parametrize(("shape", "shared"), [((256, 1024), True), ((1024, 256), False), ((), False), (None, False)])
def test_only_the_same_known_shape_shares(make_graph, shape, shared):
    graph = make_graph(
        ["Exp: x -> a", "Flat: a -> b", "Exp: x -> c", "Add: c b -> y"],
        {"a": MIB if shape else shape, "b": (2,), "c": shape, "y": (2,)},
        outputs=("y",),
    )

    assert (["a", "c"] in homes(graph)) is shared


def test_inputs_weights_and_bound_outputs_are_nobodys_buffers(make_graph):
    graph = make_graph(["Add: x w -> a", "Relu: a -> y"], {"a": MIB, "y": MIB}, outputs=("y",), weights={"w": MIB})

    assert homes(graph, outside=("x", "w")) == [["a"]]


def test_what_nobody_takes_dies_where_it_was_born(make_graph):
    graph = make_graph(["Split: x -> a b", "Exp: b -> y"], {"a": MIB, "b": MIB, "y": MIB}, outputs=("y",))

    assert [(buffer.born, buffer.died) for buffer in plan(graph)] == [(0, 0), (0, 1)]


def test_a_norm_in_training_mode_writes_its_moments_over_those_it_was_given(make_graph):
    graph = make_graph(
        ["Split: s -> mean var", "BatchNormalization: x g b mean var -> h m2 v2", "Use: h m2 v2 -> y"],
        {"mean": (8,), "var": (8,), "h": MIB, "m2": (8,), "v2": (8,), "y": (8,)},
        inputs=("x", "s"),
        outputs=("y",),
    )

    assert homes(graph, outside=("x", "s", "g", "b")) == [["mean", "m2"], ["var", "v2"], ["h"]]
