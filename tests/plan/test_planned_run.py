"""A run of a graph on paper, where nested graphs come in."""

from dataclasses import replace

from ecotta_rt.plan.planned_run import simulate

MIB = 1 << 20


def planned(make_graph, inner_name):
    """A graph whose last node runs a nested one, which makes one tensor of 4 MiB for itself."""
    shapes = {"x": (MIB,), inner_name: (MIB,), "inner.out": (1,)}
    branch = make_graph(
        [f"Neg: x -> {inner_name}", f"ReduceSum: {inner_name} -> inner.out"], shapes, (), ("inner.out",)
    )
    outer = make_graph(
        ["Neg: x -> there", "ReduceSum: there -> sum", "If: sum -> out"],
        {"x": (MIB,), "there": (MIB,), "sum": (1,), "out": (1,)},
        outputs=("out",),
    )
    *others, last = outer.nodes
    graph = replace(outer, nodes=(*others, replace(last, graphs=(("then_branch", branch),))))
    return simulate(graph, graph, 1)


def test_a_nested_graph_counts_what_it_makes_under_a_name_of_the_outer_one(make_graph):
    """In each graph onnxruntime numbers the tensors that it adds anew."""
    assert planned(make_graph, "there") == planned(make_graph, "its.own")
    assert planned(make_graph, "there").live_bytes[-1] >= 4 * MIB
