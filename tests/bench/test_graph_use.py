from ecotta_rt.bench.graph_use import ONNX_METHODS, GraphUse, graph_use


def test_only_ecotta_and_the_source_network_run_in_onnxruntime():
    assert ONNX_METHODS == ("source", "ecotta-k4", "ecotta-k5", "ecotta-k4-constant", "ecotta-k4-warmed")


def test_each_method_says_what_it_needs_of_a_bundle():
    assert graph_use("source") == GraphUse("forward")
    assert graph_use("ecotta-k5") == GraphUse("step", 5)
    assert graph_use("ecotta-k4-constant") == GraphUse("step", 4, "constant")
    assert graph_use("ecotta-k4-warmed") == GraphUse("predict", 4)
    assert graph_use("tent") is None
