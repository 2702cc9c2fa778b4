"""Small graphs made by hand."""

import pytest

from ecotta_rt.files.onnx_graph import Graph, Initializer, Node, Value


@pytest.fixture
def make_graph():
    """From lines `op: inputs -> outputs` and shapes of float32 values to a `Graph`."""

    def make(lines, shapes, inputs=("x",), outputs=(), weights=None, attributes=None):
        nodes = []
        for index, line in enumerate(lines):
            op, _, rest = line.partition(": ")
            domain, _, op = op.rpartition("/")
            taken, _, made = rest.partition(" -> ")
            nodes.append(
                Node(
                    op,
                    domain,
                    f"n{index}",
                    tuple(taken.split()),
                    tuple(made.split()),
                    (attributes or {}).get(index, {}),
                )
            )
        values = {name: Value(name, "float32", shape) for name, shape in shapes.items()}
        initializers = {
            name: Initializer(Value(name, "float32", shape), False) for name, shape in (weights or {}).items()
        }
        return Graph(tuple(nodes), tuple(inputs), tuple(outputs), initializers, values)

    return make
