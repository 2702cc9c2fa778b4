"""Make `small.ecotta`, the bundle that tests read and damage.

    python tests/hostile/make_small_bundle.py

The file is kept in the repository: a reader that no longer understands it has broken the format of version 5;
`first-version.ecotta` to `fourth-version.ecotta` stand for those before. What it answers can be worked out by hand: the
logits are the means of two colours, scaled and shifted, and what is seen are those means and the colours' variances.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ecotta_rt.bundle import FrameSpec, GraphFacts, StateLayout, WeightEntry, place_weights, write_bundle
from ecotta_rt.bundle.figures import SessionFigures, Tenant
from ecotta_rt.state import AdaptState

__all__ = ["TARGET", "make"]

TARGET = Path(__file__).with_name("small.ecotta")

_BATCH, _SIDE = 2, 4
_FLOAT, _BOOL = TensorProto.FLOAT, TensorProto.BOOL
_DIGEST = "5ea1" * 16
_SESSION = SessionFigures("all", 12, 256, 512, 0, 32, (Tenant("Conv pick.weight, 2x2x4x4", 256),))


def make(path: Path) -> None:
    """Write the bundle to `path`."""
    pick = np.zeros((2, 3, 1, 1), np.float32)  # picks red and green
    pick[0, 0] = pick[1, 1] = 1
    weights = {"pick.weight": pick, "pick.bias": np.array([0.5, 0.25], np.float32)}
    state = AdaptState(
        parameters={"group.scale": np.array([1, 2], np.float32), "group.shift": np.array([0, 0.125], np.float32)},
        momentum={"group.scale": np.zeros(2, np.float32), "group.shift": np.zeros(2, np.float32)},
        statistics={"norm.mean": np.zeros(2, np.float32), "norm.variance": np.ones(2, np.float32)},
        network_digest=_DIGEST,
        metadata={"seed": "0"},
    )
    entries = place_weights({name: array.shape for name, array in weights.items()})
    write_bundle(
        path,
        model="tiny",
        network_digest=_DIGEST,
        classes=("red", "green"),
        parts=1,
        frame=FrameSpec(channels=3, height=_SIDE, width=_SIDE, resize="stretch", crop=0.875),
        normalisation="running",
        options={"lr": 0.001, "sgd_momentum": 0.9, "nesterov": False, "gradient": "exact"},
        layout=StateLayout.of(state),
        graphs={
            "predict-2": (GraphFacts("predict", _BATCH, 0, 96), _predict(entries)),
            "step-2": (
                GraphFacts("step", _BATCH, 32, 128, {"masks": "bool", "recompute": "none"}, (_SESSION,)),
                _step(entries),
            ),
            "observe-2": (GraphFacts("observe", _BATCH, 0, 256), _observe(entries)),
        },
        weights=weights,
        state=state,
        made_with={"ecotta_rt": "0.1.0", "onnx": "1.23.2", "opset": "18"},
        metadata={"origin": "worked out by hand"},
    )


def _predict(weights: tuple[WeightEntry, ...]) -> bytes:
    return _model("predict", _forward(), ["parameters", "statistics"], [_value("logits", [_BATCH, 2])], weights)


def _observe(weights: tuple[WeightEntry, ...]) -> bytes:
    outputs = [_value("logits", [_BATCH, 2]), _value("seen", [_BATCH, 4])]
    return _model("observe", [*_forward(), *_seen()], ["parameters", "statistics"], outputs, weights)


def _step(weights: tuple[WeightEntry, ...]) -> bytes:
    """Answers, and learns in the simplest way there is: parameters move by the momentum."""
    nodes = [
        *_forward(),
        helper.make_node("Sub", ["parameters", "momentum"], ["next_parameters"]),
        helper.make_node("Identity", ["momentum"], ["next_momentum"]),
        *_seen(),
        helper.make_node("ReduceMax", ["logits", "last_axis"], ["best"], keepdims=0),
        helper.make_node("Greater", ["best", "threshold"], ["kept"]),
        helper.make_node("Neg", ["best"], ["entropy_nats"]),  # no entropy, but as little of it as the best is good
        helper.make_node("ReduceL1", ["means"], ["all"], keepdims=0),
        helper.make_node("Reshape", ["all", "last_axis"], ["l1"]),
        helper.make_node("Less", ["threshold", "all"], ["moved"]),
    ]
    outputs = [
        _value("logits", [_BATCH, 2]),
        _value("next_parameters", [4]),
        _value("next_momentum", [4]),
        _value("seen", [_BATCH, 4]),
        _value("kept", [_BATCH], _BOOL),
        _value("entropy_nats", [_BATCH]),
        _value("l1", [1]),
        _value("moved", [], _BOOL),
    ]
    inputs = ["parameters", "momentum", "statistics"]
    return _model("step", nodes, inputs, outputs, weights)


def _forward() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Conv", ["frames", "pick.weight", "pick.bias"], ["picked"]),
        helper.make_node("ReduceMean", ["picked", "plane"], ["means"], keepdims=0),
        helper.make_node("Split", ["parameters"], ["scale", "shift"], num_outputs=2),
        helper.make_node("Mul", ["means", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["logits"]),
    ]


def _seen() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Mul", ["picked", "picked"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "plane"], ["mean_square"], keepdims=0),
        helper.make_node("Mul", ["means", "means"], ["square_mean"]),
        helper.make_node("Sub", ["mean_square", "square_mean"], ["variances"]),
        helper.make_node("Concat", ["means", "variances"], ["seen"], axis=1),
    ]


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    vectors: list[str],
    outputs: list[onnx.ValueInfoProto],
    weights: tuple[WeightEntry, ...],
) -> bytes:
    inputs = [*(_value(vector, [4]) for vector in vectors), _value("frames", [_BATCH, 3, _SIDE, _SIDE])]
    constants = [
        helper.make_tensor("plane", TensorProto.INT64, [2], [2, 3]),
        helper.make_tensor("last_axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("threshold", _FLOAT, [], [1.0]),
    ]
    graph = helper.make_graph(nodes, name, inputs, outputs, [*map(_external, weights), *constants])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString(deterministic=True)


def _external(entry: WeightEntry) -> onnx.TensorProto:
    tensor = TensorProto(name=entry.name, data_type=_FLOAT, dims=entry.shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", entry.offset), ("length", entry.bytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _value(name: str, shape: list[int], element_type: int = _FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type, shape)


if __name__ == "__main__":
    make(TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
