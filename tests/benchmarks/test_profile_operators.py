"""`benchmarks/profile_operators.py`: which operators count as what."""

import pytest

pytest.importorskip("torch")

import profile_operators


def test_an_operator_counts_as_what_it_is(subtests):
    for engine, operator, group in [
        ("onnx", "FusedConv", "convolutions"),
        ("onnx", "ConvTranspose", "convolutions"),
        ("onnx", "FusedMatMul", "matrix products"),
        ("onnx", "ReorderOutput", "layouts"),
        ("onnx", "Where", "ReLUs and masks"),
        ("onnx", "Slice", "rest"),
        ("torch", "aten::mkldnn_convolution", "convolutions"),
        ("torch", "autograd::engine::evaluate_function: ConvolutionBackward0", "convolutions"),
        ("torch", "aten::native_batch_norm_backward", "norms and sums"),
        ("torch", "aten::threshold_backward", "ReLUs and masks"),
        ("torch", "aten::addmm", "matrix products"),
        ("torch", "aten::add_", "rest"),
    ]:
        with subtests.test(engine=engine, operator=operator):
            assert group in profile_operators.GROUPS
            assert profile_operators.group_of(engine, operator) == group
