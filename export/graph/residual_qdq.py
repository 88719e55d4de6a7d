"""Residual sums of int8 layers: which of their branches are rounded, and rounding that a branch lacks.

NVIDIA's guide («Working with Quantized Types», «Q/DQ Layer-Placement Recommendations», figures 6, 7 and 9): TensorRT
fuses the sum with the convolution before it; the other branch decides the fusion's output, int8 if it is rounded; a
Q/DQ pair between that convolution and the sum keeps them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from .finding import Applied
from .layers import LAYERS
from .quantizers import FACTORS, QdqGraph, Quantizer

WORD = "residual_qdq"


@dataclass(frozen=True)
class Branch:
    """One input of a sum.

    Args:
        place: position among the sum's inputs.
        form: "rounded" (a DequantizeLinear gives it), "layer" (an int8 layer gives it to this sum alone) or "float".
        twin: the DequantizeLinear that holds the same tensor elsewhere in the graph, of a float or layer branch.
    """

    place: int
    form: str
    twin: Quantizer | None = None


def residual_qdq(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[Applied, ...]]:
    """A copy in which sums read the rounded form of a branch, where the graph rounds that very tensor elsewhere."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph, done = QdqGraph(changed), []
    for node in residual_sums(graph):
        branch = missing(branches(graph, node))
        if branch is not None and branch.twin is not None and node.output[0] in graph.main:
            _move_before(changed.graph, graph, branch.twin, node)
            node.input[branch.place] = branch.twin.node.output[0]
            done.append(node.name)
    return changed, (Applied(WORD, tuple(done), "changed"),) if done else ()


def residual_sums(graph: QdqGraph) -> Iterator[onnx.NodeProto]:
    """Sums of two computed tensors, one of them from an int8 layer or rounded."""
    for node in graph.nodes:
        if node.op_type != "Add" or any(name in graph.held for name in node.input):
            continue
        if any(branch.form != "float" for branch in branches(graph, node)):
            yield node


def branches(graph: QdqGraph, node: onnx.NodeProto) -> tuple[Branch, ...]:
    """Both inputs of a sum."""
    return tuple(_branch(graph, name, place) for place, name in enumerate(node.input))


def missing(found: tuple[Branch, ...]) -> Branch | None:
    """The branch that should be rounded and is not; None where the sum is right."""
    if any(branch.form == "rounded" for branch in found):
        return next((branch for branch in found if branch.form == "float"), None)
    wanted = [branch for branch in found if branch.form == "float"] or list(found)
    return next((branch for branch in wanted if branch.twin is not None), wanted[0])


def is_quantized(graph: QdqGraph, node: onnx.NodeProto) -> bool:
    """Whether a layer multiplies what DequantizeLinear nodes give: it is computed in 8 bits."""
    return node.op_type in LAYERS and all(graph.restored(node.input[place]) is not None for place in FACTORS)


def keeps_apart(graph: QdqGraph, node: onnx.NodeProto) -> bool:
    """Whether both branches are rounded, and one of them is an int8 layer's output that nothing else reads."""
    for name in node.input:
        restore = graph.restored(name)
        pair = graph.pair_of(restore) if restore is not None else None
        made = graph.made_by.get(pair.node.input[0]) if pair is not None else None
        if made is None or pair is None or not is_quantized(graph, made):
            continue
        chain = (made.output[0], pair.node.output[0], name)
        if all(len(graph.readers.get(each, [])) == 1 for each in chain):
            return all(branch.form == "rounded" for branch in branches(graph, node))
    return False


def _branch(graph: QdqGraph, name: str, place: int) -> Branch:
    if graph.restored(name) is not None:
        return Branch(place, "rounded")
    made, twin = graph.made_by.get(name), _twin(graph, name)
    alone = len(graph.readers.get(name, [])) == 1 and name not in graph.outputs
    is_layer = made is not None and is_quantized(graph, made) and alone
    return Branch(place, "layer" if is_layer else "float", twin)


def _twin(graph: QdqGraph, name: str) -> Quantizer | None:
    for node, place in graph.readers.get(name, []):
        found = graph.quantizers.get(node.output[0]) if place == 0 else None
        restores = graph.restores_of(found) if found is not None and found.quantizes else None
        if restores and node.output[0] in graph.main and restores[0].node.output[0] in graph.main:
            return restores[0]
    return None


def _move_before(raw: onnx.GraphProto, graph: QdqGraph, restore: Quantizer, node: onnx.NodeProto) -> None:
    """A graph lists nodes before those that read them; the pair may stand behind the sum."""
    pair = graph.pair_of(restore)
    assert pair is not None
    for each in (pair.node, restore.node):
        order = [other.output[0] for other in raw.node]
        here, there = order.index(each.output[0]), order.index(node.output[0])
        if here > there:
            moved = onnx.NodeProto()
            moved.CopyFrom(each)
            del raw.node[here]
            raw.node.insert(there, moved)
