"""Leave the backward pass out where nothing passed the gate.

Requires: a step of one frame with the outputs `kept`, `moved`, `next_parameters`, `next_momentum`.
Ensures: the nodes that only those last three need stand in the branch of an If on `kept`; the other branch hands
parameters and momentum on and says that nothing moved. All other outputs are as before.

An empty gate is a zero step by definition, so the results are the same; a frame that the network is unsure of costs
little more than its forward pass. For larger batches the gate is hardly ever empty.

It costs some memory, 2 MiB for WRN-40-2: what the branch reads, onnxruntime keeps until the branch has ended. So masks
are made outside, where they are a quarter of what they are made from (for frames that do not pass, too: 0.2 ms). And
constants that only the branch reads belong
to it, since onnxruntime lays out weights anew for its fastest kernels only in the graph that they belong to.

Run it last, behind the accounting: a nested graph hides its tensors from `live_bytes`.
"""

import numpy as np
import onnx_ir as ir

from ecotta_rt.exporter.rewriter import Rewriter

__all__ = ["skip_backward"]

_LEARNED = {"moved": None, "next_parameters": "parameters", "next_momentum": "momentum"}


def skip_backward(model: ir.Model) -> None:
    """Rewrite `model` in place."""
    graph = model.graph
    outputs = {str(value.name): value for value in graph.outputs}
    inputs = {str(value.name): value for value in graph.inputs}
    forward = _ancestors([value for name, value in outputs.items() if name not in _LEARNED])
    forward |= _masks(graph, forward)
    backward = [node for node in graph if node not in forward]
    learned = [outputs[name] for name in _LEARNED]
    if any(value.producer() not in set(backward) for value in learned):
        return  # something that only hands its input on: nothing to skip
    rewriter = Rewriter(graph)  # before the nodes move: it must know their names
    no, scalar = rewriter.constant(False, np.bool_), rewriter.constant(np.zeros(0, np.int64))
    graph.remove(backward)
    for value in learned:
        graph.outputs.remove(value)
    results = [ir.Value(name=value.name, type=value.type, shape=value.shape) for value in learned]
    for value in learned:
        value.name = f"{value.name}.then"
    kept = [no if source is None else inputs[source] for source in _LEARNED.values()]
    same = [ir.Value(name=f"{result.name}.else", type=result.type, shape=result.shape) for result in results]
    hand_on = [ir.node("Identity", [source], outputs=[value]) for source, value in zip(kept, same, strict=True)]
    then_branch = ir.Graph([], learned, nodes=backward, name="learn")
    else_branch = ir.Graph([], same, nodes=hand_on, name="leave")
    condition = ir.Value(name="kept.any")
    graph.append(ir.node("Reshape", [outputs["kept"], scalar], outputs=[condition]))
    graph.append(
        ir.node(
            "If", [condition], {"then_branch": then_branch, "else_branch": else_branch}, outputs=results, name="gate"
        )
    )
    graph.outputs.extend(results)
    by_name = {str(value.name): value for value in graph.outputs}
    graph.outputs[:] = [by_name[name] for name in outputs]
    _hand_over_constants(graph, then_branch)


def _masks(graph: ir.Graph, forward: set[ir.Node]) -> set[ir.Node]:
    """Comparisons of what the forward pass has made: a mask waits for the branch in a quarter of the bytes."""
    there = {None, *forward}
    compared = (node for node in graph if node.op_type == "Greater")
    return {node for node in compared if all(v is None or v.producer() in there for v in node.inputs)}


def _hand_over_constants(graph: ir.Graph, branch: ir.Graph) -> None:
    """Let `branch` have the constants that it alone reads."""
    for name, value in list(graph.initializers.items()):
        if value not in graph.outputs and all(reader.graph is branch for reader in value.consumers()):
            del graph.initializers[name]
            branch.register_initializer(value)


def _ancestors(values: list[ir.Value]) -> set[ir.Node]:
    found: set[ir.Node] = set()
    waiting = [value.producer() for value in values]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [value.producer() for value in node.inputs if value is not None]
    return found
